"""The gradient of every example of a batch, from one forward and one backward pass.

For a linear layer y = x Wᵀ the gradient of example b is Σ_t dy[b, t] x[b, t]ᵀ, and both factors are at hand
in the backward pass. While the capture is open each trainable layer hands that product on and forms no weight
gradient of its own; frozen layers never have one. The gradient of a layer that runs several times is the sum over its
runs.

Legend: B examples, T positions, I inputs, O outputs of a layer.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from handpick.errors import ModelError
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


@contextmanager
def capture(
    model: nn.Module, layers: Sequence[Layer], shape_BT: tuple[int, int], receive: Receive
) -> Iterator[Callable[[], None]]:
    """Let a backward pass through ``model``, while open, call ``receive(layer, grad_BOI)`` once per layer.

    Dropout is off inside, and the model's mode is put back afterwards. It gives what the caller calls between the
    forward and the backward pass: a layer that runs again after that, to make its activations again, is not counted.

    Args:
        model: the module whose forward the caller runs.
        layers: its trainable layers.
        shape_BT: of the batch.
        receive: takes the layer and its per-example gradients, in the layer's dtype.

    Raises:
        ModelError: a layer sees its batch in a shape in which examples cannot be told apart, as a routed expert does;
            or does not run at all in a forward pass.
    """
    n_examples, n_positions = shape_BT
    sums = {layer.name: _Sum() for layer in layers}
    is_counting = True
    # Makes every layer's output require grad, also where its input does not: autograd then stops at the
    # first trainable layer.
    anchor = torch.zeros((), requires_grad=True)

    def stop_counting() -> None:
        nonlocal is_counting
        is_counting = False

    def forward_of(layer: Layer) -> Callable[[Tensor], Tensor]:
        weight_OI, of_layer = layer.module.weight.detach(), sums[layer.name]

        def take(grad_BOI: Tensor) -> None:
            whole_BOI = of_layer.add(grad_BOI)
            if whole_BOI is not None:
                receive(layer, whole_BOI)

        def forward(x: Tensor) -> Tensor:
            x_BTI = rows_by_example(x, n_examples, n_positions)
            if x_BTI is None:
                raise ModelError(
                    f"{layer.name} gets its input as {tuple(x.shape)}, in which the {n_examples} examples of a batch "
                    "cannot be told apart (a routed expert?); leave it out of the adapter, or take each example alone "
                    "with --batch-tokens 1"
                )
            of_layer.runs += is_counting
            out_BTO: Tensor = _CapturedLinear.apply(x_BTI, anchor, weight_OI, take)  # type: ignore[no-untyped-call]
            return out_BTO if x_BTI is x else out_BTO.reshape(*x.shape[:-1], out_BTO.shape[-1])

        return forward

    with eval_mode(model), ExitStack() as forwards:
        for layer in layers:
            forwards.enter_context(replace_forward(layer.module, forward_of(layer)))
        yield stop_counting
        for layer in layers:
            of_layer = sums[layer.name]
            if of_layer.grad_BOI is not None:  # of a run that the loss does not depend on nothing comes
                receive(layer, of_layer.grad_BOI)
            elif not of_layer.is_whole:
                raise ModelError(
                    f"no gradient reached {layer.name}: the model does not use it; leave it out of the adapter"
                )
