"""Targets that share a budget take turns."""

import math
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import NamedTuple

from handpick.constraints.order import Order, pick_blocks
from handpick.errors import SettingsError


class Turn(NamedTuple):
    """A pick and the target that took it."""

    target: str
    column: int
    score: float
    query: int


def split_between(
    orders: Mapping[str, Order], weights: Mapping[str, float], n: int, *, expected: int = 0
) -> Iterator[Turn]:
    """Let targets take turns, each its own next best that none has taken, until all columns are taken.

    After any number k of turns, each target has had its share of k, rounded up or down; with equal weights they take
    turns in order. The first taker of a column that several want is the one whose turn it is.

    Source: who is next is the quota method of Balinski and Young, "The quota method of apportionment", American
    Mathematical Monthly 1975, seats being turns.

    Args:
        orders: of each target, over the same columns 0 to n − 1.
        weights: one a target, positive, of any sum.
        n: number of columns.
        expected: how many turns will be taken, about: an order is first asked for its share of them.

    Raises:
        SettingsError: there is no target, weights and targets do not go together, or a weight is not positive.
    """
    if not orders or set(orders) != set(weights):
        raise SettingsError(
            f"there are targets {', '.join(orders) or 'none'} and weights for {', '.join(weights) or 'none'}; give "
            "every target one weight"
        )
    for target, weight in weights.items():
        if not 0 < weight < math.inf:
            raise SettingsError(f"the weight of the target {target!r} is {weight}; give a positive number")
    return _turns(orders, {target: Fraction(str(weights[target])) for target in orders}, n, expected)


def _turns(orders: Mapping[str, Order], weights: Mapping[str, Fraction], n: int, expected: int) -> Iterator[Turn]:
    whole = sum(weights.values())
    had = dict.fromkeys(orders, 0)
    first = {target: math.ceil(expected * weight / whole) for target, weight in weights.items()}
    own = {
        target: (pick for block in pick_blocks(order, n, first[target]) for pick in block)
        for target, order in orders.items()
    }
    taken: set[int] = set()
    for turn in range(1, n + 1):
        below = [target for target in orders if had[target] * whole < weights[target] * turn]
        target = max(below, key=lambda target: weights[target] / (had[target] + 1))
        pick = next(pick for pick in own[target] if pick.column not in taken)
        had[target] += 1
        taken.add(pick.column)
        yield Turn(target, *pick)
