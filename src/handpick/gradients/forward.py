"""What a model is made of, and another forward or evaluation mode for a while."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


def causal_of(model: nn.Module) -> Any:
    """The causal language model itself: peft's wrapper takes any arguments and hides what it wraps."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]


def decoder_of(causal: Any) -> nn.Module | None:
    """What stands below a causal language model's head; None where that is no module by itself."""
    return getattr(causal, getattr(causal, "base_model_prefix", None) or "", None)


def takes_positions(module: nn.Module) -> bool:
    """Whether a model is told where its tokens stand."""
    return "position_ids" in inspect.signature(module.forward).parameters


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
