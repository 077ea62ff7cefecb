"""How much of a selection a source may have or must have: a share of the budget, or a number of examples."""

import math
import re
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import TypeAlias

_PERCENT = re.compile(r"(\d+(?:\.\d+)?)\s*%")
_EXAMPLES = re.compile(r"(\d+)\s*examples?")
_WHOLE = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class Examples:
    """A number of examples, whatever the budget is."""

    count: int

    def __str__(self) -> str:
        """Return the form that ``parse_limit`` reads back."""
        return f"{self.count} example{'' if self.count == 1 else 's'}"


Limit: TypeAlias = float | Examples


def parse_limit(value: object) -> Limit:
    """Read a share (``0.3``, ``"0.3"``, ``"30%"``) or a number of examples (``3``, ``"3"``, ``"3 examples"``).

    A bare 1 is refused, since it may be one example or all of the budget; 0 is nothing either way. A number with a
    point is a share.

    Raises:
        ValueError: it is none of these.
    """
    text = str(value).strip()
    if found := _EXAMPLES.fullmatch(text):
        return Examples(int(found[1]))
    if _WHOLE.fullmatch(text) and int(text) == 1:
        raise ValueError("should not be a bare 1, which may be one example or all: write '1 example', or 100%")
    if _WHOLE.fullmatch(text) and int(text) > 1:
        return Examples(int(text))
    share = _share_of(text)
    if not 0 <= share <= 1:
        raise ValueError("should be a share (0.3 or 30%) or a whole number of examples (3)")
    return share


def _share_of(text: str) -> float:
    if found := _PERCENT.fullmatch(text):
        return float(Decimal(found[1]) / 100)
    try:
        return float(text)  # True and False are no numbers as texts
    except ValueError:
        return math.nan


def examples_at_most(limit: Limit, budget: int) -> int:
    """Return how many of a budget a source may have; a share is rounded up."""
    return limit.count if isinstance(limit, Examples) else math.ceil(exact_share(limit) * budget)


def examples_at_least(limit: Limit, budget: int) -> int:
    """Return how many of a budget a source must have; a share is rounded down."""
    return limit.count if isinstance(limit, Examples) else math.floor(exact_share(limit) * budget)


def exact_share(share: float) -> Fraction:
    """Return exactly the fraction that was written: 0.29 of 100 is 29, which floats miss."""
    return Fraction(str(share))
