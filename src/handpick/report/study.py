"""The report of a study, or of published numbers: every number is of ``handpick.study.statistics``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from handpick.report.curves import budget_curves, looks_of, quantile_curves, spoken
from handpick.report.overlaps import overlaps
from handpick.report.page import page
from handpick.report.plots import write_csv
from handpick.store.files import write_whole
from handpick.study.cells import BASELINES, FULL, RANDOM, ZERO_SHOT, Cell, Results
from handpick.study.statistics import (
    DEV_LOSS,
    Correlation,
    Difference,
    Mean,
    against_random,
    better_sign,
    by_seed,
    distance_correlation,
    loss_correlation,
    metrics_of,
    quantile_correlation,
    value_of,
    wins,
)

_SAME_ON_EVERY_BUDGET = (ZERO_SHOT, FULL)


def write_study_report(results: Results, out: Path, *, study: Path | None = None) -> Path:
    """Write ``report.html`` into ``out``, and its plots and tables as PNG and CSV into ``report`` beside it.

    Equal results give equal bytes.

    Args:
        results: the cells.
        out: folder to write to, made if need be.
        study: the study's own folder, in which the selections are looked up for their overlap; None for numbers
            without selections.

    Returns:
        The page.

    Raises:
        StoreError: a file cannot be written.
    """
    done = [cell for cell in results.cells if cell.status == "done"]
    methods = list(dict.fromkeys(cell.method for cell in done))
    looks = looks_of(methods)
    parts = [_part(place, metric, done, looks) for place, metric in enumerate(metrics_of(done), 1)]
    shared = [] if study is None else overlaps(results, study)
    plots = [plot for part in parts for plot in part["plots"]]
    text = page(
        "study.html.jinja",
        title=results.name,
        results=results,
        done=len(done),
        models=list(dict.fromkeys(cell.model for cell in results.cells)),
        targets=list(dict.fromkeys(cell.target for cell in results.cells)),
        methods=[method for method in methods if method not in BASELINES],
        seconds=sum(cell.seconds or 0.0 for cell in results.cells),
        not_done=[cell for cell in results.cells if cell.status != "done"],
        parts=parts,
        overlaps=shared,
        asked=_asked(results.settings),
    )
    beside = out / "report"
    beside.mkdir(parents=True, exist_ok=True)
    for plot in [*plots, *(each.plot for each in shared)]:
        plot.write(beside)
    for part in parts:
        write_csv(beside / f"{part['slug']}.csv", *part["summary_csv"])
    write_whole(out / "report.html", text)
    return out / "report.html"


def _part(place: int, metric: str, done: Sequence[Cell], looks: dict[str, dict[str, str]]) -> dict[str, Any]:
    """All that the page has on one metric."""
    cells = [cell for cell in done if value_of(cell, metric) is not None]
    plots = [
        budget_curves(f"budget-{place}", cells, metric, looks),
        quantile_curves(f"quantile-{place}", cells, metric, looks),
    ]
    means, differences = by_seed(cells, metric), against_random(cells, metric)
    return {
        "name": spoken(metric),
        "slug": f"summary-{place}",
        "larger": better_sign(metric) > 0,
        "tables": _tables(metric, means, differences),
        "plots": [plot for plot in plots if plot is not None],
        "distances": _known(distance_correlation(cells, metric)),
        "losses": [] if metric == DEV_LOSS else _known(loss_correlation(cells, metric)),
        "quantiles": _known(quantile_correlation(cells, metric)),
        "wins": wins(cells, metric),
        "summary_csv": _csv(metric, means, differences),
    }


def _known(rows: Sequence[Correlation]) -> list[Correlation]:
    """Without those of too few points."""
    return [row for row in rows if row.rho is not None]


def _key(row: Mean | Difference) -> tuple[object, ...]:
    return row.model, row.target, row.method, row.budget


def _tables(metric: str, means: Sequence[Mean], differences: Sequence[Difference]) -> list[dict[str, Any]]:
    """For every model and target, a row a method and a column a budget."""
    sign = better_sign(metric)
    against = {_key(row): row for row in differences}
    found = []
    for model, target in dict.fromkeys((row.model, row.target) for row in means):
        own = [row for row in means if (row.model, row.target, row.quantile) == (model, target, None)]
        budgets = sorted({row.budget for row in own if row.budget is not None})
        across = {row.method: row for row in own if row.method in _SAME_ON_EVERY_BUDGET}
        at = {(row.method, row.budget): row for row in own}
        best = {
            budget: max((row for row in own if row.budget == budget), key=lambda row: sign * row.mean).method
            for budget in budgets
        }
        rows = []
        for method in dict.fromkeys(row.method for row in own if row.budget is not None):
            entries = []
            for budget in budgets:
                row = at.get((method, budget))
                difference = None if row is None or method == RANDOM else against.get(_key(row))
                entries.append({"row": row, "difference": difference})
            rows.append({"method": method, "entries": entries})
        found.append(
            {"model": model, "target": target, "budgets": budgets, "across": across, "best": best, "rows": rows}
        )
    return [table for table in found if table["rows"] or table["across"]]


def _csv(metric: str, means: Sequence[Mean], differences: Sequence[Difference]) -> tuple[list[str], list[list[object]]]:
    against = {_key(row): row for row in differences}
    columns = ["model", "target", "method", "budget", "quantile", "n", "mean", "low", "high"]
    rows = []
    for row in means:
        difference = against.get(_key(row)) if row.quantile is None else None
        end = [None] * 3 if difference is None else [difference.mean, difference.low, difference.high]
        rows.append([metric, *(getattr(row, column) for column in columns), *end])
    return ["metric", *columns, "against random", "against random low", "against random high"], rows


def _asked(settings: dict[str, Any], before: str = "") -> dict[str, str]:
    """Settings as lines: what lies in others has its path."""
    lines: dict[str, str] = {}
    for name, value in settings.items():
        if isinstance(value, dict) and value:
            lines |= _asked(value, f"{before}{name} · ")
        elif isinstance(value, list):
            lines[f"{before}{name}"] = ", ".join(map(str, value)) or "–"
        elif value not in (None, {}):
            lines[f"{before}{name}"] = str(value)
    return lines
