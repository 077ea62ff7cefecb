"""Another forward for a module, or evaluation mode for a model, for a while."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


@contextmanager
def forward_is(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """While open, calls of ``module`` run ``forward``; afterwards what it had before."""
    own = vars(module).get("forward")
    module.forward = forward
    try:
        yield
    finally:
        if own is None:
            del module.forward  # the class's own is seen again
        else:
            module.forward = own


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """While open, dropout is off; afterwards every module's mode is what it was."""
    was_training = {name for name, module in model.named_modules() if module.training}
    model.eval()
    try:
        yield
    finally:
        for name, module in model.named_modules():
            module.training = name in was_training
