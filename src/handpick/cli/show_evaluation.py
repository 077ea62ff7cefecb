"""What ``handpick evaluate`` prints."""

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from handpick.evaluation.difference import PairedDifferences
from handpick.evaluation.estimate import Estimate
from handpick.evaluation.evaluate import Evaluation
from handpick.evaluation.settings import EvaluateSettings, TaskSettings
from handpick.evaluation.versus import Match
from handpick.terminal import console


def show_evaluations(
    found: Mapping[str, Evaluation], tasks: Mapping[str, TaskSettings], settings: EvaluateSettings
) -> None:
    """Show the metrics of every task, and those of its subtasks."""
    table = Table(title="Metrics, with 95% intervals over examples", title_justify="left")
    for heading in ("task", "metric", "value", "95% interval", "examples"):
        table.add_column(heading, justify="left" if heading in ("task", "metric") else "right", overflow="fold")
    for name, evaluation in found.items():
        for metric, estimate in evaluation.metrics.items():
            table.add_row(Text(name), Text(metric), *_cells(estimate), f"{estimate.n:,}")
            if metric in evaluation.macro and len(evaluation.subtasks) > 1:
                macro = evaluation.macro[metric]
                what = f"{metric}, mean of {len(evaluation.subtasks)} subtasks"
                table.add_row("", Text(what), *_cells(macro), f"{macro.n:,}")
    console.print(table)
    for name, evaluation in found.items():
        if len(evaluation.subtasks) > 1:
            console.print(_by_subtask(name, evaluation))
        if evaluation.left_out:
            console.print(f"{name}: {evaluation.left_out:,} records left out; the predictions say why")
        if "loss" not in tasks[name].metrics or len(tasks[name].metrics) > 1:
            console.print(f"answers and scores: {settings.name_of(settings.layout.predictions(name))}", soft_wrap=True)
    console.print(f"all of it: {settings.name_of(settings.layout.evaluation)}", soft_wrap=True)


def _by_subtask(name: str, evaluation: Evaluation) -> Any:
    table = Table(title=Text(f"{name} by subtask"), title_justify="left")
    table.add_column("subtask", overflow="fold")
    for metric in evaluation.metrics:
        table.add_column(Text(metric), justify="right", overflow="fold")
    table.add_column("examples", justify="right")
    for subtask, estimates in evaluation.subtasks.items():
        cells = [" ".join(_cells(estimates[m])) if m in estimates else "–" for m in evaluation.metrics]
        table.add_row(Text(subtask), *map(Text, cells), f"{max(e.n for e in estimates.values()):,}")
    return table


def _cells(estimate: Estimate) -> tuple[str, str]:
    """Return value and interval; an interval that cannot be had is a dash."""
    has_interval = estimate.low == estimate.low
    return f"{estimate.value:.4f}", f"[{estimate.low:.4f}, {estimate.high:.4f}]" if has_interval else "–"


def show_differences(found: PairedDifferences, a: str, b: str) -> None:
    """Show a line a metric: both means, and the difference test by test with its interval."""
    table = Table(
        title="Differences, test by test, with 95% intervals over examples",
        title_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    for heading in ("task", "metric", "first", "second", "difference", "95% interval", "tests"):
        justify = "left" if heading in ("task", "metric") else "right"
        table.add_column(Text(heading), justify=justify, overflow="fold")  # type: ignore[arg-type]
    for task, differences in found.tasks.items():
        for metric, each in differences.items():
            means = (f"{each.a.value:.4f}", f"{each.b.value:.4f}")
            table.add_row(Text(task), Text(metric), *means, *_cells(each.difference), f"{each.difference.n:,}")
    console.print(table)
    console.print(Text(f"first: {a}"), soft_wrap=True)
    console.print(Text(f"second: {b}"), soft_wrap=True)
    for task, differences in found.tasks.items():
        for metric, each in differences.items():
            if each.alone:
                console.print(f"{task}, {metric}: {each.alone:,} records that only one has a value of are left out")
    if not found.same_tokens:
        console.print(
            "The two models do not read a text as the same tokens: a smaller loss of one is no better model.",
            soft_wrap=True,
        )
    console.print(
        "difference: the first minus the second, so of loss below 0 the first is better, of all else above. Where the "
        "interval leaves out 0, that is more than the choice of tests; another training seed is not in it.",
        soft_wrap=True,
    )


def show_match(found: Match, versus: str, settings: EvaluateSettings) -> None:
    """Show who won how often, and how sure that is."""
    value, interval = _cells(found.winning_score)
    console.print(
        f"{settings.model} against {versus}: {found.wins:,} won, {found.ties:,} tied, {found.losses:,} lost",
        soft_wrap=True,
    )
    console.print(f"winning score {value}, 95% interval {interval}; 1 is even, 2 is all won")
    if found.flipped or found.missing:
        console.print(f"{found.flipped:,} ties because the two orders disagree; {found.missing:,} without a verdict")
    console.print(f"every verdict: {settings.name_of(settings.layout.versus_verdicts)}", soft_wrap=True)


def show_harness(found: Mapping[str, Mapping[str, float]], settings: EvaluateSettings) -> None:
    """Show what lm-evaluation-harness has found."""
    table = Table(title="lm-evaluation-harness", title_justify="left")
    for heading in ("task", "metric", "value", "its standard error"):
        table.add_column(heading, justify="left" if heading in ("task", "metric") else "right")
    for task, metrics in found.items():
        for name, value in metrics.items():
            if "_stderr" not in name:
                metric, comma, kind = name.partition(",")
                error = metrics.get(f"{metric}_stderr{comma}{kind}")
                table.add_row(Text(task), Text(name), f"{value:.4f}", "–" if error is None else f"{error:.4f}")
    console.print(table)
    console.print(f"all of it: {settings.name_of(settings.layout.lm_eval)}", soft_wrap=True)
