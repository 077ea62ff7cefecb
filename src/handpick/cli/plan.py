"""``handpick plan``: what a command will cost."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from handpick.auditions.settings import AuditionSettings
from handpick.cli.app import (
    AUDITION_FLAGS,
    BEFORE,
    READING_FLAGS,
    REPRESENT_FLAGS,
    SELECT_FLAGS,
    app,
    refuse_without_auto,
)
from handpick.cli.audition import show_planned
from handpick.cli.errors import report_errors
from handpick.cli.evaluate import HEADINGS, SENTENCES, TASK_FLAGS
from handpick.cli.first_screen import add_command
from handpick.cli.flags_from_settings import flags_of, with_flags
from handpick.cli.targets import Target, tasks_of
from handpick.cli.train import RECIPE_FLAGS, Model, Recipe, Selection, TemplateArg, overrides_of, parse_recipe
from handpick.cli.unused_flags import refuse_unread_answers
from handpick.errors import SettingsError
from handpick.evaluation.settings import EvaluateSettings
from handpick.methods import AUTO
from handpick.settings import parse_settings

if TYPE_CHECKING:
    from handpick.planning import Plan

plan_app = typer.Typer(
    help="Say what a command will cost, before it starts.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
app.add_typer(plan_app, name="plan", rich_help_panel=BEFORE)

_NOT_PLANNED = {"judge", "allow_weak_sandbox"}
_JSON = Annotated[bool, typer.Option("--json", help="For machines: bytes, seconds, operations.")]
_TRAIN_MODEL = Annotated[
    str | None,
    typer.Option(
        help="What is to be trained on the selection: a model, or its parameters, such as 7B; default: --model.",
        metavar="DIR|NAME|N",
    ),
]
_DEVICES = Annotated[
    str | None,
    typer.Option(help="Show what it comes to on so many devices like this one, such as 1,8,64.", metavar="N,N"),
]
_RATE = Annotated[
    float | None,
    typer.Option(
        help="A device's rate of pool features, measured elsewhere, in place of this machine's.", min=1e-9, metavar="N"
    ),
]
_PROBE = Annotated[float, typer.Option(help="Seconds to compute for, to see how fast this machine is.", min=1)]


@add_command(
    plan_app,
    *("pool", "query", "target", "model", "method", "budget", "out", "max_length"),
    *("compare", "train_model", "price_per_hour", "as_json", "probe"),
)
@with_flags(settings=SELECT_FLAGS, audition=AUDITION_FLAGS)
def select(
    settings: dict[str, Any],
    audition: dict[str, Any],
    compare: Annotated[bool, typer.Option("--compare", help="Show every method's bill, one line each.")] = False,
    train_model: _TRAIN_MODEL = None,
    devices: _DEVICES = None,
    examples_per_second: _RATE = None,
    as_json: _JSON = False,
    probe: _PROBE = 10.0,
) -> None:
    """Show what `handpick select` with the same flags will take.

    handpick plan select --pool pool.jsonl.gz --query gsm8k_dev.jsonl.gz --model MODEL

    handpick plan select --compare --train-model 7B --price-per-hour 2.5 …

    Beside it stands the training that the selection is for.
    """
    with report_errors():
        from handpick.cli.show_plan import show_beside_training, show_comparison, show_devices
        from handpick.planning import (
            at_rate,
            bill_of,
            bill_training,
            compare_methods,
            parse_devices,
            parse_parameters,
            plan_select,
            share_out,
        )

        own = AuditionSettings.from_values(audition)
        shared = [] if devices is None else parse_devices(devices)
        if (compare or settings.get("method") == AUTO) and (shared or examples_per_second is not None):
            flag = "--devices" if shared else "--examples-per-second"
            raise SettingsError(f"{flag} is of the plan of one method: name it with --method, without --compare")
        if settings.get("method") == AUTO:
            from handpick.auditions.run import PreparedAudition

            settings.pop("method")
            show_planned(PreparedAudition(settings, own).plan(probe, keep=False), as_json=as_json)
            return
        refuse_without_auto({name: value for name, value in audition.items() if name != "price_per_hour"})
        given = parse_settings(settings, where="--")
        if train_model is not None:
            parse_parameters(train_model)  # refused before anything is probed
        if compare:
            comparison = compare_methods(given, probe, train_model, own.price_per_hour)
            typer.echo(json.dumps(comparison.to_json(), indent=1)) if as_json else show_comparison(comparison)
            return
        plan = plan_select(given, probe)
        training = bill_training(given, train_model, probe * 0.35)
        if examples_per_second is not None:
            plan, times = at_rate(plan, examples_per_second)
            training = training if isinstance(training, str) else training.on_faster(times)
        bill = bill_of(given, plan, training, own.price_per_hour)
        on_devices = [share_out(plan, n, own.price_per_hour) for n in shared]
        if as_json:
            beside = bill.beside(training) | ({"devices": [each.to_json() for each in on_devices]} if shared else {})
            typer.echo(json.dumps(plan.to_json() | beside, indent=1))
        else:
            _show(plan, as_json=False)
            show_devices(on_devices)
            show_beside_training(bill, training)


@add_command(
    plan_app,
    *("pool", "model", "method", "out", "checkpoints", "storage", "max_length", "as_json", "probe"),
)
@with_flags(settings=REPRESENT_FLAGS)
def represent(settings: dict[str, Any], as_json: _JSON = False, probe: _PROBE = 10.0) -> None:
    """Show what `handpick represent` with the same flags will take.

    handpick plan represent --pool pool.jsonl --model MODEL
    """
    with report_errors():
        from handpick.planning import plan_represent

        _show(plan_represent(parse_settings(settings, where="--"), probe), as_json=as_json)


@add_command(
    plan_app,
    *("selection", "model", "recipe", "epochs", "batch", "learning_rate", "adapter", "max_length", "as_json", "probe"),
)
@with_flags(settings=RECIPE_FLAGS, reading=READING_FLAGS)
def train(
    selection: Selection,
    settings: dict[str, Any],
    reading: dict[str, Any],
    model: Model = None,
    recipe: Recipe = "auto",
    template_arg: TemplateArg = None,
    as_json: _JSON = False,
    probe: _PROBE = 10.0,
) -> None:
    """Show what `handpick train` with the same flags will take.

    handpick plan train --selection runs/gsm8k --model MODEL
    """
    with report_errors():
        from handpick.planning import plan_train

        overrides = overrides_of(settings, template_arg) | reading
        _show(plan_train(selection, model, recipe=parse_recipe(recipe), seconds=probe, **overrides), as_json=as_json)


@add_command(
    plan_app, *("target", "model", "metric", "limit", "max_new_tokens", "samples", "max_length", "as_json", "probe")
)
@with_flags(
    settings=flags_of(EvaluateSettings, leave_out=_NOT_PLANNED, style=SENTENCES), task=TASK_FLAGS, headings=HEADINGS
)
def evaluate(
    target: Target = None,
    *,
    task: dict[str, Any],
    settings: dict[str, Any],
    as_json: _JSON = False,
    probe: _PROBE = 10.0,
) -> None:
    """Show what `handpick evaluate` with the same flags will take, on tasks.

    handpick plan evaluate --model MODEL --target gsm8k_test.jsonl --metric exact-match:last-number
    """
    with report_errors():
        from handpick.planning import plan_evaluate

        if not target:
            raise SettingsError("nothing to measure: give --target FILE")
        refuse_unread_answers(task)
        tasks = tasks_of(target, task)
        _show(plan_evaluate(EvaluateSettings.from_values(settings), tasks, probe), as_json=as_json)


@plan_app.command()
def study(
    config: Annotated[Path, typer.Argument(help="The YAML file of `handpick study`.")],
    as_json: _JSON = False,
    probe: _PROBE = 10.0,
) -> None:
    """Show what is left of a study: steps that are not there yet.

    handpick plan study study.yaml
    """
    with report_errors():
        from handpick.planning import plan_study
        from handpick.studies.settings import StudySettings

        _show(plan_study(StudySettings.from_yaml(config), probe), as_json=as_json)


def _show(plan: "Plan", *, as_json: bool) -> None:
    from handpick.cli.show_plan import show_plan

    typer.echo(json.dumps(plan.to_json(), indent=1)) if as_json else show_plan(plan)
