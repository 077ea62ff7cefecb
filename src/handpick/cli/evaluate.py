"""``handpick evaluate``: a model's loss and answers on tasks, or against another model."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from handpick.cli.app import TRAIN, app
from handpick.cli.given import files_by_task, given_of
from handpick.cli.judging import JUDGE_FLAGS, with_judge
from handpick.cli.plainly import plainly
from handpick.layout import EvaluationLayout

if TYPE_CHECKING:
    from collections.abc import Mapping

    from handpick.evaluation.estimate import Estimate
    from handpick.evaluation.evaluate import Evaluation
    from handpick.evaluation.task import TaskSettings
    from handpick.evaluation.versus import Match

_HOW, _ANSWERS, _VERSUS, _HARNESS = "How", "Answers", "Against another model, and judges", "lm-evaluation-harness"
# by the name of the setting: the flags that are refused where nothing would read them
_FLAGS = {
    "metrics": "--metric",
    "choices": "--choice",
    "samples": "--samples",
    "temperature": "--temperature",
}
Strings = list[str] | None


@app.command(rich_help_panel=TRAIN)
@with_judge(_VERSUS)
def evaluate(
    model: Annotated[str, typer.Option(help="Base model, fine-tuned model's folder or adapter's.", metavar="DIR|NAME")],
    target: Annotated[
        Strings,
        typer.Option(help="Test file of a task; several. Files of one NAME are one task.", metavar="[NAME=]FILE"),
    ] = None,
    metric: Annotated[
        Strings,
        typer.Option(
            help="loss (the default), choice-likelihood, pass@K, ifeval, a reward such as exact-match:last-number, or "
            "a function of your own, my_metrics.py:politeness; several."
        ),
    ] = None,
    choice: Annotated[
        Strings, typer.Option(help="choice-likelihood: an answer to choose from, where records have none; several.")
    ] = None,
    example_field: Annotated[
        str | None, typer.Option(help="Field that repetitions of one example share; they count as one.", metavar="NAME")
    ] = None,
    subtask_field: Annotated[
        str | None, typer.Option(help="Field that names a record's subtask (default: subtask).", metavar="NAME")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="A fixed random sample of so many records.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for evaluation.json and predictions (default: runs/evaluation-MODEL).", metavar="DIR"
        ),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(
            help="An adapter's base model, where it is not the one it names.", metavar="DIR|NAME", rich_help_panel=_HOW
        ),
    ] = None,
    dtype: Annotated[
        str,
        typer.Option(help="What the model computes in.", metavar="auto|float32|bfloat16|float16", rich_help_panel=_HOW),
    ] = "float32",
    max_length: Annotated[
        int | None,
        typer.Option(help="Tokens of a conversation (default: 2048, or what it can read).", rich_help_panel=_HOW),
    ] = None,
    batch_tokens: Annotated[
        int | None, typer.Option(help="Padded tokens of a batch, at most.", rich_help_panel=_HOW)
    ] = None,
    max_new_tokens: Annotated[
        int | None, typer.Option(help="Tokens of an answer, at most (default: 256).", rich_help_panel=_ANSWERS)
    ] = None,
    stop: Annotated[Strings, typer.Option(help="Text that ends an answer; several.", rich_help_panel=_ANSWERS)] = None,
    samples: Annotated[
        int | None,
        typer.Option(
            help="pass@K: answers a prompt (default: 2 K; 1 greedy one for pass@1).", rich_help_panel=_ANSWERS
        ),
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(help="pass@K: of sampling (default: 0.8).", rich_help_panel=_ANSWERS)
    ] = None,
    allow_code_execution: Annotated[
        bool,
        typer.Option(
            "--allow-code-execution",
            help="pass@K, unit-tests: run the model's code, in a sandbox.",
            rich_help_panel=_ANSWERS,
        ),
    ] = False,
    allow_weak_sandbox: Annotated[
        bool,
        typer.Option(
            "--allow-weak-sandbox",
            help="Run it also where nothing shuts it off from files and network.",
            rich_help_panel=_ANSWERS,
        ),
    ] = False,
    versus: Annotated[
        str | None, typer.Option(help="Another model, which answers too.", metavar="DIR|NAME", rich_help_panel=_VERSUS)
    ] = None,
    prompts: Annotated[
        Strings, typer.Option(help="What both answer; several.", metavar="FILE", rich_help_panel=_VERSUS)
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(
            help="Who compares: a model by its server's name for it, one to load here, or a reward, whose higher score "
            "wins.",
            metavar="MODEL|local:PATH|REWARD",
            rich_help_panel=_VERSUS,
        ),
    ] = None,
    *,
    judging: dict[str, Any],
    lm_eval: Annotated[
        str | None,
        typer.Option(help="Tasks of the harness, with commas between.", metavar="TASKS", rich_help_panel=_HARNESS),
    ] = None,
    lm_eval_include: Annotated[
        Path | None, typer.Option(help="Folder of task files of your own.", metavar="DIR", rich_help_panel=_HARNESS)
    ] = None,
    lm_eval_chat: Annotated[
        bool, typer.Option("--lm-eval-chat", help="Write prompts with the chat template.", rich_help_panel=_HARNESS)
    ] = False,
) -> None:
    """Measure a model on tasks, with 95% intervals, or against another model. Answers are kept and not made again.

    handpick evaluate --model runs/gsm8k/model --target gsm8k_test.jsonl --metric exact-match:last-number --metric loss

    handpick evaluate --model A --versus B --prompts p.jsonl --judge gpt-5-mini --judge-temperature none

    handpick evaluate --model A --lm-eval gsm8k,bbh
    """
    given = {
        "model": model,
        "base": base,
        "dtype": dtype,
        "max_length": max_length,
        "batch_tokens": batch_tokens,
        "out": None if out is None else str(out),
        "allow_code_execution": allow_code_execution,
        "allow_weak_sandbox": allow_weak_sandbox,
        "judge": judging,
    }
    of_metrics = {"metrics": metric, "choices": choice, "samples": samples, "temperature": temperature}
    task = {
        "example_field": example_field,
        "subtask_field": subtask_field,
        "limit": limit,
        "max_new_tokens": max_new_tokens,
        "stop": stop,
    }
    with plainly():
        from handpick.errors import SettingsError
        from handpick.evaluation.run import EvaluateSettings, checked_task, run_evaluate, run_harness, run_versus

        if not (target or versus or lm_eval):
            raise SettingsError(
                "nothing to measure: give --target FILE, or --versus with --prompts, or --lm-eval TASKS"
            )
        if (versus is None) != (prompts is None) or (versus is not None and judge is None):
            raise SettingsError("--versus needs --prompts FILE and --judge MODEL (or a reward), and they need it")
        if versus is None and judge is not None:
            raise SettingsError("--judge is for --versus; to have a judge grade answers, give --metric judge:MODEL")
        if not target:
            _refuse_without_task(given_of(of_metrics))
        if not any(each.startswith("judge:") for each in metric or ()):
            _refuse_without_judge(judging, judge)
        settings = EvaluateSettings.checked(given_of(given))
        if target:
            tasks = {
                name: checked_task(given_of(of_metrics | task) | {"files": files})
                for name, files in files_by_task(target).items()
            }
            _show_evaluations(run_evaluate(settings, tasks), tasks, EvaluationLayout(settings.folder))
        if versus is not None and judge is not None:
            asked = checked_task(given_of(task) | {"files": prompts})
            _show_match(run_versus(settings, versus, asked, judge), model, versus, EvaluationLayout(settings.folder))
        if lm_eval:
            names = [name.strip() for name in lm_eval.split(",") if name.strip()]
            found = run_harness(settings, names, limit=limit, include=lm_eval_include, chat=lm_eval_chat)
            _show_harness(found, EvaluationLayout(settings.folder))


def _refuse_without_task(of_metrics: "Mapping[str, Any]") -> None:
    """Without a task nobody would read what is given for its metrics."""
    from handpick.errors import SettingsError

    for name in of_metrics:
        flag = _FLAGS[name]
        raise SettingsError(f"{flag} is for the tasks of --target, and there is none: leave {flag} out")


def _refuse_without_judge(judging: "Mapping[str, Any]", judge: str | None) -> None:
    """Without a metric that a judge grades, its settings are for the one that compares, if that is no rule."""
    from handpick.errors import SettingsError
    from handpick.evaluation.run import is_rule

    if judge is not None and (judge.startswith("judge:") or not is_rule(judge)):
        return
    for name in judging:
        flag, there = JUDGE_FLAGS[name], "there is none here" if judge is None else f"{judge} is a rule"
        raise SettingsError(
            f"{flag} is for a language model that judges, and {there}: leave {flag} out, or name one "
            "(--metric judge:MODEL, or --versus with --judge MODEL)"
        )


def _show_evaluations(
    found: "Mapping[str, Evaluation]", tasks: "Mapping[str, TaskSettings]", layout: EvaluationLayout
) -> None:
    from rich.table import Table
    from rich.text import Text

    from handpick.cli.show import console

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
            console.print(f"answers and scores: {layout.predictions(name)}", soft_wrap=True)
    console.print(f"all of it: {layout.evaluation}", soft_wrap=True)


def _by_subtask(name: str, evaluation: "Evaluation") -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(f"{name} by subtask"), title_justify="left")
    table.add_column("subtask", overflow="fold")
    for metric in evaluation.metrics:
        table.add_column(Text(metric), justify="right", overflow="fold")
    table.add_column("examples", justify="right")
    for subtask, estimates in evaluation.subtasks.items():
        cells = [" ".join(_cells(estimates[m])) if m in estimates else "–" for m in evaluation.metrics]
        table.add_row(Text(subtask), *map(Text, cells), f"{max(e.n for e in estimates.values()):,}")
    return table


def _cells(estimate: "Estimate") -> tuple[str, str]:
    """Value and interval; an interval that cannot be had is a dash."""
    has_interval = estimate.low == estimate.low
    return f"{estimate.value:.4f}", f"[{estimate.low:.4f}, {estimate.high:.4f}]" if has_interval else "–"


def _show_match(found: "Match", model: str, versus: str, layout: EvaluationLayout) -> None:
    from handpick.cli.show import console

    value, interval = _cells(found.winning_score)
    console.print(
        f"{model} against {versus}: {found.wins:,} won, {found.ties:,} tied, {found.losses:,} lost", soft_wrap=True
    )
    console.print(f"winning score {value}, 95% interval {interval}; 1 is even, 2 is all won")
    if found.flipped or found.missing:
        console.print(f"{found.flipped:,} ties because the two orders disagree; {found.missing:,} without a verdict")
    console.print(f"every verdict: {layout.versus_verdicts}", soft_wrap=True)


def _show_harness(found: "Mapping[str, Mapping[str, float]]", layout: EvaluationLayout) -> None:
    from rich.table import Table
    from rich.text import Text

    from handpick.cli.show import console

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
    console.print(f"all of it: {layout.lm_eval}", soft_wrap=True)
