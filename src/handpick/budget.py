"""How much to choose: a number of examples, a share of the pool, or tokens."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from handpick.errors import SettingsError

_FORM = re.compile(r"(?P<number>[+-]?\d+(?:\.\d+)?)\s*(?P<scale>[kKmMbB]?)\s*(?P<unit>%|tokens?|)")
_SCALES = {"B": Decimal(10**9), "M": Decimal(10**6), "k": Decimal(10**3), "": Decimal(1)}
_FORMS = "'1000', '5%' or '2M tokens' (k, M and B stand for thousand, million and billion)"


@dataclass(frozen=True)
class Budget:
    """A budget as the user gave it: ``1000`` examples, ``5%`` of the pool, ``2M tokens``.

    Raises:
        SettingsError: ``amount`` is not above 0, is more than 100 percent, or is a fraction of an
            example or a token.
    """

    kind: Literal["examples", "percent", "tokens"]
    amount: float

    def __post_init__(self) -> None:
        if not 0 < self.amount < math.inf:
            raise SettingsError(f"the budget {self} is not above zero; give a positive one, such as {_FORMS}")
        if self.kind == "percent" and self.amount > 100:
            raise SettingsError(f"the budget {self} is more than the whole pool; give at most 100%")
        if self.kind != "percent" and self.amount != int(self.amount):
            raise SettingsError(f"the budget {self} is not a whole number of {self.kind}; round it")

    @classmethod
    def parse(cls, text: str | int) -> "Budget":
        """Read a budget such as ``1000``, ``"1000"``, ``"5%"``, ``"250k tokens"`` or ``"1.5B tokens"``.

        Raises:
            SettingsError: it is none of these forms, or out of range.
        """
        form = _FORM.fullmatch(str(text).strip())
        if form is None or (form["unit"] == "%" and form["scale"]):
            raise SettingsError(f"the budget {text!r} cannot be read; give one such as {_FORMS}")
        scale = form["scale"].lower() if form["scale"] in "kK" else form["scale"].upper()
        # Decimal: 4.35M is exactly 4,350,000 tokens, which float arithmetic would miss.
        amount = float(Decimal(form["number"]) * _SCALES[scale])
        if form["unit"] == "%":
            return cls("percent", amount)
        return cls("tokens" if form["unit"] else "examples", amount)

    def __str__(self) -> str:
        """Return the form that ``parse`` reads back to an equal budget."""
        amount = Decimal(repr(self.amount))
        if self.kind == "percent":
            return f"{_format_number(amount)}%"
        if self.kind == "examples":
            return _format_number(amount)
        suffix = next((name for name, scale in _SCALES.items() if abs(amount) >= scale), "")
        return f"{_format_number(amount / _SCALES[suffix])}{suffix} tokens"

    def examples_needed(self, n_pool: int) -> int:
        """Return how many examples of a pool of ``n_pool`` this is; percent to the nearest, and at least 1.

        Raises:
            SettingsError: more than the pool has, or a token budget, which only token counts can turn
                into examples (see ``longest_prefix``).
        """
        if self.kind == "tokens":
            raise SettingsError(f"the budget {self} depends on the length of each example; count their tokens first")
        needed = int(self.amount)
        if self.kind == "percent":
            needed = max(1, math.floor(self.amount * n_pool / 100 + 0.5))
        if needed > n_pool:
            raise SettingsError(
                f"the budget is {needed} examples and the pool has {n_pool}; give {n_pool} at most, or a share: '5%'"
            )
        return needed


def longest_prefix(token_counts: Iterable[int], tokens: int) -> int:
    """Return how many conversations, from the first on, fit into ``tokens`` together.

    Conversations count whole, under the model's tokenizer; the first that no longer fits ends the prefix
    even if a later one would still fit. Counts after that one are not drawn from the iterable.

    Raises:
        SettingsError: not even the first conversation fits.
    """
    used = 0
    fitting = 0
    for count in token_counts:
        if used + count > tokens:
            if fitting == 0:
                raise SettingsError(
                    f"the budget is {tokens} tokens and the first choice alone has {count}; give at least {count}"
                )
            break
        used += count
        fitting += 1
    return fitting


def _format_number(number: Decimal) -> str:
    """Format with all digits, without an exponent or trailing zeros."""
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
