"""The gradient of every example of a batch, from one forward and one backward pass.

For a linear layer y = x Wᵀ the gradient of example b is Σ_t dy[b, t] x[b, t]ᵀ, and both factors are at hand
in the backward pass. While the capture is open each trainable layer hands that product on and forms no weight
gradient of its own; frozen layers never have one. The gradient of a layer that runs several times is the sum over its
runs.

Legend: B examples, T positions, I inputs, O outputs of a layer.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from handpick.errors import ModelError
from handpick.gradients.experts import NO_EXPERTS, AdaptedExperts, KnownExperts, autograds_own
from handpick.gradients.forward import eval_mode, replace_forward
from handpick.gradients.layers import Layer

Receive = Callable[[Layer, Tensor], None]


class _CapturedLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x_BTI: Tensor, anchor: Tensor, weight_OI: Tensor, receive: Callable[[Tensor], None]
    ) -> Tensor:
        ctx.save_for_backward(x_BTI, weight_OI)
        ctx.receive = receive
        return nn.functional.linear(x_BTI, weight_OI)

    @staticmethod
    def backward(ctx: Any, dy_BTO: Tensor) -> tuple[Tensor | None, None, None, None]:
        x_BTI, weight_OI = ctx.saved_tensors
        ctx.receive(torch.bmm(dy_BTO.transpose(1, 2), x_BTI))
        return (dy_BTO @ weight_OI if ctx.needs_input_grad[0] else None), None, None, None


def rows_by_example(x: Tensor, n_examples: int, n_positions: int) -> Tensor | None:
    """View a layer's input as one block of rows an example, (B, T, I); None where its rows cannot be told apart.

    They can where the first dimension is the example, whatever lies between it and the last (heads, groups, chunks), or
    where all positions of all examples stand in one, an example's behind one another. Of a single example all rows are.

    Args:
        x: (…, I).
        n_examples: B, the rows of the batch.
        n_positions: the padded tokens of each.
    """
    if n_examples == 1:
        return x.reshape(1, -1, x.shape[-1])
    if x.ndim == 3 and x.shape[0] == n_examples:
        return x
    is_flat = x.ndim == 2 and x.shape[0] == n_examples * n_positions
    if is_flat or (x.ndim > 3 and x.shape[0] == n_examples):
        return x.reshape(n_examples, -1, x.shape[-1])
    return None


class _Sum:
    """What has come of a layer's gradient, and how many of its runs are still to give theirs."""

    def __init__(self) -> None:
        self.runs = 0
        self.grad_BOI: Tensor | None = None
        self.is_whole = False

    def add(self, grad_BOI: Tensor) -> Tensor | None:
        """Add a run's gradient; return the sum where it is the last's."""
        self.runs -= 1
        if self.grad_BOI is not None:
            grad_BOI = self.grad_BOI.add_(grad_BOI)
        self.is_whole = self.runs == 0
        self.grad_BOI = None if self.is_whole else grad_BOI
        return grad_BOI if self.is_whole else None


class _Capture:
    """The forward passes that layers have while their gradients are captured, and what has come of them."""

    def __init__(self, layers: Sequence[Layer], shape_BT: tuple[int, int], receive: Receive) -> None:
        self.shape_BT = shape_BT
        self._receive = receive
        self._sums = {layer.name: _Sum() for layer in layers}
        self._is_counting = True
        # Makes every layer's output require grad, also where its input does not: autograd then stops at the
        # first trainable layer.
        self._anchor = torch.zeros((), requires_grad=True)

    def stop_counting(self) -> None:
        self._is_counting = False

    def count_run(self, layer: Layer) -> None:
        self._sums[layer.name].runs += self._is_counting

    def take(self, layer: Layer, grad_BOI: Tensor) -> None:
        """Add the gradients of one of a layer's runs, and hand them on with its last."""
        whole_BOI = self._sums[layer.name].add(grad_BOI)
        if whole_BOI is not None:
            self._receive(layer, whole_BOI)

    def linear(self, layer: Layer) -> Callable[[Tensor], Tensor]:
        """Return a linear layer's forward."""
        weight_OI = layer.module.weight.detach()

        def forward(x: Tensor) -> Tensor:
            x_BTI = rows_by_example(x, *self.shape_BT)
            if x_BTI is None:
                raise ModelError(
                    f"{layer.name} gets its input as {tuple(x.shape)}, in which the {self.shape_BT[0]} examples of a "
                    "batch cannot be told apart (a routed expert?); leave it out of the adapter, or take each example "
                    "alone with --batch-tokens 1"
                )
            self.count_run(layer)
            out_BTO: Tensor = _CapturedLinear.apply(  # type: ignore[no-untyped-call]
                x_BTI, self._anchor, weight_OI, partial(self.take, layer)
            )
            return out_BTO if x_BTI is x else out_BTO.reshape(*x.shape[:-1], out_BTO.shape[-1])

        return forward

    def experts(self, fused: KnownExperts) -> Callable[..., Tensor]:
        """Return the forward of fused experts."""
        run = fused.forward_for(self.shape_BT, self.take)

        def forward(*args: Any, **kwargs: Any) -> Tensor:
            for layer in fused.layers:
                self.count_run(layer)
            return run(*args, **kwargs)

        return forward

    def finish(self, layer: Layer, *, may_be_unmet: bool) -> None:
        """Hand on what a backward pass has left undone.

        Raises:
            ModelError: nothing came of the layer, which is no expert.
        """
        of_layer = self._sums[layer.name]
        if of_layer.grad_BOI is not None:  # of a run that the loss does not depend on nothing comes
            self._receive(layer, of_layer.grad_BOI)
        elif not of_layer.is_whole and may_be_unmet:
            self._receive(layer, torch.zeros_like(layer.module.weight).expand(self.shape_BT[0], -1, -1))
        elif not of_layer.is_whole:
            raise ModelError(
                f"no gradient reached {layer.name}: the model does not use it; leave it out of the adapter"
            )


@contextmanager
def capture(
    model: nn.Module,
    layers: Sequence[Layer],
    shape_BT: tuple[int, int],
    receive: Receive,
    experts: AdaptedExperts = NO_EXPERTS,
) -> Iterator[Callable[[], None]]:
    """Let a backward pass through ``model``, while open, call ``receive(layer, grad_BOI)`` once per layer.

    Dropout is off inside, and the model's mode is put back afterwards. It gives what the caller calls between the
    forward and the backward pass: a layer that runs again after that, to make its activations again, is not counted.

    Args:
        model: the module whose forward the caller runs.
        layers: its trainable layers.
        shape_BT: of the batch; of one example, where ``experts`` has one that needs it.
        receive: takes the layer and its per-example gradients, in the layer's dtype.
        experts: which of the layers are an expert's.

    Raises:
        ModelError: a layer sees its batch in a shape in which examples cannot be told apart, as a routed expert does;
            or does not run at all in a forward pass.
    """
    captured = _Capture(layers, shape_BT, receive)
    is_fused = {layer.name for fused in experts.fused for layer in fused.layers}
    is_bare = {layer.name for layer in experts.bare}
    is_listed = {layer.name for layer in experts.listed}
    with eval_mode(model), ExitStack() as stack:
        for fused in experts.fused:
            stack.enter_context(replace_forward(fused.wrapper, captured.experts(fused)))
        stack.enter_context(autograds_own(experts.bare, captured.take))
        for layer in layers:
            if layer.name in is_bare:
                captured.count_run(layer)
            elif layer.name not in is_fused:
                stack.enter_context(replace_forward(layer.module, captured.linear(layer)))
        yield captured.stop_counting
        for layer in layers:
            captured.finish(layer, may_be_unmet=layer.name in is_listed)
