"""A metric of every cell, by place and seed."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

from handpick.errors import DataError
from handpick.evaluation.metrics import larger_is_better
from handpick.studies.cells import Cell

DEV_LOSS = "dev_loss"


def value_of(cell: Cell, metric: str) -> float | None:
    """Return a metric of a cell; None where it has none."""
    return cell.dev_loss if metric == DEV_LOSS else cell.metrics.get(metric)


def metrics_of(cells: Iterable[Cell]) -> list[str]:
    """Return the metrics of done cells as they appear, but losses first, and the one on the queries before all."""
    done = [cell for cell in cells if cell.status == "done"]
    of_queries = [DEV_LOSS] if any(cell.dev_loss is not None for cell in done) else []
    return of_queries + sorted(dict.fromkeys(name for cell in done for name in cell.metrics), key=better_sign)


def better_sign(metric: str) -> Literal[-1, 1]:
    """Return 1 where larger is better, −1 of a loss."""
    return 1 if metric != DEV_LOSS and larger_is_better(metric) else -1


class CellGroup(NamedTuple):
    """A cell's place in the grid but for its seed."""

    model: str
    method: str
    target: str
    budget: int | None
    quantile: int | None


def by_group(
    cells: Iterable[Cell], values: Callable[[Cell], tuple[float | None, ...]]
) -> dict[CellGroup, dict[int, tuple[float, ...]]]:
    """Group what every done cell has, by place and seed; one that lacks a value is passed over."""
    found: dict[CellGroup, dict[int, tuple[float, ...]]] = defaultdict(dict)
    for cell in cells:
        wanted = values(cell)
        own = tuple(value for value in wanted if value is not None)
        if cell.status != "done" or len(own) < len(wanted):
            continue
        place = CellGroup(cell.model, cell.method, cell.target, cell.budget, cell.quantile)
        if cell.seed in found[place]:
            raise DataError(f"the results have the cell {_label(place)}, seed {cell.seed} twice; leave one out")
        if not all(map(math.isfinite, own)):
            raise DataError(
                f"a value of the cell {_label(place)}, seed {cell.seed} is not finite; mark it failed or run it again"
            )
        found[place][cell.seed] = own
    return dict(found)


def _label(place: CellGroup) -> str:
    return ", ".join(f"{name} {value}" for name, value in place._asdict().items() if value is not None)
