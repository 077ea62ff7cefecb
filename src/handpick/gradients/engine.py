"""From a batch of sequences to one projected gradient row an example.

Legend: B examples, T positions, H hidden size, M labelled positions of the whole batch, V vocabulary,
O outputs and I inputs of a layer, K projected dimensions.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from handpick.data.batching import Batch
from handpick.data.render import IGNORED
from handpick.errors import ModelError
from handpick.gradients.adam import AdamPreconditioner
from handpick.gradients.layers import Layer, trainable_layers
from handpick.gradients.per_example import capture
from handpick.gradients.projection import Projection

Loss = Callable[[Tensor, Tensor, Tensor, int], Tensor]


class GradientEngine:
    """Per-example gradients of one model under one loss.

    Args:
        model: a causal language model with a LoRA adapter, its adapter weights trainable and nothing else.
        loss: ``(logits_MV, targets_M, example_M, n_examples) -> losses_B``, each a function of its example alone.

    Raises:
        ModelError: something trainable is not supported (see ``trainable_layers``), or the model's language-model
            head is not to be found.
    """

    def __init__(self, model: nn.Module, loss: Loss) -> None:
        self.model = model
        self.loss = loss
        self.layers = trainable_layers(model)
        self.n_coordinates = sum(layer.size for layer in self.layers)
        head = model.get_output_embeddings()  # type: ignore[operator]
        if head is None or any(layer.module in set(head.modules()) for layer in self.layers):
            raise ModelError("the model has no language-model head of its own, or the adapter stands on it")
        self._head: nn.Module = head
        # peft's wrapper takes anything; the arguments are the wrapped model's.
        base = model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]
        self._takes_positions = "position_ids" in inspect.signature(base.forward).parameters

    def features(self, batch: Batch, project: Projection, precondition: AdamPreconditioner | None = None) -> Tensor:
        """One row an example, (B, K): P·Γ(g) with a preconditioner, P·g without; float32 (float64 for such a model).

        Raises:
            ModelError: as ``capture``.
        """
        device = next(self.model.parameters()).device
        n_examples = len(batch.input_ids_BT)
        sums: list[Tensor] = []

        def receive(layer: Layer, grad_BOI: Tensor) -> None:
            grad_BOI = grad_BOI.to(torch.promote_types(grad_BOI.dtype, torch.float32))
            if precondition is not None:
                grad_BOI = precondition(layer.name, grad_BOI)
            if not sums:
                sums.append(project.begin(n_examples, like=grad_BOI))
            project.add(sums[0], grad_BOI.flatten(1), layer.offset)

        target_BT = torch.full_like(batch.labels_BT, IGNORED)
        # position t predicts token t + 1; nothing predicts a sequence's first token, least of all padding before it
        target_BT[:, :-1] = batch.labels_BT.masked_fill(batch.position_ids_BT == 0, IGNORED)[:, 1:]
        target_BT = target_BT.to(device)
        labelled_BT = target_BT != IGNORED
        inputs = {"input_ids": batch.input_ids_BT.to(device), "attention_mask": batch.attention_mask_BT.to(device)}
        if self._takes_positions:
            inputs["position_ids"] = batch.position_ids_BT.to(device)
        with capture(self.model, self.layers, n_examples, receive), self._head_only_at(labelled_BT):
            logits_MV = self.model(**inputs, use_cache=False).logits[0]
            example_M = labelled_BT.nonzero()[:, 0]
            losses_B = self.loss(logits_MV, target_BT[labelled_BT], example_M, n_examples)
            losses_B.sum().backward()
        return project.finish(sums[0])

    @contextmanager
    def _head_only_at(self, labelled_BT: Tensor) -> Iterator[None]:
        """While open, the language-model head sees the labelled positions alone, as one row (1, M, H).

        Whatever a model does to its logits afterwards (soft-capping, scaling) is element-wise and goes on as it was.
        """

        def gather(_module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return (args[0][labelled_BT][None], *args[1:])

        handle = self._head.register_forward_pre_hook(gather)
        try:
            yield
        finally:
            handle.remove()
