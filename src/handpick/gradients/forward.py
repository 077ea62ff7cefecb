"""What a model is made of, and another forward or evaluation mode for a while."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


def causal_of(model: nn.Module) -> Any:
    """Return the causal language model itself: peft's wrapper takes any arguments and hides what it wraps."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]


def decoder_of(causal: Any) -> nn.Module | None:
    """Return what stands below a causal language model's head; None where that is no module by itself."""
    return getattr(causal, getattr(causal, "base_model_prefix", None) or "", None)


def takes_positions(module: nn.Module) -> bool:
    """Return whether a model is told where its tokens stand."""
    return "position_ids" in inspect.signature(module.forward).parameters


@contextmanager
def replace_forward(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Run ``forward`` for calls of ``module`` while open, and what it had before afterwards."""
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
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Turn dropout off while open; afterwards every module's mode is what it was."""
    was_training = {name for name, module in model.named_modules() if module.training}
    model.eval()
    try:
        yield
    finally:
        for name, module in model.named_modules():
            module.training = name in was_training
