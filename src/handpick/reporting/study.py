"""The report of a study, or of published numbers: every number is of ``handpick.studies.statistics``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from handpick.files import atomic_write
from handpick.layout import FiguresLayout, ReportLayout
from handpick.reporting.curves import budget_curves, in_words, method_styles, quantile_curves
from handpick.reporting.overlaps import overlaps
from handpick.reporting.page import page
from handpick.reporting.plots import write_csv
from handpick.studies.cells import BASELINES, FULL, RANDOM, ZERO_SHOT, Cell, Results
from handpick.studies.statistics import (
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
    looks = method_styles(methods)
    # the loss on the queries is a means, and comes last
    metrics = sorted(metrics_of(done), key=lambda metric: metric == DEV_LOSS)
    parts = [_metric_section(place, metric, done, looks) for place, metric in enumerate(metrics, 1)]
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
        asked=_settings_lines(results.settings),
    )
    layout = ReportLayout(out)
    beside = FiguresLayout(layout.report_folder)
    beside.folder.mkdir(parents=True, exist_ok=True)
    for plot in [*plots, *(each.plot for each in shared)]:
        plot.write(beside)
    for part in parts:
        write_csv(beside.table(part["slug"]), *part["summary_csv"])
    atomic_write(layout.report, text)
    return layout.report


def _metric_section(place: int, metric: str, done: Sequence[Cell], looks: dict[str, dict[str, str]]) -> dict[str, Any]:
    """Return all that the page has on one metric."""
    cells = [cell for cell in done if value_of(cell, metric) is not None]
    plots = [
        budget_curves(f"budget-{place}", cells, metric, looks),
        quantile_curves(f"quantile-{place}", cells, metric, looks),
    ]
    means, differences = by_seed(cells, metric), against_random(cells, metric)
    return {
        "name": in_words(metric),
        "slug": f"summary-{place}",
        "larger": better_sign(metric) > 0,
        "tables": _tables(metric, means, differences),
        "plots": [plot for plot in plots if plot is not None],
        "distances": _drop_unknown(distance_correlation(cells, metric)),
        "losses": [] if metric == DEV_LOSS else _drop_unknown(loss_correlation(cells, metric)),
        "quantiles": _drop_unknown(quantile_correlation(cells, metric)),
        "wins": wins(cells, metric),
        "summary_csv": _csv(metric, means, differences),
    }


def _drop_unknown(rows: Sequence[Correlation]) -> list[Correlation]:
    """Drop those of too few points."""
    return [row for row in rows if row.rho is not None]


def _key(row: Mean | Difference) -> tuple[object, ...]:
    return row.model, row.target, row.method, row.budget


def _tables(metric: str, means: Sequence[Mean], differences: Sequence[Difference]) -> list[dict[str, Any]]:
    """Return for every model and target a table, a row per method and a column a budget.

    Of a single budget, a column per target.

    ``across`` are the model as it is and the full pool: rows of their own where a column is a target.
    """
    whole = [row for row in means if row.quantile is None]
    budgets = sorted({row.budget for row in whole if row.budget is not None})
    targets = dict.fromkeys(row.target for row in whole)
    by_target = len(budgets) == 1 and len(targets) > 1
    against = {_key(row): row for row in differences if row.method != RANDOM}
    best = _best(whole, better_sign(metric))

    def entry(row: Mean | None) -> dict[str, Any]:
        if row is None:
            return {"row": None, "difference": None, "best": False}
        is_best = best.get((row.model, row.target, row.budget)) == row.method
        return {"row": row, "difference": against.get(_key(row)), "best": is_best}

    found = []
    for model, name in dict.fromkeys((row.model, "" if by_target else row.target) for row in whole):
        own = [row for row in whole if row.model == model and name in ("", row.target)]
        columns: list[Any] = list(targets)
        across: dict[str, Mean] = {}
        if not by_target:
            columns = sorted({row.budget for row in own if row.budget is not None})
            across = {row.method: row for row in own if row.method in _SAME_ON_EVERY_BUDGET}
        at = {(row.method, row.target if by_target else row.budget): row for row in own}
        methods = dict.fromkeys(row.method for row in own if by_target or row.budget is not None)
        rows = [{"method": each, "entries": [entry(at.get((each, column))) for column in columns]} for each in methods]
        if rows or across:
            title = f"{budgets[0]:,} examples" if by_target else name
            labels = columns if by_target else [f"{budget:,}" for budget in columns]
            found.append({"title": title, "model": model, "columns": labels, "across": across, "rows": rows})
    return found


def _best(means: Sequence[Mean], sign: int) -> dict[tuple[object, ...], str]:
    """Return the method with the best mean at every place; what has no budget is in no contest."""
    found: dict[tuple[object, ...], Mean] = {}
    for row in means:
        place = (row.model, row.target, row.budget)
        if row.budget is not None and (place not in found or sign * row.mean > sign * found[place].mean):
            found[place] = row
    return {place: row.method for place, row in found.items()}


def _csv(metric: str, means: Sequence[Mean], differences: Sequence[Difference]) -> tuple[list[str], list[list[object]]]:
    against = {_key(row): row for row in differences}
    columns = ["model", "target", "method", "budget", "quantile", "n", "mean", "low", "high"]
    rows = []
    for row in means:
        difference = against.get(_key(row)) if row.quantile is None else None
        end = [None] * 3 if difference is None else [difference.mean, difference.low, difference.high]
        rows.append([metric, *(getattr(row, column) for column in columns), *end])
    return ["metric", *columns, "against random", "against random low", "against random high"], rows


def _settings_lines(settings: dict[str, Any], before: str = "") -> dict[str, str]:
    """Return settings as lines: what lies in others has its path."""
    lines: dict[str, str] = {}
    for name, value in settings.items():
        if isinstance(value, dict) and value:
            lines |= _settings_lines(value, f"{before}{name} · ")
        elif isinstance(value, list):
            lines[f"{before}{name}"] = ", ".join(map(str, value)) or "–"
        elif value not in (None, {}):
            lines[f"{before}{name}"] = str(value)
    return lines
