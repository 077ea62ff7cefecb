"""``handpick plan``: what a command will cost."""

import inspect
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from handpick.cli.app import BEFORE, REPRESENT, SELECT, app
from handpick.cli.evaluate import evaluate as evaluate_command
from handpick.cli.given import files_by_task, given_of
from handpick.cli.options import takes
from handpick.cli.plainly import plainly
from handpick.cli.train import Model, Recipe, Selection, known_recipe, with_recipe
from handpick.settings import Settings, checked

if TYPE_CHECKING:
    from handpick.planning import Plan

plan_app = typer.Typer(
    help="Say what a command will cost, before it starts: tokens, operations, disk, memory, and time from a probe.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
app.add_typer(plan_app, name="plan", rich_help_panel=BEFORE)

_OF_A_TASK = {
    "metric": "metrics",
    "choice": "choices",
    "example_field": "example_field",
    "subtask_field": "subtask_field",
    "limit": "limit",
    "max_new_tokens": "max_new_tokens",
    "stop": "stop",
    "samples": "samples",
    "temperature": "temperature",
}
_MEASURING = {
    *_OF_A_TASK,
    "model",
    "target",
    "base",
    "dtype",
    "max_length",
    "batch_tokens",
    "out",
    "allow_code_execution",
}
_JSON = Annotated[bool, typer.Option("--json", help="For machines: bytes, seconds, operations.")]
_PROBE = Annotated[float, typer.Option(help="Seconds to compute for, to see how fast this machine is.", min=1)]


def _plans(fields: Sequence[str]) -> Callable[[Callable[[Settings, float], "Plan"]], Callable[..., None]]:
    """A decorator: the command gets flags for these settings, ``--json`` and ``--probe``, and its plan is shown."""

    def decorate(plan: Callable[[Settings, float], "Plan"]) -> Callable[..., None]:
        def command(*, as_json: bool, probe: float, **flags: Any) -> None:
            def show(settings: dict[str, Any]) -> None:
                with plainly():
                    _show(plan(checked(settings, where="--"), probe), as_json=as_json)

            takes(fields)(show)(**flags)

        parameters = [
            *inspect.signature(takes(fields)(lambda settings: None)).parameters.values(),
            inspect.Parameter("as_json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=_JSON),
            inspect.Parameter("probe", inspect.Parameter.KEYWORD_ONLY, default=10.0, annotation=_PROBE),
        ]
        command.__name__, command.__doc__ = plan.__name__, plan.__doc__
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return command

    return decorate


@plan_app.command()
@_plans(SELECT)
def select(settings: Settings, probe: float) -> "Plan":
    """What `handpick select` with the same flags will take.

    handpick plan select --pool pool.jsonl.gz --query gsm8k_dev.jsonl.gz --model MODEL
    """
    from handpick.planning import plan_select

    return plan_select(settings, probe)


@plan_app.command()
@_plans(REPRESENT)
def represent(settings: Settings, probe: float) -> "Plan":
    """What `handpick represent` with the same flags will take."""
    from handpick.planning import plan_represent

    return plan_represent(settings, probe)


@plan_app.command()
@with_recipe
def train(
    selection: Selection,
    settings: dict[str, Any],
    model: Model = None,
    recipe: Recipe = "auto",
    as_json: _JSON = False,
    probe: _PROBE = 10.0,
) -> None:
    """What `handpick train` with the same flags will take.

    handpick plan train --selection runs/gsm8k --model MODEL
    """
    with plainly():
        from handpick.planning import plan_train

        _show(plan_train(selection, model, recipe=known_recipe(recipe), seconds=probe, **settings), as_json=as_json)


def _of_tasks(function: Callable[..., None]) -> Callable[..., None]:
    """A decorator: the flags of `handpick evaluate` that measure on tasks, ``--json`` and ``--probe``."""
    kept = [each for each in inspect.signature(evaluate_command).parameters.values() if each.name in _MEASURING]
    own = [each for each in inspect.signature(function).parameters.values() if each.kind is not each.VAR_KEYWORD]
    parameters = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in (*kept, *own)]
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    function.__annotations__ = {each.name: each.annotation for each in parameters}
    return function


@plan_app.command()
@_of_tasks
def evaluate(as_json: _JSON = False, probe: _PROBE = 10.0, **flags: Any) -> None:
    """What `handpick evaluate` with the same flags will take, on tasks.

    handpick plan evaluate --model MODEL --target gsm8k_test.jsonl --metric exact-match:last-number
    """
    with plainly():
        from handpick.errors import SettingsError
        from handpick.evaluation.run import EvaluateSettings, checked_task
        from handpick.planning import plan_evaluate

        given = {name: str(value) if name == "out" else value for name, value in given_of(flags).items()}
        if "target" not in given:
            raise SettingsError("nothing to measure: give --target FILE")
        targets = files_by_task(given.pop("target"))
        task = {ours: given.pop(flag) for flag, ours in _OF_A_TASK.items() if flag in given}
        settings = EvaluateSettings.checked(given)
        tasks = {name: checked_task(task | {"files": files}) for name, files in targets.items()}
        _show(plan_evaluate(settings, tasks, probe), as_json=as_json)


@plan_app.command()
def study(
    config: Annotated[Path, typer.Argument(help="The YAML file of `handpick study`.")],
    as_json: _JSON = False,
    probe: _PROBE = 10.0,
) -> None:
    """What is left of a study: selections, fine-tunings and evaluations that are not there yet.

    handpick plan study study.yaml
    """
    with plainly():
        from handpick.planning import plan_study
        from handpick.studies.settings import StudySettings

        _show(plan_study(StudySettings.from_yaml(config), probe), as_json=as_json)


def _show(plan: "Plan", *, as_json: bool) -> None:
    from handpick.cli.show_plan import show_plan

    typer.echo(json.dumps(plan.to_json(), indent=1)) if as_json else show_plan(plan)
