"""Means over seeds, differences from random choices, and how often a method wins."""

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Literal

from handpick.studies.cells import RANDOM, Cell
from handpick.studies.statistics.intervals import ROUNDING, difference_interval, t_interval
from handpick.studies.statistics.values import better_sign, by_group, value_of


@dataclass(frozen=True)
class Mean:
    """The mean of a metric over ``n`` seeds, their standard deviation (n − 1) and the mean's t interval.

    ``sd`` is None of one seed. There is no interval of one seed, nor where no seed differs from another: nothing is
    then known of their spread.
    """

    model: str
    method: str
    target: str
    budget: int | None
    quantile: int | None
    n: int
    mean: float
    sd: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Difference:
    """A method's mean minus that of random choices of the same number of examples.

    ``by`` is how the interval was made: "paired" where both have the same seeds, two at least; "welch" where they have
    not, and two at least each. It is None where there is no interval: one has a single seed, or no seed differs from
    another. ``n`` and ``n_random`` count the seeds. ``better`` and ``worse`` say whether the interval lies wholly on
    that side of 0, by what is better of the metric; None without an interval.
    """

    model: str
    method: str
    target: str
    budget: int
    n: int
    n_random: int
    mean: float
    low: float | None
    high: float | None
    by: Literal["paired", "welch"] | None
    better: bool | None
    worse: bool | None


@dataclass(frozen=True)
class Wins:
    """How a method fares over every model, target and budget at which it and one other method at least are measured.

    ``n`` counts them; ``best`` is at how many its mean is the best, a tie of k methods counting 1/k for each;
    ``better`` and ``worse`` than random are beyond the interval, at how many of the ``compared`` that have one.
    """

    method: str
    n: int
    best: float
    compared: int
    better: int
    worse: int


def by_seed(cells: Iterable[Cell], metric: str) -> list[Mean]:
    """Compute mean, deviation and Student's interval over seeds, per model, method, target, budget and quantile.

    Raises:
        DataError: a value is not finite, or two cells are the same but for their values.
    """
    rows = []
    for place, at_seed in by_group(cells, lambda cell: (value_of(cell, metric),)).items():
        values = [value for (value,) in at_seed.values()]
        low, high = t_interval(values, max(map(abs, values)))
        sd = stdev(values) if len(values) > 1 else None
        rows.append(Mean(*place, n=len(values), mean=fmean(values), sd=sd, low=low, high=high))
    return rows


def against_random(cells: Iterable[Cell], metric: str) -> list[Difference]:
    """Compute every method's difference from random of the same budget, per model, method, target and budget.

    The paired interval is Student's, of the differences at equal seeds; the other is Welch's (Biometrika 34, 1947).
    Cells without a budget (zero-shot, the full pool) and those of a quantile have no such counterpart and no row.

    Raises:
        DataError: as ``by_seed``.
    """
    groups = by_group(cells, lambda cell: (value_of(cell, metric),))
    sign = better_sign(metric)
    rows = []
    for place, at_seed in groups.items():
        at_random = groups.get(place._replace(method=RANDOM))
        if place.method == RANDOM or place.budget is None or place.quantile is not None or at_random is None:
            continue
        own, random = ({seed: value for seed, (value,) in each.items()} for each in (at_seed, at_random))
        low, high, by = difference_interval(own, random)
        above, below = (None, None) if low is None or high is None else (low > 0, high < 0)
        rows.append(
            Difference(
                place.model,
                place.method,
                place.target,
                place.budget,
                n=len(own),
                n_random=len(random),
                mean=fmean(own.values()) - fmean(random.values()),
                low=low,
                high=high,
                by=by,
                better=above if sign > 0 else below,
                worse=below if sign > 0 else above,
            )
        )
    return rows


def wins(cells: Iterable[Cell], metric: str) -> list[Wins]:
    """Count how often each method is best, and how often better or worse than random; random itself takes part.

    Cells without a budget (zero-shot, the full pool) and those of a quantile do not.

    Raises:
        DataError: as ``by_seed``.
    """
    cells = list(cells)
    means: dict[tuple[str, str, int], dict[str, float]] = defaultdict(dict)
    for row in by_seed(cells, metric):
        if row.budget is not None and row.quantile is None:
            means[row.model, row.target, row.budget][row.method] = better_sign(metric) * row.mean
    contests = [of_method for of_method in means.values() if len(of_method) > 1]
    best: dict[str, float] = defaultdict(float)
    for of_method in contests:
        largest = max(of_method.values())
        winners = [method for method, mean in of_method.items() if math.isclose(mean, largest, rel_tol=ROUNDING)]
        for method in winners:
            best[method] += 1 / len(winners)
    differences = [row for row in against_random(cells, metric) if row.by is not None]
    return [
        Wins(
            method,
            n=sum(method in of_method for of_method in contests),
            best=best[method],
            compared=sum(row.method == method for row in differences),
            better=sum(row.method == method and bool(row.better) for row in differences),
            worse=sum(row.method == method and bool(row.worse) for row in differences),
        )
        for method in dict.fromkeys(method for of_method in contests for method in of_method)
    ]
