"""What a person sees at the end of a study: every number is of ``handpick.studies.statistics``."""

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from handpick.studies.cells import Cell, Results
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
    wins,
)
from handpick.terminal import Terminal

_RHO = "* the 95% interval leaves out 0; intervals, points and p are in the report."
_SPREAD = (
    "95% intervals over seeds; better and worse: the interval of the difference from random leaves out 0; best: the "
    "best mean, be it by chance."
)


def show_results(results: Results, console: Console | None = None) -> None:
    """Show a table per metric, model and target; then correlations, wins, and what is not there.

    The loss on the queries is left to the report where there is anything else.

    Args:
        results: of a study, finished or not, or published numbers.
        console: where to; None: standard output.

    Raises:
        DataError: a value is not finite, or a cell is there twice.
    """
    console = console or Terminal()
    metrics = metrics_of(results.cells)
    metrics = [metric for metric in metrics if metric != DEV_LOSS] or metrics
    several = len({cell.model for cell in results.cells}) > 1
    for metric in metrics:
        means, differences = by_seed(results.cells, metric), against_random(results.cells, metric)
        for model, target in dict.fromkeys((row.model, row.target) for row in means if row.quantile is None):
            own = [row for row in means if (row.model, row.target, row.quantile) == (model, target, None)]
            against = {
                (row.method, row.budget): row for row in differences if (row.model, row.target) == (model, target)
            }
            title = f"{metric} on {target}" + (f", {model}" if several else "")
            console.print(_means(title, better_sign(metric), own, against))
            console.print()
    if metrics:
        console.print(Text(_SPREAD, style="dim"))
    correlations = [table for metric in metrics for table in _correlations(results.cells, metric, several)]
    for table in (*correlations, _wins(results.cells, metrics)):
        if table.row_count:
            console.print(table)
            console.print()
    if correlations:
        console.print(Text(_RHO, style="dim"))
    for line in _not_done(results.cells):
        console.print(line, soft_wrap=True)


def _means(title: str, sign: int, means: Sequence[Mean], against: dict[tuple[str, int], Difference]) -> Table:
    """Make a table of a section per budget.

    What has none, the model as it is and the full pool, comes first and is never the best.
    """
    table = _table(f"{title}: {'larger' if sign > 0 else 'smaller'} is better", "budget", "method")
    for heading in ("mean", "seeds", "minus random"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for budget in sorted({row.budget for row in means}, key=lambda budget: -1 if budget is None else budget):
        own = [row for row in means if row.budget == budget]
        best = max(sign * row.mean for row in own)
        for row in own:
            difference = None if budget is None else against.get((row.method, budget))
            is_best = budget is not None and len(own) > 1 and sign * row.mean == best
            table.add_row(
                "–" if budget is None else f"{budget:,}",
                Text(row.method),
                _with_half(row),
                str(row.n),
                "" if difference is None else f"{difference.mean:+.3g}{_interval(difference.low, difference.high)}",
                ", ".join(_marks(is_best, difference)),
                style="bold" if is_best else None,
            )
        table.add_section()
    return table


def _marks(is_best: bool, difference: Difference | None) -> Iterable[str]:
    if is_best:
        yield "best"
    if difference is not None and difference.better:
        yield "better"
    if difference is not None and difference.worse:
        yield "worse"


def _with_half(row: Mean) -> str:
    return f"{row.mean:.4g}" + ("" if row.low is None or row.high is None else f" ± {(row.high - row.low) / 2:.2g}")


def _correlations(cells: Sequence[Cell], metric: str, several: bool) -> Iterable[Table]:
    """Yield the correlations there are enough points for: what the metric is set against, by target."""
    of_losses = [] if metric == DEV_LOSS else loss_correlation(cells, metric)
    rows = [
        row
        for row in (*quantile_correlation(cells, metric), *distance_correlation(cells, metric), *of_losses)
        if row.rho is not None
    ]
    places = list(dict.fromkeys((row.target, row.model) for row in rows))
    if not rows:
        return
    table = _table(f"Spearman's rho of {metric} with", "")
    for target, model in places:
        table.add_column(Text(target + (f", {model}" if several else "")), justify="right")
    at = {(_subject(row), row.target, row.model): row for row in rows}
    for subject in dict.fromkeys(_subject(row) for row in rows):
        table.add_row(Text(subject), *(_rho(at.get((subject, *place))) for place in places))
    yield table


def _rho(row: Correlation | None) -> str:
    if row is None or row.rho is None:
        return "–"
    sure = row.low is not None and row.high is not None and not row.low <= 0 <= row.high
    return f"{row.rho:+.2f}{'*' if sure else ' '}"


def _subject(row: Correlation) -> str:
    """Return what the metric is set against."""
    at = "" if row.budget is None else f", {row.budget:,}"
    if row.method is not None:
        return f"quantile by {row.method}{at}"
    if row.distance is not None:
        return f"{row.distance.replace('_', ' ')} in {row.features}{at}"
    return "loss on the queries"


def _wins(cells: Sequence[Cell], metrics: Sequence[str]) -> Table:
    table = _table("Wins over targets and budgets", "of", "method")
    for heading in ("best", "of", "better than random", "worse", "of"):
        table.add_column(heading, justify="right", no_wrap=heading != "better than random")
    for metric in metrics:
        for row in wins(cells, metric):
            counts = (f"{row.best:.3g}", *map(str, (row.n, row.better, row.worse, row.compared)))
            table.add_row(Text(metric), Text(row.method), *counts)
        table.add_section()
    return table


def _not_done(cells: Sequence[Cell]) -> Iterable[Text]:
    """Yield how many cells failed or are missing, and the first one's reason."""
    done = sum(cell.status == "done" for cell in cells)
    yield Text(f"{done:,} of {len(cells):,} cells done")
    for status in ("failed", "missing"):
        own = [cell for cell in cells if cell.status == status]
        if own:
            first = own[0]
            budget = "" if first.budget is None else f", {first.budget:,}"
            where = f"{first.method} on {first.target}{budget}, seed {first.seed}"
            yield Text(f"{len(own):,} {status}; the first, {where}: {first.reason or 'no reason given'}")
    left_out = {cell.target: cell.left_out for cell in cells if cell.left_out}
    for target, n in left_out.items():
        yield Text(f"{n:,} test records of {target} are not in every metric; predictions.jsonl of its steps says why")


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f" ({low:+.2g} to {high:+.2g})"


def _table(title: str, *named: str) -> Table:
    """Make a table with a title on the left, and the columns of words."""
    table = Table(title=Text(title, style="bold"), title_justify="left", box=None, pad_edge=False)
    for heading in named:
        table.add_column(heading, overflow="fold")
    return table
