"""What a study's cells say: means over seeds, differences from random, rank correlations, win counts.

Pure functions over cells. Only cells that are done and have the metric count; all others are passed over, so say
beside a number what is missing. A metric goes by its name in ``Cell.metrics``; "dev_loss" is the loss on the queries,
which TIS (Nayak et al. ICML 2026, arXiv 2602.14696) looks at first. Rows come in the order of the grid, which is the
order of the cells. All intervals are 95%; ``low`` and ``high`` are None where there is none, and no value is NaN.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import NormalDist, fmean, stdev
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats  # type: ignore[import-untyped]

from handpick.errors import DataError
from handpick.evaluation.metrics import larger_is_better
from handpick.study.cells import RANDOM, Cell

DEV_LOSS = "dev_loss"

_TAIL = 0.975  # of a 95% interval's upper end
_Z = NormalDist().inv_cdf(_TAIL)
_ROUNDING = 1e-12  # of the values themselves: a spread or difference below it is none
_LEAST_POINTS = 4  # of a correlation: its interval divides by n − 3
_PERMUTATIONS = 9999


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
class Correlation:
    """Spearman's rho over ``n`` points, its interval, and its p by ``spearman``.

    ``method`` and ``budget`` are set by ``quantile_correlation``, ``features``, ``distance`` and ``budget`` by
    ``distance_correlation``. ``rho`` and what follows from it are None of fewer than four points and where one side is
    constant.
    """

    model: str
    target: str
    n: int
    rho: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    budget: int | None = None
    method: str | None = None
    features: str | None = None
    distance: str | None = None


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


def value_of(cell: Cell, metric: str) -> float | None:
    """A metric of a cell; None where it has none."""
    return cell.dev_loss if metric == DEV_LOSS else cell.metrics.get(metric)


def metrics_of(cells: Iterable[Cell]) -> list[str]:
    """The metrics of done cells in order of appearance, but losses first, and the one on the queries before all."""
    done = [cell for cell in cells if cell.status == "done"]
    of_queries = [DEV_LOSS] if any(cell.dev_loss is not None for cell in done) else []
    return of_queries + sorted(dict.fromkeys(name for cell in done for name in cell.metrics), key=better_sign)


def better_sign(metric: str) -> Literal[-1, 1]:
    """1 where larger is better, −1 of a loss."""
    return 1 if metric != DEV_LOSS and larger_is_better(metric) else -1


def by_seed(cells: Iterable[Cell], metric: str) -> list[Mean]:
    """Mean, standard deviation and Student's interval over seeds, per model, method, target, budget and quantile.

    Raises:
        DataError: a value is not finite, or two cells are the same but for their values.
    """
    rows = []
    for place, at_seed in _at_places(cells, lambda cell: (value_of(cell, metric),)).items():
        values = [value for (value,) in at_seed.values()]
        low, high = _t_interval(values, max(map(abs, values)))
        sd = stdev(values) if len(values) > 1 else None
        rows.append(Mean(*place, n=len(values), mean=fmean(values), sd=sd, low=low, high=high))
    return rows


def against_random(cells: Iterable[Cell], metric: str) -> list[Difference]:
    """Every method's difference from random of the same budget, per model, method, target and budget.

    The paired interval is Student's, of the differences at equal seeds; the other is Welch's (Biometrika 34, 1947).
    Cells without a budget (zero-shot, the full pool) and those of a quantile have no such counterpart and no row.

    Raises:
        DataError: as ``by_seed``.
    """
    at_places = _at_places(cells, lambda cell: (value_of(cell, metric),))
    sign = better_sign(metric)
    rows = []
    for place, at_seed in at_places.items():
        at_random = at_places.get(place._replace(method=RANDOM))
        if place.method == RANDOM or place.budget is None or place.quantile is not None or at_random is None:
            continue
        own, random = ({seed: value for seed, (value,) in each.items()} for each in (at_seed, at_random))
        low, high, by = _difference_interval(own, random)
        above, below = (None, None) if low is None or high is None else (low > 0, high < 0)
        rows.append(
            Difference(
                place.model, place.method, place.target, place.budget,
                n=len(own), n_random=len(random), mean=fmean(own.values()) - fmean(random.values()),
                low=low, high=high, by=by,
                better=above if sign > 0 else below, worse=below if sign > 0 else above,
            )
        )  # fmt: skip
    return rows


def distance_correlation(cells: Iterable[Cell], metric: str, distance: str | None = None) -> list[Correlation]:
    """Between a choice's distance to the queries and the metric: are nearer choices of equal size better?

    Per model, target, budget, the features that distances are measured in, and distance. A point is a choice, whatever
    method made it, quantiles included, averaged over its seeds. Budgets are not mixed: larger choices are nearer and
    teach more, whatever the features. The interval takes points for independent, which choices that share examples
    are not quite.

    Args:
        cells: those to look at.
        metric: a metric's name.
        distance: a name that ``Cell.distances`` has under its features, such as "wasserstein"; None: each in turn.

    Raises:
        DataError: as ``by_seed``.
    """
    cells = list(cells)
    kinds = dict.fromkeys(
        (features, name) for cell in cells for features, measured in cell.distances.items() for name in measured
    )
    points: dict[tuple[str, str, int | None, str, str], list[_Point]] = defaultdict(list)
    for features, name in kinds:
        if distance in (None, name):
            found = _at_places(cells, partial(_distance_and_value, metric, features, name))
            for place, at_seed in found.items():
                values_at: dict[float, list[float]] = defaultdict(list)  # every random draw is a choice of its own
                for x, y in at_seed.values():
                    values_at[x].append(y)
                own = [(x, fmean(values)) for x, values in values_at.items()]
                points[place.model, place.target, place.budget, features, name] += own
    return [
        _correlation(own, Correlation(model, target, len(own), budget=budget, features=features, distance=name))
        for (model, target, budget, features, name), own in points.items()
    ]


def loss_correlation(cells: Iterable[Cell], metric: str) -> list[Correlation]:
    """Between the loss on the queries and the metric, per model and target: TIS's query loss against task metric.

    A point is a choice, or the model as it is, averaged over its seeds.

    Raises:
        DataError: as ``by_seed``.
    """
    points: dict[tuple[str, str], list[_Point]] = defaultdict(list)
    for place, point in _points(cells, lambda cell: (cell.dev_loss, value_of(cell, metric))):
        points[place.model, place.target].append(point)
    return [_correlation(own, Correlation(model, target, len(own))) for (model, target), own in points.items()]


def quantile_correlation(cells: Iterable[Cell], metric: str) -> list[Correlation]:
    """Between the quantile, 0 the nearest, and the metric averaged over seeds, per model, target, method and budget.

    TIS's first experiment. A representation is good where nearer quantiles do better: rho is then positive of a loss
    and negative of anything else.

    Raises:
        DataError: as ``by_seed``.
    """
    points: dict[tuple[str, str, str, int | None], list[_Point]] = defaultdict(list)
    for place, point in _points(cells, lambda cell: (cell.quantile, value_of(cell, metric))):
        points[place.model, place.target, place.method, place.budget].append(point)
    return [
        _correlation(own, Correlation(model, target, len(own), method=method, budget=budget))
        for (model, target, method, budget), own in points.items()
    ]


def wins(cells: Iterable[Cell], metric: str) -> list[Wins]:
    """How often each method is best, and how often better or worse than random; random itself takes part.

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
        winners = [method for method, mean in of_method.items() if math.isclose(mean, largest, rel_tol=_ROUNDING)]
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


def spearman(x_N: Sequence[float], y_N: Sequence[float]) -> tuple[float, float, float, float] | None:
    """Spearman's rho (ties share their mean rank), its interval by ``rho_interval``, and its p.

    p is the share of all pairings of the two sides that are as far from none as this one, or of 9,999 drawn with a
    fixed seed where there are more than that, and never 0. It holds for few points and for ties, where the usual t
    distribution does not.

    Args:
        x_N: finite values.
        y_N: as many.

    Returns:
        rho, low, high, p; None of fewer than four points and where one side is constant.
    """
    n = len(x_N)
    if n < _LEAST_POINTS or len(set(x_N)) == 1 or len(set(y_N)) == 1:
        return None
    x_rank_N, y_rank_N = _unit_ranks(x_N), _unit_ranks(y_N)
    rho = max(-1.0, min(1.0, float(x_rank_N @ y_rank_N)))
    p = stats.permutation_test(
        (x_rank_N,), lambda sample, axis: (sample * y_rank_N).sum(axis=axis), permutation_type="pairings",
        n_resamples=_PERMUTATIONS, vectorized=True, rng=np.random.default_rng(0),
    ).pvalue  # fmt: skip
    return rho, *rho_interval(rho, n), float(p)


def rho_interval(rho: float, n: int) -> tuple[float, float]:
    """The 95% interval of a Spearman's rho over n points, at least four.

    tanh(atanh rho ± z sqrt((1 + rho²/2)/(n − 3))), with the variance of Bonett and Wright (Psychometrika 65, 2000);
    Pearson's 1/(n − 3) is too small for ranks. It covers the truth as often as it says from ten points on, and too
    seldom with few points of a close relation. Where all ranks agree z is infinite: there (our own convention) the
    inner end is that of the order with one swap of neighbours, and the outer end 1.
    """
    one_swap = 1 - 12 / (n * (n**2 - 1))
    inner = max(-one_swap, min(one_swap, rho))
    half = _Z * math.sqrt((1 + inner**2 / 2) / (n - 3))
    low = -1.0 if rho < inner else math.tanh(math.atanh(inner) - half)
    high = 1.0 if rho > inner else math.tanh(math.atanh(inner) + half)
    return low, high


_Point = tuple[float, float]


class _Place(NamedTuple):
    """A cell's place in the grid but for its seed."""

    model: str
    method: str
    target: str
    budget: int | None
    quantile: int | None


def _at_places(
    cells: Iterable[Cell], values: Callable[[Cell], tuple[float | None, ...]]
) -> dict[_Place, dict[int, tuple[float, ...]]]:
    """What every done cell has, by place and seed; one that lacks a value is passed over."""
    found: dict[_Place, dict[int, tuple[float, ...]]] = defaultdict(dict)
    for cell in cells:
        wanted = values(cell)
        own = tuple(value for value in wanted if value is not None)
        if cell.status != "done" or len(own) < len(wanted):
            continue
        place = _Place(cell.model, cell.method, cell.target, cell.budget, cell.quantile)
        if cell.seed in found[place]:
            raise DataError(f"the results have the cell {_spoken(place)}, seed {cell.seed} twice; leave one out")
        if not all(map(math.isfinite, own)):
            raise DataError(
                f"a value of the cell {_spoken(place)}, seed {cell.seed} is not finite; mark it failed or run it again"
            )
        found[place][cell.seed] = own
    return dict(found)


def _spoken(place: _Place) -> str:
    return ", ".join(f"{name} {value}" for name, value in place._asdict().items() if value is not None)


def _points(
    cells: Iterable[Cell], xy: Callable[[Cell], tuple[float | None, float | None]]
) -> list[tuple[_Place, _Point]]:
    """x and y of every place, each averaged over the seeds."""
    return [
        (place, (fmean(x for x, _ in at_seed.values()), fmean(y for _, y in at_seed.values())))
        for place, at_seed in _at_places(cells, xy).items()
    ]


def _distance_and_value(metric: str, features: str, distance: str, cell: Cell) -> tuple[float | None, float | None]:
    return cell.distances.get(features, {}).get(distance), value_of(cell, metric)


def _correlation(points: Sequence[_Point], row: Correlation) -> Correlation:
    found = spearman([x for x, _ in points], [y for _, y in points])
    if found is None:
        return row
    rho, low, high, p = found
    return replace(row, rho=rho, low=low, high=high, p=p)


def _unit_ranks(values_N: Sequence[float]) -> NDArray[np.float64]:
    """Ranks, centred and scaled to length 1: the product of two such is their correlation."""
    rank_N = stats.rankdata(values_N)
    centred_N = rank_N - rank_N.mean()
    unit_N: NDArray[np.float64] = centred_N / np.sqrt(centred_N @ centred_N)
    return unit_N


def _t_interval(values: Sequence[float], scale: float) -> tuple[float, float] | tuple[None, None]:
    """Student's, of the mean; none without a spread that stands out from rounding at ``scale``."""
    if len(values) < 2 or stdev(values) <= _ROUNDING * scale:
        return None, None
    half = float(stats.t.ppf(_TAIL, len(values) - 1)) * stdev(values) / math.sqrt(len(values))
    return fmean(values) - half, fmean(values) + half


def _difference_interval(
    own: dict[int, float], random: dict[int, float]
) -> tuple[float | None, float | None, Literal["paired", "welch"] | None]:
    """Ends of two sets of values by seed, and how they were made."""
    scale = max(map(abs, (*own.values(), *random.values())))
    if own.keys() == random.keys():
        low, high = _t_interval([own[seed] - random[seed] for seed in own], scale)
        return low, high, None if low is None else "paired"
    if min(len(own), len(random)) < 2 or max(stdev(own.values()), stdev(random.values())) <= _ROUNDING * scale:
        return None, None, None
    of_own, of_random = (stdev(each.values()) ** 2 / len(each) for each in (own, random))
    part = of_own / (of_own + of_random)
    freedom = 1 / (part**2 / (len(own) - 1) + (1 - part) ** 2 / (len(random) - 1))
    half = float(stats.t.ppf(_TAIL, freedom)) * math.sqrt(of_own + of_random)
    mean = fmean(own.values()) - fmean(random.values())
    return mean - half, mean + half, "welch"
