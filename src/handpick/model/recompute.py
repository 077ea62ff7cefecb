"""Whether a model keeps what its layers computed, or makes it again in the backward pass.

transformers calls that activation checkpointing by 5.23, and gradient checkpointing in older releases. It warns of the
older name, and version 6 is to have it no more.
"""

from typing import Any

from torch import nn

_NEW, _OLD = "activation_checkpointing", "gradient_checkpointing"
_HOW = {"use_reentrant": False}


def recompute_activations(model: nn.Module) -> None:
    """Make activations again in the backward pass of a transformers model, with an adapter or without."""
    _method(model, "enable")(dict(_HOW))


def keep_activations(model: nn.Module) -> None:
    """Keep activations for the backward pass of a transformers model."""
    _method(model, "disable")()


def recompute_name(kind: type) -> str:
    """Return what the arguments of a Trainer call it: ``TrainingArguments``, or TRL's."""
    return _NEW if _NEW in vars(kind)["__dataclass_fields__"] else _OLD


def recompute_arguments(kind: type, recompute: bool) -> dict[str, Any]:
    """Return what tells a Trainer whether to make activations again.

    Args:
        kind: ``TrainingArguments``, or TRL's.
        recompute: make them again; TRL does where it is told nothing.
    """
    name = recompute_name(kind)
    return {name: recompute, f"{name}_kwargs": dict(_HOW) if recompute else None}


def _method(model: nn.Module, what: str) -> Any:
    return getattr(model, f"{_NEW}_{what}", None) or getattr(model, f"{_OLD}_{what}")
