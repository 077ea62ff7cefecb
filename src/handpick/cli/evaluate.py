"""``handpick evaluate``: a model's loss and answers on tasks, or against another model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from handpick.cli.app import TRAIN, app
from handpick.cli.errors import report_errors
from handpick.cli.first_screen import add_command
from handpick.cli.flags_from_settings import Style, flags_of, with_flags
from handpick.cli.targets import Target, tasks_of
from handpick.cli.unused_flags import refuse_unread, refuse_unread_judge
from handpick.data.reading import ReadingSettings
from handpick.evaluation.settings import ANSWERS, HOW, JUDGES, EvaluateSettings, TaskSettings
from handpick.flag_names import parse_settings

_HARNESS = "lm-evaluation-harness"
HEADINGS = (HOW, ANSWERS, JUDGES, _HARNESS)
SENTENCES = Style(sentences=True)
TASK_FLAGS = flags_of(TaskSettings, style=SENTENCES)
_OF_PROMPTS = (
    "example_field",
    "limit",
    "max_new_tokens",
    "stop",
    *ReadingSettings.model_fields,
)  # what holds for --prompts too


@add_command(
    app,
    *("model", "target", "metric", "out", "limit", "max_new_tokens", "versus", "prompts", "judge", "lm_eval"),
    rich_help_panel=TRAIN,
)
@with_flags(settings=flags_of(EvaluateSettings, style=SENTENCES), task=TASK_FLAGS, headings=HEADINGS)
def evaluate(
    target: Target = None,
    versus: Annotated[
        str | None, typer.Option(help="Another model, which answers too.", metavar="DIR|NAME", rich_help_panel=JUDGES)
    ] = None,
    prompts: Annotated[
        list[str] | None, typer.Option(help="What both answer; several.", metavar="FILE", rich_help_panel=JUDGES)
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(
            help="Who compares: a model by its server's name for it, one to load here, or a reward, whose higher score "
            "wins.",
            metavar="MODEL|local:PATH|REWARD",
            rich_help_panel=JUDGES,
        ),
    ] = None,
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
    *,
    task: dict[str, Any],
    settings: dict[str, Any],
) -> None:
    """Measure a model on tasks, with 95% intervals, or against another model.

    handpick evaluate --model runs/dev/model --target test.jsonl --metric exact-match:last-number --metric loss

    handpick evaluate --model A --versus B --prompts p.jsonl --judge gpt-5-mini --judge-temperature none

    handpick evaluate --model A --lm-eval gsm8k,bbh

    Answers are kept and not made again.
    """
    with report_errors():
        _refuse_what_lacks(target, versus, prompts, judge, lm_eval)
        of_harness = {"lm_eval_include": lm_eval_include, "lm_eval_chat": lm_eval_chat}
        refuse_unread(task, settings, of_harness, target=target, versus=versus, lm_eval=lm_eval)
        refuse_unread_judge(task, settings, judge)
        checked = EvaluateSettings.from_values(settings)
        if target:
            _measure(checked, tasks_of(target, task))
        if versus is not None and prompts is not None and judge is not None:
            _compare(checked, versus, task, prompts, judge)
        if lm_eval:
            _run_harness(checked, lm_eval, task, lm_eval_include, chat=lm_eval_chat)


def _refuse_what_lacks(
    target: list[str] | None, versus: str | None, prompts: list[str] | None, judge: str | None, lm_eval: str | None
) -> None:
    from handpick.errors import SettingsError

    if not (target or versus or lm_eval):
        raise SettingsError("nothing to measure: give --target FILE, or --versus with --prompts, or --lm-eval TASKS")
    if (versus is None) != (not prompts) or (versus is not None and judge is None):
        raise SettingsError("--versus needs --prompts FILE and --judge MODEL (or a reward), and they need it")
    if versus is None and judge is not None:
        raise SettingsError("--judge is for --versus; to have a judge grade answers, give --metric judge:MODEL")


def _measure(settings: EvaluateSettings, tasks: Mapping[str, TaskSettings]) -> None:
    from handpick.cli.show_evaluation import show_evaluations
    from handpick.evaluation.run import run_evaluate

    show_evaluations(run_evaluate(settings, tasks), tasks, settings)


def _compare(settings: EvaluateSettings, versus: str, task: Mapping[str, Any], prompts: list[str], judge: str) -> None:
    from handpick.cli.show_evaluation import show_match
    from handpick.evaluation.run import run_versus

    own = {name: value for name, value in task.items() if name in _OF_PROMPTS}
    asked = parse_settings(TaskSettings, own | {"files": prompts})
    show_match(run_versus(settings, versus, asked, judge), versus, settings)


def _run_harness(
    settings: EvaluateSettings, tasks: str, task: Mapping[str, Any], include: Path | None, *, chat: bool
) -> None:
    from handpick.cli.show_evaluation import show_harness
    from handpick.evaluation.run import run_harness

    names = [name.strip() for name in tasks.split(",") if name.strip()]
    own = {name: value for name, value in task.items() if name == "limit"}
    limit = parse_settings(TaskSettings, own | {"files": ["-"]}).limit
    show_harness(run_harness(settings, names, limit=limit, include=include, chat=chat), settings)
