"""Splits: what their names say, and which is meant where nobody said. One to test with is never taken for a pool."""

import re
from collections.abc import Sequence
from typing import Literal, TypeAlias

from handpick.data.containers.record import Say
from handpick.errors import DataError

Kind: TypeAlias = Literal["train", "validation", "test"]
_KINDS: dict[str, Kind] = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
    "eval": "test",
    "evaluation": "test",
}
_SHOWN = 20


def kind_of_split(name: str) -> Kind | None:
    """Return what a split or a file is for, by the first word of its name that says so; None where none does."""
    words = re.split(r"[^a-z]+", name.lower())
    return next((_KINDS[word] for word in words if word in _KINDS), None)


def is_held_out(name: str) -> bool:
    """Return whether a split is for testing, by its name."""
    return kind_of_split(name) in ("validation", "test")


def choose_split(where: str, names: Sequence[str], choice: str | None, say: Say, how: str) -> str:
    """Return the split that is meant: the one that was named, else ``train``, else the only one for training.

    Args:
        where: what has the splits, for messages.
        names: the splits it has.
        choice: the split that was named, None where none was.
        say: told which is taken, where nobody named it.
        how: what to do to take another, with a place for its name.

    Raises:
        DataError: there is no split of that name, none for training, or several.
    """
    listed = list_names(names)
    if choice is not None:
        if choice not in names:
            raise DataError(f"{where} has no split {choice!r}; its splits are {listed}")
        return choice
    kept = [name for name in names if not is_held_out(name)]
    if "train" not in names and len(kept) != 1:
        what = "several splits to train on" if kept else "no split to train on"
        raise DataError(f"{where} has {what}: it has {listed}; {how.format((kept or [*names, '?'])[0])}")
    chosen = "train" if "train" in names else kept[0]
    others = [name for name in names if name != chosen]
    left = f"; left out: {list_names(others)}" if others else ""
    say(f"its split {chosen!r} is read{left}")
    return chosen


def list_names(names: Sequence[str]) -> str:
    """Return names as they are listed in a message."""
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return (", ".join(names[:_SHOWN]) + more) or "none"
