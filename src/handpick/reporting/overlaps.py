"""How alike the selections of a study are: the Jaccard index of every two methods' picks."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from handpick.layout import RunLayout, StudyLayout
from handpick.reporting.curves import heatmap
from handpick.reporting.plots import Plot
from handpick.selection import Selection
from handpick.studies.cells import Results


@dataclass(frozen=True)
class MethodOverlap:
    """Of one target at one budget: ``values[i][j]`` is what methods i and j share of what either has, 0 to 1."""

    title: str
    methods: list[str]
    values: list[list[float]]
    plot: Plot


def overlaps(results: Results, study: Path) -> list[MethodOverlap]:
    """Compare, for every model and target, at the largest budget that two methods have a selection of.

    A method's selection is that of its first seed; of one made at a larger budget, the first so many picks. Cells
    whose selection is not in the study's folder are passed over.

    Raises:
        StoreError: a selection is damaged.
    """
    found: list[MethodOverlap] = []
    for model, target in dict.fromkeys((cell.model, cell.target) for cell in results.cells):
        chosen: dict[int, dict[str, Sequence[str]]] = {}
        for cell in results.cells:
            if (cell.model, cell.target) != (model, target) or cell.budget is None or cell.quantile is not None:
                continue
            folder = _folder(cell.steps, study)
            if folder is not None and cell.method not in chosen.setdefault(cell.budget, {}):
                chosen[cell.budget][cell.method] = Selection.open(folder).ids[: cell.budget]
        budgets = [budget for budget, methods in chosen.items() if len(methods) > 1]
        if not budgets:
            continue
        at = chosen[max(budgets)]
        values = [[jaccard(a, b) for b in at.values()] for a in at.values()]
        title = f"{target}, {max(budgets):,} examples" + (f", {model}" if _several_models(results) else "")
        plot = heatmap(f"overlap-{len(found) + 1}", title, list(at), values)
        found.append(MethodOverlap(title, list(at), values, plot))
    return found


def jaccard(a: Sequence[str], b: Sequence[str]) -> float:
    """Compute |a ∩ b| / |a ∪ b|."""
    return len({*a} & {*b}) / len({*a} | {*b})


def _folder(steps: dict[str, str], study: Path) -> Path | None:
    """Return the folder of the step that made the selection."""
    for name in steps.values():
        folder = StudyLayout(study).step(name)
        if RunLayout(folder).selection.exists():
            return folder
    return None


def _several_models(results: Results) -> bool:
    return len({cell.model for cell in results.cells}) > 1
