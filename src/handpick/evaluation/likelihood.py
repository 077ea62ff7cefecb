"""How likely a model finds given answers: the log-probability of labelled tokens, many sequences at a time.

The labels come from data/render.py, as everywhere. The decoder runs once a batch, and the head at the positions that
predict a labelled token alone: logits of all positions would be most of the time and memory.

Legend: S sequences, B sequences of a batch, T positions, H hidden size, M positions of a batch that predict a labelled
token, C of them in a chunk, V vocabulary.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from handpick.data.batching import Batch, collate, token_batches
from handpick.data.render import IGNORED, Rendered
from handpick.errors import ModelError
from handpick.gradients.forward import causal_of, decoder_of, evaluating, forward_is, takes_positions
from handpick.gradients.kernels import fast_exact_float32

# Logits that are made at a time: few enough to stay in a CPU's cache.
_CPU_LOGITS = 1 << 22
_GPU_LOGITS = 1 << 27


class LogLikelihood(NamedTuple):
    """Of each sequence: log-probability (nats, float64) of its labelled tokens, summed, and how many they are."""

    sum_S: NDArray[np.float64]
    tokens_S: NDArray[np.int64]

    @property
    def mean_S(self) -> NDArray[np.float64]:
        """A token's, on average."""
        return self.sum_S / self.tokens_S


def log_likelihood(
    model: nn.Module, sequences: Sequence[Rendered], *, pad_id: int, batch_tokens: int,
    side: Literal["right", "left"] = "right", advance: Callable[[int], None] = lambda n: None,
) -> LogLikelihood:  # fmt: skip
    """log π(labelled tokens | what stands before them) of every sequence.

    Args:
        model: a causal language model, with an adapter or without.
        sequences: each with a labelled token behind its first.
        pad_id: fills batches up.
        batch_tokens: padded tokens of a batch, at most.
        side: where the padding goes; the result is the same.
        advance: told how many more sequences are done.

    Raises:
        ModelError: the model has no decoder apart from its head.
    """
    sum_S, tokens_S = np.empty(len(sequences)), np.empty(len(sequences), dtype=np.int64)
    for members in token_batches([len(s.input_ids) for s in sequences], batch_tokens):
        batch = collate([sequences[i] for i in members], pad_id, side)
        sum_S[members] = _summed(model, batch).numpy()
        tokens_S[members] = (batch.targets_BT != IGNORED).sum(1).numpy()
        advance(len(members))
    return LogLikelihood(sum_S, tokens_S)


@torch.no_grad()
def _summed(model: nn.Module, batch: Batch) -> Tensor:
    """log π of a batch's labelled tokens, summed over each sequence, float64 (B,), on the CPU."""
    causal = causal_of(model)
    decoder = _decoder(causal)
    device = next(model.parameters()).device
    target_N = batch.targets_BT.flatten()
    position_M = (target_N != IGNORED).nonzero()[:, 0]
    row_M = position_M // batch.input_ids_BT.shape[1]
    target_M = target_N[position_M].to(device)
    log_M = torch.empty(len(position_M), dtype=torch.float64, device=device)
    no_tokens = torch.zeros(1, 1, dtype=torch.int64, device=device)
    step = max(1, (_CPU_LOGITS if device.type == "cpu" else _GPU_LOGITS) // causal.config.get_text_config().vocab_size)
    with fast_exact_float32(), evaluating(model):
        output = decoder(**_inputs(batch, decoder, device), use_cache=False)
        hidden_MH = output.last_hidden_state.flatten(0, 1)[position_M.to(device)]
        for start in range(0, len(position_M), step):
            chunk = slice(start, start + step)
            held = type(output)(last_hidden_state=hidden_MH[None, chunk])
            # the model's own forward, so that whatever it does to logits (soft-capping, scaling) is done
            with forward_is(decoder, lambda *_args, held=held, **_kwargs: held):
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
    """Padding behind a sequence needs no mask: a causal model never looks there."""
    inputs = {"input_ids": batch.input_ids_BT.to(device)}
    if batch.is_padded_left:
        inputs["attention_mask"] = batch.attention_mask_BT.to(device)
        if takes_positions(decoder):
            inputs["position_ids"] = batch.position_ids_BT.to(device)
    return inputs
