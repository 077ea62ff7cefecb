"""What a model is made of, and another forward or evaluation mode for a while."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from weakref import WeakKeyDictionary, ref

import torch
from torch import Tensor, nn

from handpick.errors import ModelError, first_line


def causal_of(model: nn.Module) -> Any:
    """Return the causal language model itself: peft's wrapper takes any arguments and hides what it wraps."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]


_DECODERS: "WeakKeyDictionary[nn.Module, ref[nn.Module]]" = WeakKeyDictionary()  # found once for each model


def decoder_of(causal: nn.Module) -> nn.Module | None:
    """Return what a causal language model's head reads from; None where that is no module by itself.

    It is found by what a forward pass of one token calls, and not by a name: the outermost module that hands on last
    hidden states, and of several the last. A multimodal model's is the one that embeds its text.

    Raises:
        ModelError: the model cannot read a token.
    """
    known = _DECODERS.get(causal)
    if known is not None and (decoder := known()) is not None:
        return decoder
    called: list[nn.Module] = []  # in the order in which they end, so that what is inside another stands before it

    def note(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(getattr(output, "last_hidden_state", None), Tensor):
            called.append(module)

    one_token = torch.zeros(1, 1, dtype=torch.int64, device=next(causal.parameters()).device)
    with torch.no_grad(), eval_mode(causal), ExitStack() as hooks:
        for module in causal.modules():
            if module is not causal:
                hooks.callback(module.register_forward_hook(note).remove)
        try:
            causal(input_ids=one_token, use_cache=False)
        except Exception as error:  # whatever a model's own code raises
            raise ModelError(f"{type(causal).__name__} cannot read text by itself: {first_line(error)}") from error
    if not called:
        return None
    _DECODERS[causal] = ref(called[-1])
    return called[-1]


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
