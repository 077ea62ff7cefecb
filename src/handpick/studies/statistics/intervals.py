"""95% intervals of a mean, and of the difference of two."""

import math
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Literal

from scipy import stats  # type: ignore[import-untyped]

TAIL = 0.975  # of a 95% interval's upper end
ROUNDING = 1e-12  # of the values themselves: a spread or difference below it is none


def t_interval(values: Sequence[float], scale: float) -> tuple[float, float] | tuple[None, None]:
    """Compute Student's interval of the mean; none without a spread that stands out from rounding at ``scale``."""
    if len(values) < 2 or stdev(values) <= ROUNDING * scale:
        return None, None
    half = float(stats.t.ppf(TAIL, len(values) - 1)) * stdev(values) / math.sqrt(len(values))
    return fmean(values) - half, fmean(values) + half


def difference_interval(
    own: dict[int, float], random: dict[int, float]
) -> tuple[float | None, float | None, Literal["paired", "welch"] | None]:
    """Compute the interval's ends from two sets of values by seed, and how they were made."""
    scale = max(map(abs, (*own.values(), *random.values())))
    if own.keys() == random.keys():
        low, high = t_interval([own[seed] - random[seed] for seed in own], scale)
        return low, high, None if low is None else "paired"
    if min(len(own), len(random)) < 2 or max(stdev(own.values()), stdev(random.values())) <= ROUNDING * scale:
        return None, None, None
    of_own, of_random = (stdev(each.values()) ** 2 / len(each) for each in (own, random))
    part = of_own / (of_own + of_random)
    freedom = 1 / (part**2 / (len(own) - 1) + (1 - part) ** 2 / (len(random) - 1))
    half = float(stats.t.ppf(TAIL, freedom)) * math.sqrt(of_own + of_random)
    mean = fmean(own.values()) - fmean(random.values())
    return mean - half, mean + half, "welch"
