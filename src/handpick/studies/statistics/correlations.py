"""What goes with a metric: distance to the queries, the loss on them, the quantile of an order."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean

from handpick.studies.cells import RANDOM, Cell
from handpick.studies.statistics.ranks import spearman
from handpick.studies.statistics.values import CellGroup, by_group, value_of

_Point = tuple[float, float]


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


def distance_correlation(cells: Iterable[Cell], metric: str, distance: str | None = None) -> list[Correlation]:
    """Correlate a choice's distance to the queries with the metric: are nearer choices of equal size better?

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
            found = by_group(cells, partial(_distance_and_value, metric, features, name))
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
    """Correlate the loss on the queries with the metric, per model and target: TIS's query loss against task metric.

    A point is a choice, or the model as it is, averaged over its seeds; every random draw is a choice of its own.

    Raises:
        DataError: as ``by_seed``.
    """
    points: dict[tuple[str, str], list[_Point]] = defaultdict(list)
    for place, at_seed in by_group(cells, lambda cell: (cell.dev_loss, value_of(cell, metric))).items():
        own = [(x, y) for x, y in at_seed.values()]
        points[place.model, place.target] += own if place.method == RANDOM else [_mean(own)]
    return [_correlation(own, Correlation(model, target, len(own))) for (model, target), own in points.items()]


def quantile_correlation(cells: Iterable[Cell], metric: str) -> list[Correlation]:
    """Correlate the quantile, 0 the nearest, with the metric averaged over seeds, per model, target, method and budget.

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


def _points(
    cells: Iterable[Cell], xy: Callable[[Cell], tuple[float | None, float | None]]
) -> list[tuple[CellGroup, _Point]]:
    """Return x and y of every place, each averaged over the seeds."""
    return [(place, _mean([(x, y) for x, y in at_seed.values()])) for place, at_seed in by_group(cells, xy).items()]


def _mean(points: Sequence[_Point]) -> _Point:
    return fmean(x for x, _ in points), fmean(y for _, y in points)


def _distance_and_value(metric: str, features: str, distance: str, cell: Cell) -> tuple[float | None, float | None]:
    return cell.distances.get(features, {}).get(distance), value_of(cell, metric)


def _correlation(points: Sequence[_Point], row: Correlation) -> Correlation:
    found = spearman([x for x, _ in points], [y for _, y in points])
    if found is None:
        return row
    rho, low, high, p = found
    return replace(row, rho=rho, low=low, high=high, p=p)
