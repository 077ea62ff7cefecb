"""A verdict, read out of what a judge has written."""

import json
from typing import Any, Literal

Side = Literal["a", "b", "tie"]

_SIDES: dict[str, Side] = {"a": "a", "b": "b", "tie": "tie"}
_THINKING, _THOUGHT = "<think>", "</think>"
_decoder = json.JSONDecoder()


def read_score(text: str, low: float, high: float) -> float | None:
    """Read the ``score`` of the last JSON object that has one; None where there is none, or it is out of range."""
    score = _last_field(text, "score")
    if isinstance(score, str):
        try:
            score = float(score) if "_" not in score else None  # Python's own way to write 10: 1_0
        except ValueError:
            return None
    if isinstance(score, bool) or not isinstance(score, int | float):
        return None
    return float(score) if low <= score <= high else None  # not a number is in no range


def read_side(text: str) -> Side | None:
    """Read the ``verdict`` of the last JSON object that has one; None where there is none, or it is not A, B or tie."""
    verdict = _last_field(text, "verdict")
    return _SIDES.get(verdict.strip().casefold()) if isinstance(verdict, str) else None


def _last_field(text: str, field: str) -> Any:
    """Return the field of the last object that has it: judges think aloud before they decide. None where none has it.

    An object within one that has the field is passed over. What stands in ``<think>`` is no decision, and a thought
    that was cut off has none behind it.
    """
    _, closed, after_it = text.rpartition(_THOUGHT)
    if closed:
        text = after_it
    elif text.lstrip().startswith(_THINKING):
        return None
    value = None
    start = text.find("{")
    while start >= 0:
        end = start + 1
        try:
            found, after = _decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            pass
        else:
            if field in found:
                value, end = found[field], after
        start = text.find("{", end)
    return value
