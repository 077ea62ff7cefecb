"""What a trainer saved of its optimizer, and which parameter each state belongs to.

Nothing in the file is run: it is a pickle, of which tensors, numbers and strings are read (``weights_only``), mapped
from the disk, so that looking at the shapes of a large one costs little.
"""

import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from handpick.errors import ModelError
from handpick.gradients.layers import canonical_name

# the Trainer's name; and FSDP's, whose whole state accelerate saves
OPTIMIZER_FILES = ("optimizer.pt", "optimizer.bin")

State = Mapping[str, Any]
Shapes = Mapping[str, torch.Size]  # of parameters, by canonical name, in the model's order

# What wraps a model puts into the names of its parameters.
_WRAPPERS = re.compile(r"(^|\.)(?:module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)(?=\.)")


@dataclass(frozen=True, slots=True)
class SavedOptimizer:
    """An optimizer's state as PyTorch saves it: a state by key (a number, or a name), and groups of keys."""

    file: Path
    states: Mapping[Any, State]
    groups: Sequence[Mapping[str, Any]]

    @property
    def settings(self) -> list[Mapping[str, Any]]:
        """Return the groups that hold a parameter."""
        return [group for group in self.groups if group["params"]]


class LowBit(Tensor):
    """Stand for a state of torchao's in the pickle: codes, and what each code and each block of them is worth."""

    codes: Tensor
    scale: Tensor

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        """Refuse to compute: what a state is worth is worked out of its parts."""
        raise NotImplementedError(f"{func} of a low-bit state")


class EightBit(LowBit):
    """Codes are places in a table ``qmap``."""


class Float8(LowBit):
    """Codes are small floats."""


class FourBit(LowBit):
    """Codes are pairs of places."""


# torchao's classes, in both places that they have stood
_STAND_INS = [
    (kind, f"torchao.{place}.{name}")
    for place in ("optim", "prototype.low_bit_optim")
    for kind, name in (
        (EightBit, "subclass_8bit.OptimState8bit"),
        (Float8, "subclass_fp8.OptimStateFp8"),
        (FourBit, "subclass_4bit.OptimState4bit"),
    )
]


def read_optimizer(file: Path) -> SavedOptimizer:
    """Read an optimizer's state, its tensors mapped from the disk.

    Raises:
        ModelError: the file is damaged, or a pickle of more than tensors; the message says of what.
    """
    try:
        with torch.serialization.safe_globals(_STAND_INS):  # type: ignore[arg-type]  # a class and its name
            saved: dict[str, Any] = torch.load(
                file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file)
            )
        groups = [group | {"params": list(group["params"])} for group in saved["param_groups"]]
        return SavedOptimizer(file, dict(saved["state"]), groups)
    except Exception as error:  # torch raises many kinds for a damaged file and for a pickle with code in it
        code = re.search(r"GLOBAL (\S+)", str(error))
        what = f" ({code[1]})" if code else ""
        raise ModelError(
            f"{file} is damaged, or a pickle of more than an optimizer's tensors{what}, which handpick does not run"
        ) from error


def keys_by_name(saved: SavedOptimizer, trained: Shapes) -> dict[str, Any]:
    """Return the key of each trained parameter's state.

    Names in the file decide. Without them the order must be one that is known: the groups and numbers of parameters
    are held against those of each trainer; else shapes decide, where no two parameters share one.

    Args:
        saved: the file's content.
        trained: shapes of all parameters that the adapter trains, by canonical name, in the model's order.

    Raises:
        ModelError: the file belongs to other parameters, or which is which cannot be known.
    """
    named = _names_in(saved)
    if named is not None:
        missing = next((name for name in trained if name not in named), None)
        if missing is not None:
            raise ModelError(
                f"{saved.file} has no state for {missing}; its names are those of other parameters, such as "
                f"{next(iter(named), 'none at all')}"
            )
        return {name: named[name] for name in trained}
    keys = [key for group in saved.groups for key in group["params"]]
    order = _known_order(saved.groups, trained)
    if order is not None:
        return dict(zip(order, keys, strict=True))
    if len(keys) != len(trained):
        _refuse_number(saved, trained)
    by_shape = _match_shapes(saved, keys, trained)
    if by_shape is None:
        sizes = " + ".join(str(len(group["params"])) for group in saved.settings)
        raise ModelError(
            f"{saved.file} has the state of {sizes} parameters in groups that no known trainer makes, several of one "
            "shape and none with a name: which is which cannot be known; give its param_groups the names "
            "(`param_names`), or choose --optimizer sgd"
        )
    return by_shape


def _names_in(saved: SavedOptimizer) -> dict[str, Any] | None:
    """Return the keys by the canonical names that the file itself carries; None where it has none."""
    if saved.states and all(isinstance(key, str) for key in saved.states):  # FSDP's: the keys are names
        pairs = [(key, key) for group in saved.settings for key in group["params"]]
    elif saved.settings and all("param_names" in group for group in saved.settings):
        if any(len(group["param_names"]) != len(group["params"]) for group in saved.settings):
            raise ModelError(f"{saved.file} has another number of param_names than of parameters; it is damaged")
        pairs = [pair for group in saved.settings for pair in zip(group["param_names"], group["params"], strict=True)]
    else:
        return None
    named = {canonical_name(_WRAPPERS.sub("", name).lstrip(".")): key for name, key in pairs}
    if len(named) != len(pairs):
        raise ModelError(f"{saved.file} names a parameter twice; which state is its own cannot be known")
    return named


# Parameters that the Trainer spares weight decay, by their names: today's rule, and that of 4.x before it.
_NO_DECAY = re.compile(r"bias|layernorm|rmsnorm|(?:^|\.)norm(?:$|\.)|_norm(?:$|\.)", re.IGNORECASE)
_NO_DECAY_BEFORE = re.compile(r"bias")

Groups = list[list[str]]


def _trainer(trained: Shapes, rule: re.Pattern[str]) -> Groups:
    return [[name for name in trained if not rule.search(name)], [name for name in trained if rule.search(name)]]


def _lora_plus(trained: Shapes) -> dict[str, list[str]]:
    """Return A, B, what of B is spared weight decay, and embeddings, as LoRA+ parts them."""
    groups: dict[str, list[str]] = {"a": [], "b": [], "spared": [], "embedding": []}
    for name, shape in trained.items():
        if ".lora_embedding_" in name:
            kind = "embedding"
        elif ".lora_B." in name or len(shape) == 1:
            kind = "spared" if _NO_DECAY_BEFORE.search(name) else "b"
        else:
            kind = "a"
        groups[kind].append(name)
    return groups


def _lora_plus_of_peft(trained: Shapes) -> Groups:
    groups = _lora_plus(trained)
    return [groups[kind] for kind in ("a", "embedding", "b", "spared")]


def _lora_plus_of_llama_factory(trained: Shapes) -> Groups:
    groups = _lora_plus(trained)
    return [groups[kind] for kind in ("a", "b", "spared", "embedding")]


# How trainers group the parameters, each group in the model's order; and the groups, by place, without weight decay.
_GROUPINGS: tuple[tuple[Callable[[Shapes], Groups], tuple[int, ...]], ...] = (
    (lambda trained: _trainer(trained, _NO_DECAY), (1,)),
    (lambda trained: _trainer(trained, _NO_DECAY_BEFORE), (1,)),
    (_lora_plus_of_peft, (3,)),
    (_lora_plus_of_llama_factory, (2,)),
)


def _known_order(groups: Sequence[Mapping[str, Any]], trained: Shapes) -> list[str] | None:
    """Return the names in the order of the file where its groups, empty ones too, are those of a known trainer."""
    sizes = [len(group["params"]) for group in groups]
    for grouping, spared in _GROUPINGS:
        made = grouping(trained)
        if [len(group) for group in made] == sizes and all(float(groups[i]["weight_decay"]) == 0 for i in spared):
            return [name for group in made for name in group]
    return None


def _refuse_number(saved: SavedOptimizer, trained: Shapes) -> None:
    sizes = [len(group["params"]) for group in saved.settings]
    wanted = [len(group) for group in _trainer(trained, _NO_DECAY) if group]
    raise ModelError(
        f"{saved.file} has the state of {' + '.join(map(str, sizes)) or 'no'} parameters, where transformers' Trainer "
        f"keeps {' + '.join(map(str, wanted))} for this adapter: it trained others too, or belongs to another adapter"
    )


def _match_shapes(saved: SavedOptimizer, keys: Sequence[Any], trained: Shapes) -> dict[str, Any] | None:
    """Return the keys by name where every parameter has a shape of its own; None where two share one."""
    shapes = {key: _shape_of(saved.states.get(key, {})) for key in keys}
    if len(set(trained.values())) < len(trained) or set(shapes.values()) != set(trained.values()):
        return None
    key_of = {shape: key for key, shape in shapes.items()}
    return {name: key_of[shape] for name, shape in trained.items()}


def _shape_of(state: State) -> torch.Size | None:
    tensors = [value for value in state.values() if isinstance(value, Tensor) and value.ndim > 0]
    return tensors[0].shape if tensors else None
