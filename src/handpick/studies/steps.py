"""A study's steps: each in a folder that is named by the hash of what goes into it, and done once."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from handpick.documents import DAMAGED
from handpick.errors import StoreError
from handpick.fingerprint import digest
from handpick.layout import StepLayout
from handpick.sealed import read_sealed, unseal, write_sealed


def step_name(kind: str, inputs: Mapping[str, Any]) -> str:
    """Return ``KIND-HASH``: the hash of contents, settings and seeds, never of paths."""
    return f"{kind}-{digest(dict(inputs))}"


class Steps:
    """The folder of all steps of a study.

    Args:
        folder: is made when the first step is.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._finished: dict[str, dict[str, Any]] = {}

    def path(self, name: str) -> Path:
        """Return the folder of a step, finished, begun or not there yet."""
        return self.folder / name

    def read_record(self, name: str) -> dict[str, Any] | None:
        """Read what a finished step says of itself; None of one that is not.

        Raises:
            StoreError: its record is damaged.
        """
        if name not in self._finished:
            made = read_step(self.path(name))
            if made is None:
                return None
            self._finished[name] = made
        return self._finished[name]


def read_step(folder: Path) -> dict[str, Any] | None:
    """Read what the finished step in a folder says of itself; None of one that is not finished.

    Raises:
        StoreError: its record is damaged.
    """
    path = StepLayout(folder).record
    try:
        found = unseal(json.loads(path.read_bytes()))["made"]
    except FileNotFoundError:
        return None
    except DAMAGED as error:
        raise StoreError(f"{path} is damaged ({error}); remove {folder}, and the study makes it again") from error
    if not isinstance(found, dict):
        raise StoreError(f"{path} is damaged; remove {folder}, and the study makes it again")
    return found


def finish_step(folder: Path, inputs: Mapping[str, Any], made: Mapping[str, Any], seconds: float | None = None) -> None:
    """Say that a step is finished: the last thing that is written of it.

    Args:
        folder: of the step.
        inputs: what its name is the hash of.
        made: what the study wants to know of it, as plain JSON; the same whenever and wherever it was made.
        seconds: that it took, kept in a file of their own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if seconds is not None:
        write_sealed(StepLayout(folder).cost, {"seconds": round(seconds, 3)})
    write_sealed(StepLayout(folder).record, {"inputs": dict(inputs), "made": dict(made)})


def read_seconds(folder: Path) -> float:
    """Read how long a finished step took; 0 where that is not known. Those of before say it in their record.

    Raises:
        StoreError: a file of it is damaged.
    """
    path = StepLayout(folder).cost
    there = read_sealed(path, "remove it: it says nothing but how long the step took") if path.exists() else None
    return float((there or read_step(folder) or {}).get("seconds", 0.0))
