"""From a batch of sequences to one projected gradient row per sequence.

The loss of a sequence is a weighted sum of the negative log-likelihoods of its labelled tokens; what a token weighs is
the objective's to say. No logits are made at other positions, and never all at once.

Legend: B sequences, T positions, H hidden size, M labelled positions of the whole batch, C of them in a chunk,
V vocabulary, O outputs and I inputs of a layer, P coordinates of a layer, K projected dimensions.
"""

from collections.abc import Iterator
from dataclasses import fields
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from handpick.data.batching import Batch
from handpick.data.render import IGNORED
from handpick.errors import ModelError
from handpick.gradients.adam import AdamPreconditioner
from handpick.gradients.experts import adapted_experts
from handpick.gradients.forward import causal_of, decoder_of, replace_forward, takes_positions
from handpick.gradients.kernels import fast_exact_float32
from handpick.gradients.layers import Layer, trainable_layers
from handpick.gradients.per_example import capture
from handpick.gradients.projection import Projection
from handpick.gradients.recompute import blocks_of, recompute_in_backward

# Numbers that are worked on at a time, so that they stay in a CPU's cache: of a layer's gradients a thread, and of
# logits. Blocks of gradients begin where runs of the default projection do, which are then not cut up.
_CPU_BLOCK = 1 << 17
_RUN = 1 << 13
_CPU_LOGITS = 1 << 22
_GPU_LOGITS = 1 << 27


class _LabelledPositions(NamedTuple):
    """Positions that predict a labelled token: the sequence each is of (on the CPU), its place, the token."""

    row: Tensor
    position: Tensor
    target: Tensor


class GradientEngine:
    """Per-sequence gradients of one model.

    Args:
        model: a causal language model with a LoRA adapter, its adapter weights trainable and nothing else.
        recompute: make a block's activations again in the backward pass (gradient checkpointing): slower, and of all
            blocks' activations one block's are held.

    Raises:
        ModelError: something trainable is not supported (see ``trainable_layers``), or the model's decoder, its
            language-model head or, to recompute them, its blocks are not to be found.
    """

    def __init__(self, model: nn.Module, *, recompute: bool = False) -> None:
        self.model = model
        self.layers = trainable_layers(model)
        self.n_coordinates = sum(layer.size for layer in self.layers)
        self.experts = adapted_experts(model, self.layers)
        head = model.get_output_embeddings()  # type: ignore[operator]
        if head is None or any(layer.module in set(head.modules()) for layer in self.layers):
            raise ModelError("the model has no language-model head of its own, or the adapter stands on it")
        self._head, self._causal = head, causal_of(model)
        decoder = decoder_of(self._causal)
        if decoder is None or any(module is head for module in decoder.modules()):
            raise ModelError(f"{type(self._causal).__name__} has no decoder apart from its language-model head")
        inside = set(decoder.modules())
        if outside := [layer.name for layer in self.layers if layer.module not in inside]:
            raise ModelError(f"{outside[0]} stands in the language-model head: leave it out of the adapter")
        self._decoder = decoder
        self.blocks = blocks_of(decoder, self.layers)
        self.recompute = recompute
        if recompute and not self.blocks:
            raise ModelError(
                f"{type(decoder).__name__} has no list of blocks that holds the whole adapter: leave gradient "
                "checkpointing off"
            )
        self._takes_positions = takes_positions(self._causal)

    @property
    def alone(self) -> str | None:
        """Say why each sequence is computed alone, whatever the batch; None where a batch is computed at once."""
        layer = self.experts.alone
        return None if layer is None else f"one example at a time, for experts that are not known ({layer})"

    @property
    def passed_back(self) -> int:
        """How many of the blocks a backward pass goes through: those from the first that carries a gradient."""
        modules = {layer.module for layer in self.layers}
        first = next((n for n, block in enumerate(self.blocks) if modules & set(block.modules())), 0)
        return len(self.blocks) - first

    @property
    def way_back(self) -> float:
        """The share of the decoder that a backward pass goes through, by its blocks."""
        return self.passed_back / len(self.blocks) if self.blocks else 1.0

    @property
    def hidden_size(self) -> int:
        """H."""
        return int(self._head.weight.shape[1])

    @property
    def n_positions(self) -> int | None:
        """Tokens that the model was made for, at most; None where its configuration has no such number."""
        limit = getattr(self._causal.config.get_text_config(), "max_position_embeddings", None)
        return None if limit is None else int(limit)

    @property
    def _vocab(self) -> int:
        return int(self._head.weight.shape[0])

    @property
    def chunk_logits(self) -> int:
        """C·V, the logits that are held at a time."""
        on_cpu = next(self.model.parameters()).device.type == "cpu"
        return max(1, (_CPU_LOGITS if on_cpu else _GPU_LOGITS) // self._vocab) * self._vocab

    def features(
        self, batch: Batch, weight_B: Tensor, project: Projection, precondition: AdamPreconditioner | None = None
    ) -> Tensor:
        """Compute one row per sequence, (B, K): P·Γ(g) with a preconditioner, P·g without.

        float32 (float64 for such a model).

        Nothing in here waits for the device: on a GPU the rows may still be under way.

        Args:
            batch: on the CPU.
            weight_B: what each labelled token of a sequence weighs in its loss, on the CPU.
            project: of ``n_coordinates`` coordinates.
            precondition: Adam's state at this checkpoint, for the pool's side of LESS.

        Raises:
            ModelError: as ``capture``.
        """
        if self.alone and len(batch.input_ids_BT) > 1:
            alone = [self.features(*one, project, precondition) for one in _each(batch, weight_B)]
            return torch.cat(alone)
        device = next(self.model.parameters()).device
        n, n_positions = batch.input_ids_BT.shape
        sums: list[Tensor] = []

        def receive(layer: Layer, grad_BOI: Tensor) -> None:
            grad_BP = grad_BOI.flatten(1)
            wide = torch.promote_types(grad_BP.dtype, torch.float32)
            if not sums:
                sums.append(project.begin(n, like=grad_BP.new_empty((), dtype=wide)))
            step = layer.size
            if device.type == "cpu":
                step = max(1, torch.get_num_threads() * _CPU_BLOCK // (n * _RUN)) * _RUN
            for start in range(0, layer.size, step):
                rows_BP = grad_BP[:, start : start + step].to(wide)
                if precondition is not None:
                    rows_BP = precondition(layer.name, rows_BP, start)
                project.add(sums[0], rows_BP, layer.offset + start)

        inputs, at_M = self._to_device(batch)
        weight_M = weight_B[at_M.row].to(device, non_blocking=True)
        with (
            fast_exact_float32(),
            capture(self.model, self.layers, (n, n_positions), receive, self.experts) as forward_is_done,
            recompute_in_backward(self.blocks if self.recompute else []),
        ):
            hidden_BTH, output = self._decode(inputs)
            forward_is_done()
            hidden_MH = hidden_BTH.flatten(0, 1).index_select(0, at_M.position)
            hidden_MH.backward(self._head_gradient(output, hidden_MH.detach(), at_M.target, weight_M))
        return project.finish(sums[0])

    def _to_device(self, batch: Batch) -> tuple[dict[str, Tensor], "_LabelledPositions"]:
        """Send a batch's inputs and its labelled positions on their way to the device.

        What depends on values is worked out before anything is sent, so that no step waits for the device.
        """
        device = next(self.model.parameters()).device

        def move(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=True)

        target_BT = batch.targets_BT
        position_M = (target_BT != IGNORED).flatten().nonzero()[:, 0]
        inputs = {"input_ids": move(batch.input_ids_BT)}
        if batch.is_padded_left:  # else padding comes after all that counts, and a causal model never looks there
            inputs["attention_mask"] = move(batch.attention_mask_BT)
            if self._takes_positions:
                inputs["position_ids"] = move(batch.position_ids_BT)
        row_M = position_M // target_BT.shape[1]
        return inputs, _LabelledPositions(row_M, move(position_M), move(target_BT.flatten()[position_M]))

    def _decode(self, inputs: dict[str, Tensor]) -> tuple[Tensor, Any]:
        """Compute the last hidden states (B, T, H), and the decoder's output that they came in."""
        decode = self._decoder.forward
        kept: list[Any] = []

        def keep(*args: Any, **kwargs: Any) -> Any:
            kept.append(decode(*args, **kwargs))
            # the head runs on no position at all: its logits are not used
            return type(kept[0])(last_hidden_state=kept[0].last_hidden_state[:1, :0])

        with replace_forward(self._decoder, keep):
            self.model(**inputs, use_cache=False)
        return kept[0].last_hidden_state, type(kept[0])

    def _logits(self, output: Any, hidden_CH: Tensor) -> Tensor:
        """Compute logits (1, C, V) by the model's own forward, with its decoder held to these hidden states.

        So whatever the model does to them (soft-capping, scaling) is in the gradient.
        """
        held = output(last_hidden_state=hidden_CH[None])
        no_tokens = torch.zeros(1, 1, dtype=torch.int64, device=hidden_CH.device)
        with replace_forward(self._decoder, lambda *_args, **_kwargs: held):
            # not called as a module: it is no pass through the model, whose hooks may count those (sharded_model.py)
            logits_1CV: Tensor = self._causal.forward(input_ids=no_tokens, use_cache=False).logits
        return logits_1CV

    def _head_gradient(self, output: Any, hidden_MH: Tensor, target_M: Tensor, weight_M: Tensor) -> Tensor:
        """Compute the gradient of Σ weight · nll at the hidden states, (M, H), some positions at a time."""
        grad_MH = torch.empty_like(hidden_MH)
        n_chunk = self.chunk_logits // self._vocab
        for start in range(0, len(hidden_MH), n_chunk):
            chunk = slice(start, start + n_chunk)
            hidden_CH = hidden_MH[chunk].requires_grad_()
            logits_1CV = self._logits(output, hidden_CH)
            with torch.no_grad():  # the softmax less one at the target
                wide = torch.promote_types(logits_1CV.dtype, torch.float32)
                d_logits_CV = torch.softmax(logits_1CV[0], dim=-1, dtype=wide)
                less_one_C1 = d_logits_CV.new_full((len(hidden_CH), 1), -1.0)
                d_logits_CV.scatter_add_(1, target_M[chunk, None], less_one_C1)
                d_logits_CV *= weight_M[chunk, None].to(wide)
            (grad_MH[chunk],) = torch.autograd.grad(logits_1CV, hidden_CH, d_logits_CV[None].to(logits_1CV.dtype))
        return grad_MH


def _each(batch: Batch, weight_B: Tensor) -> Iterator[tuple[Batch, Tensor]]:
    """Yield a batch's sequences as batches of one, without their padding, and what their tokens weigh."""
    for row, mask_T in enumerate(batch.attention_mask_BT):
        real = mask_T.nonzero()[:, 0]
        alone = Batch(*(getattr(batch, field.name)[row : row + 1, real] for field in fields(Batch)))
        yield alone, weight_B[row : row + 1]
