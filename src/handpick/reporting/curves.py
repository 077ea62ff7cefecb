"""The plots of a study: budget curves, quantile curves, distance against metric, and how alike selections are."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from handpick.reporting.plots import FAINT, NEUTRAL, Plot, panels, series_style, style
from handpick.studies.cells import Cell
from handpick.studies.statistics import DEV_LOSS, Mean, better_sign, by_seed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LEGEND = 105  # characters that fit across a figure, eight of each entry for its line

RANDOM, LINES = "random", {"zero-shot": ":", "full": "--"}


def method_styles(methods: Iterable[str]) -> dict[str, dict[str, str]]:
    """Return colour, mark and dash of each method, the same in every plot of a page."""
    own = [method for method in methods if method != RANDOM and method not in LINES]
    return {method: series_style(place) for place, method in enumerate(own)}


def budget_curves(name: str, cells: Sequence[Cell], metric: str, looks: dict[str, dict[str, str]]) -> Plot | None:
    """Plot mean and 95% interval over seeds by budget, a panel per target; None where no cell has a budget.

    Random draws are a band, what no budget changes (zero-shot, the full pool) a line across.
    """
    rows = [row for row in by_seed(cells, metric) if row.quantile is None]
    if not any(row.budget is not None for row in rows):
        return None
    with style():
        places, figure, axes = _panels(rows)
        for place, panel in zip(places, axes, strict=True):
            own = [row for row in rows if (row.model, row.target) == place]
            budgets = sorted({row.budget for row in own if row.budget is not None})
            for method in dict.fromkeys(row.method for row in own):
                of_method = [row for row in own if row.method == method]
                points = sorted((row for row in of_method if row.budget is not None), key=lambda row: row.budget or 0)
                if method in LINES and of_method:
                    _draw_level(panel, method, of_method[0].mean)
                elif method == RANDOM:
                    _draw_band(panel, points)
                elif points:
                    _draw_line(panel, [row.budget for row in points], points, method, looks[method])
            panel.set_xscale("log")
            panel.set_xticks(budgets, [f"{budget:,}" for budget in budgets])
            panel.minorticks_off()
            panel.set_xlabel("examples")
        _draw_legend(figure, axes)
    columns, table = _table(metric, rows)
    return Plot(
        name,
        f"{in_words(metric)}, by budget",
        f"Mean of {in_words(metric)} over seeds with its 95% interval, {_better(metric)}. The band is the interval of "
        "the random draws.",
        figure,
        columns,
        table,
    )


def quantile_curves(name: str, cells: Sequence[Cell], metric: str, looks: dict[str, dict[str, str]]) -> Plot | None:
    """Plot the metric after training on each quantile of the ranked pool, the nearest first.

    None where there are none.
    """
    rows = [row for row in by_seed(cells, metric) if row.quantile is not None]
    if not rows:
        return None
    with style():
        places, figure, axes = _panels(rows)
        zero_shot = {(row.model, row.target): row.mean for row in by_seed(cells, metric) if row.method == "zero-shot"}
        for place, panel in zip(places, axes, strict=True):
            own = [row for row in rows if (row.model, row.target) == place]
            for method in dict.fromkeys(row.method for row in own):
                points = sorted((row for row in own if row.method == method), key=lambda row: row.quantile or 0)
                _draw_line(panel, [row.quantile for row in points], points, method, looks[method])
            if place in zero_shot:
                _draw_level(panel, "zero-shot", zero_shot[place])
            panel.set_xlabel("quantile, nearest to the queries first")
        _draw_legend(figure, axes)
    columns, table = _table(metric, rows)
    return Plot(
        name,
        f"{in_words(metric)}, by quantile",
        f"After training on each quantile of the pool in the method’s order: {in_words(metric)}, {_better(metric)}. "
        "Where a representation is good, nearer quantiles do better.",
        figure,
        columns,
        table,
    )


def heatmap(name: str, title: str, methods: Sequence[str], values: Sequence[Sequence[float]]) -> Plot:
    """Plot a square table of numbers from 0 to 1; the page itself has it as a table."""
    with style():
        figure, (axes,) = panels(1, width=1.6 + 0.55 * len(methods), height=1.2 + 0.5 * len(methods))
        axes.imshow(values, cmap="Blues", vmin=0, vmax=1)
        axes.set_xticks(range(len(methods)), methods, rotation=40, ha="right")
        axes.set_yticks(range(len(methods)), methods)
        axes.grid(False)
        for row, own in enumerate(values):
            for column, value in enumerate(own):
                colour = "white" if value > 0.6 else "black"
                axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=colour, fontsize=8)
    rows = [[methods[a], methods[b], value] for a, own in enumerate(values) for b, value in enumerate(own)]
    return Plot(name, title, title, figure, ["method", "other", "jaccard"], rows)


def _panels(rows: Sequence[Mean]) -> tuple[list[tuple[str, str]], Any, list["Axes"]]:
    """Make a panel for every model and target."""
    places = list(dict.fromkeys((row.model, row.target) for row in rows))
    figure, axes = panels(len(places))
    several = len({model for model, _ in places}) > 1
    for (model, target), panel in zip(places, axes, strict=True):
        panel.set_title(f"{target}, {model}" if several else target)
    return places, figure, axes


def _draw_line(axes: "Axes", at: Sequence[Any], rows: Sequence[Mean], method: str, look: dict[str, str]) -> None:
    axes.plot(at, [row.mean for row in rows], label=method, **look)  # type: ignore[arg-type]
    for x, row in zip(at, rows, strict=True):
        if row.low is not None and row.high is not None:
            axes.plot([x, x], [row.low, row.high], color=look["color"], linewidth=1, alpha=0.6)


def _draw_band(axes: "Axes", rows: Sequence[Mean]) -> None:
    at = [row.budget or 0 for row in rows]
    axes.plot(at, [row.mean for row in rows], label=RANDOM, color=NEUTRAL, linewidth=1.2)
    low = [row.mean if row.low is None else row.low for row in rows]
    high = [row.mean if row.high is None else row.high for row in rows]
    if len(rows) == 1:  # a band of one budget has no width: a bar
        axes.plot(at * 2, [low[0], high[0]], color=NEUTRAL, linewidth=5, alpha=0.3)
    axes.fill_between(at, low, high, color=NEUTRAL, alpha=0.2, linewidth=0)


def _draw_level(axes: "Axes", method: str, mean: float) -> None:
    axes.axhline(mean, label=method, color=FAINT, linestyle=LINES[method], linewidth=1.2)


def _draw_legend(figure: Any, axes: Sequence["Axes"]) -> None:
    """Draw one legend for all panels, above them."""
    named: dict[str, Any] = {}
    for panel in axes:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            named.setdefault(label, handle)
    across = max(1, _LEGEND // (max(map(len, named)) + 8))
    figure.legend(named.values(), named.keys(), loc="outside upper left", ncols=min(5, across), fontsize=9)


def _table(metric: str, rows: Sequence[Mean]) -> tuple[list[str], list[list[object]]]:
    columns = ["model", "target", "method", "budget", "quantile", "mean", "low", "high", "n"]
    return ["metric", *columns], [[metric, *(getattr(row, column) for column in columns)] for row in rows]


def in_words(metric: str) -> str:
    """Return a metric's name in words."""
    return {"loss": "loss on the tests", DEV_LOSS: "loss on the queries"}.get(metric, metric)


def _better(metric: str) -> str:
    return "larger is better" if better_sign(metric) > 0 else "smaller is better"
