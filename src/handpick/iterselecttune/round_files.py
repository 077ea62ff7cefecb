"""What stands in a round's folder, read back."""

import json
from pathlib import Path
from typing import Any

from handpick.documents import DAMAGED
from handpick.errors import StoreError
from handpick.iterselecttune.judging import JudgedExample
from handpick.layout import RoundLayout
from handpick.sealed import read_sealed, read_sealed_list, unseal


def read_batch(path: Path) -> list[dict[str, Any]]:
    """Read which examples a round has taken; a file of before is the list alone.

    Raises:
        StoreError: it is damaged.
    """
    return read_sealed_list(path, "taken", _advice(path))


def read_verdicts(path: Path, n: int) -> list[JudgedExample]:
    """Read what was said of a round's ``n`` examples.

    Raises:
        StoreError: it is damaged.
    """
    try:
        said = [unseal(json.loads(line)) for line in path.read_bytes().splitlines()]
        if len(said) != n:
            raise ValueError(f"it has {len(said)} verdicts, and {n} examples were taken")
        return [JudgedExample(each["hard"], {}, each["tie"], each["flipped"]) for each in said]
    except DAMAGED as error:
        raise damaged_error(path, error) from error


def read_round_seconds(layout: RoundLayout) -> dict[str, float]:
    """Read what the parts of a round took, in seconds; none where that is not known.

    Raises:
        StoreError: the file is damaged.
    """
    if not layout.cost.exists():
        return {}
    advice = "remove it: it says nothing but how long the round took"
    seconds = read_sealed(layout.cost, advice).get("seconds")
    if not isinstance(seconds, dict) or not all(isinstance(each, int | float) for each in seconds.values()):
        raise StoreError(f"{layout.cost} holds no seconds; {advice}")
    return seconds


def damaged_error(path: Path, error: Exception) -> StoreError:
    """Return the error for a damaged file of a round, on which all later rounds depend."""
    return StoreError(f"{path} is damaged ({error}); {_advice(path)}")


def _advice(path: Path) -> str:
    return f"remove {path.parent} and the rounds behind it, and run the same again"
