"""The gradient of every example of a batch, from one forward and one backward pass.

For a linear layer y = x Wᵀ the gradient of example b is Σ_t dy[b, t] x[b, t]ᵀ, and both factors are at hand
in the backward pass. While the capture is open each trainable layer hands that product on and forms no weight
gradient of its own; frozen layers never have one.

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


@contextmanager
def capture(model: nn.Module, layers: Sequence[Layer], n_examples: int, receive: Receive) -> Iterator[None]:
    """Let a backward pass through ``model``, while open, call ``receive(layer, grad_BOI)`` once per layer.

    Dropout is off inside, and the model's mode is put back afterwards.

    Args:
        model: the module whose forward the caller runs.
        layers: its trainable layers.
        n_examples: B, the rows of the batch.
        receive: takes the layer and its per-example gradients, in the layer's dtype.

    Raises:
        ModelError: a layer sees its batch in another shape than (B, T, I), as a routed expert does; or runs
            twice, or not at all, in a forward pass.
    """
    received: set[str] = set()
    # Makes every layer's output require grad, also where its input does not: autograd then stops at the
    # first trainable layer.
    anchor = torch.zeros((), requires_grad=True)

    def forward_of(layer: Layer) -> Callable[[Tensor], Tensor]:
        weight_OI = layer.module.weight.detach()

        def take(grad_BOI: Tensor) -> None:
            if layer.name in received:
                raise ModelError(f"{layer.name} runs more than once in a forward pass; leave it out of the adapter")
            received.add(layer.name)
            receive(layer, grad_BOI)

        def forward(x_BTI: Tensor) -> Tensor:
            if x_BTI.ndim != 3 or x_BTI.shape[0] != n_examples:
                raise ModelError(
                    f"{layer.name} gets its input as {tuple(x_BTI.shape)}, not one row an example (a routed expert?); "
                    "leave it out of the adapter"
                )
            captured: Tensor = _CapturedLinear.apply(x_BTI, anchor, weight_OI, take)  # type: ignore[no-untyped-call]
            return captured

        return forward

    with eval_mode(model), ExitStack() as forwards:
        for layer in layers:
            forwards.enter_context(replace_forward(layer.module, forward_of(layer)))
        yield
        if len(received) != len(layers):
            missed = next(layer.name for layer in layers if layer.name not in received)
            raise ModelError(f"no gradient reached {missed}: the model does not use it; leave it out of the adapter")
