"""Targets that share a budget take turns."""

import math
from collections.abc import Collection, Iterator, Mapping
from fractions import Fraction
from itertools import count, repeat

from handpick.errors import SettingsError


def take_turns(weights: Mapping[str, Fraction]) -> Iterator[str]:
    """Yield whose turn it is, without an end.

    After any number k of turns, each target has had its share of k, rounded up or down; with equal weights they take
    turns in order.

    Source: the quota method of Balinski and Young, "The quota method of apportionment", American Mathematical Monthly
    1975, seats being turns.

    Args:
        weights: one a target, positive, of any sum.
    """
    if len(weights) == 1:  # exact fractions a pick would double the time of a walk
        yield from repeat(*weights)
    whole = sum(weights.values())
    had = dict.fromkeys(weights, 0)
    for turn in count(1):
        below = [target for target in weights if had[target] * whole < weights[target] * turn]
        target = max(below, key=lambda target: weights[target] / (had[target] + 1))
        had[target] += 1
        yield target


def check_weights(targets: Collection[str], weights: Mapping[str, float]) -> dict[str, Fraction]:
    """Return the weights exactly as they were written, in the order of the targets.

    Raises:
        SettingsError: there is no target, weights and targets do not go together, or a weight is not positive.
    """
    if not targets or set(targets) != set(weights):
        raise SettingsError(
            f"there are targets {', '.join(targets) or 'none'} and weights for {', '.join(weights) or 'none'}; give "
            "every target one weight"
        )
    for target, weight in weights.items():
        if not 0 < weight < math.inf:
            raise SettingsError(f"the weight of the target {target!r} is {weight}; give a positive number")
    return {target: Fraction(str(weights[target])) for target in targets}
