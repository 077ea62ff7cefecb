"""How likely a model finds the labelled tokens of a batch, without any gradient.

The decoder runs once per batch, and the head at the positions that predict a labelled token alone: logits of all
positions would be most of the time and memory.

Legend: B sequences, T positions, N of the whole batch, M of those that predict a labelled token, C of them in a chunk,
H hidden size, V vocabulary.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from handpick.data.batching import Batch
from handpick.data.render import IGNORED
from handpick.errors import ModelError
from handpick.gradients.forward import causal_of, decoder_of, eval_mode, replace_forward, takes_positions
from handpick.gradients.kernels import fast_exact_float32

# Logits that are made at a time: few enough to stay in a CPU's cache.
_CPU_LOGITS = 1 << 22
_GPU_LOGITS = 1 << 27


@torch.no_grad()
def log_likelihoods(model: nn.Module, batch: Batch) -> Tensor:
    """Compute log π(labelled tokens | what stands before them), summed over each sequence; float64 (B,), on the CPU.

    Args:
        model: a causal language model, with an adapter or without.
        batch: on the CPU, padded on either side.

    Raises:
        ModelError: the model has no decoder apart from its head.
    """
    causal = causal_of(model)
    decoder = _decoder(causal)
    device = next(model.parameters()).device
    target_N = batch.targets_BT.flatten()
    position_M = (target_N != IGNORED).nonzero()[:, 0]
    row_M = position_M // batch.input_ids_BT.shape[1]
    target_M = target_N[position_M].to(device)
    log_M = torch.empty(len(position_M), dtype=torch.float64, device=device)
    no_tokens = torch.zeros(1, 1, dtype=torch.int64, device=device)
    n_vocab = causal.get_output_embeddings().weight.shape[0]
    step = max(1, (_CPU_LOGITS if device.type == "cpu" else _GPU_LOGITS) // n_vocab)
    with fast_exact_float32(), eval_mode(model):
        output = decoder(**_inputs(batch, decoder, device), use_cache=False)
        hidden_MH = output.last_hidden_state.flatten(0, 1)[position_M.to(device)]
        for start in range(0, len(position_M), step):
            chunk = slice(start, start + step)
            held = type(output)(last_hidden_state=hidden_MH[None, chunk])
            # the model's own forward, so that whatever it does to logits (soft-capping, scaling) is done
            with replace_forward(decoder, lambda *_args, held=held, **_kwargs: held):
                logits_CV = causal(input_ids=no_tokens, use_cache=False).logits[0]
            wide = torch.promote_types(logits_CV.dtype, torch.float32)
            log_M[chunk] = -cross_entropy(logits_CV.to(wide), target_M[chunk], reduction="none").double()
    return torch.zeros(len(batch.input_ids_BT), dtype=torch.float64).index_add_(0, row_M, log_M.cpu())


def _decoder(causal: Any) -> nn.Module:
    head, decoder = causal.get_output_embeddings(), decoder_of(causal)
    if head is None or decoder is None or any(module is head for module in decoder.modules()):
        raise ModelError(f"{type(causal).__name__} has no decoder apart from a language-model head: no loss of it")
    return decoder


def _inputs(batch: Batch, decoder: nn.Module, device: torch.device) -> dict[str, Tensor]:
    """Return the decoder's inputs. Padding behind a sequence needs no mask: a causal model never looks there."""
    inputs = {"input_ids": batch.input_ids_BT.to(device)}
    if batch.is_padded_left:
        inputs["attention_mask"] = batch.attention_mask_BT.to(device)
        if takes_positions(decoder):
            inputs["position_ids"] = batch.position_ids_BT.to(device)
    return inputs
