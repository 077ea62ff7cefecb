"""Activations of a block made again in the backward pass instead of kept (gradient checkpointing).

Rows are the same bit for bit; the forward pass of every block is paid twice.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint

from handpick.gradients.forward import replace_forward
from handpick.gradients.layers import Layer


def blocks_of(decoder: nn.Module, layers: Sequence[Layer]) -> list[nn.Module]:
    """Return the decoder's blocks: its first list of modules that holds every trainable layer.

    Empty where there is none.
    """
    for module in decoder.modules():
        if isinstance(module, nn.ModuleList):
            inside = set(module.modules())
            if all(layer.module in inside for layer in layers):
                return list(module)
    return []


@contextmanager
def recompute_in_backward(blocks: Sequence[nn.Module]) -> Iterator[None]:
    """Let these modules keep their inputs alone while open, and run again in the backward pass."""
    with ExitStack() as stack:
        for block in blocks:
            stack.enter_context(replace_forward(block, partial(checkpoint, block.forward, use_reentrant=False)))
        yield
