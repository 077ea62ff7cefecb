"""``train`` and ``export``."""

import os
from typing import Annotated, Any

import typer

from handpick.cli.app import READING_FLAGS, TRAIN, app
from handpick.cli.errors import report_errors
from handpick.cli.first_screen import add_command
from handpick.cli.flags_from_settings import Style, flags_of, with_flags
from handpick.cli.next_steps import quote_path, say_next
from handpick.data.template_args import METAVAR, parse_template_args
from handpick.terminal import say
from handpick.training.settings import FinetuneSettings

_SHAPE_LAST = [*(name for name in FinetuneSettings.model_fields if name != "lora"), "lora"]
RECIPE_FLAGS = flags_of(
    FinetuneSettings, _SHAPE_LAST, style=Style(heading="Recipe (default: that of --recipe)", defaults=False)
)
_TRAINERS = {  # how each is started
    "axolotl": "axolotl train",
    "llama-factory": "llamafactory-cli train",
    "ms-swift": "swift sft",
    "trl": "trl sft --config",
}
Selection = Annotated[str, typer.Option(help="Folder of a selection, or a file of records.", metavar="DIR|FILE")]
Model = Annotated[
    str | None, typer.Option(help="Base model; default: the one the selection was made with.", metavar="DIR|NAME")
]
Recipe = Annotated[
    str,
    typer.Option(
        help="tis: 2 epochs, lr 2e-5, 128 a step; small: for models under 100M parameters.", metavar="auto|tis|small"
    ),
]


TemplateArg = Annotated[
    list[str] | None,
    typer.Option(
        help="What the chat template is told, such as enable_thinking=false; several; default: what the selection was "
        "made with.",
        metavar=METAVAR,
    ),
]


@add_command(
    app,
    *("selection", "model", "out", "recipe", "epochs", "batch", "learning_rate", "adapter", "max_length", "seed"),
    rich_help_panel=TRAIN,
)
@with_flags(settings=RECIPE_FLAGS, reading=READING_FLAGS)
def train(
    selection: Selection,
    settings: dict[str, Any],
    reading: dict[str, Any],
    model: Model = None,
    out: Annotated[
        str | None, typer.Option(help="Folder of the new model; default: model in the selection's.", metavar="DIR")
    ] = None,
    recipe: Recipe = "auto",
    template_arg: TemplateArg = None,
) -> None:
    """Fine-tune a model on a selection.

    handpick train --selection runs/gsm8k --model MODEL --out runs/gsm8k/model

    On several GPUs: accelerate launch -m handpick train …

    A run that is stopped goes on with the same command.
    """
    with report_errors():
        from handpick.finetuning.train import model_place, run_train
        from handpick.run_place import name_of

        is_main = _silence_other_processes()
        folder = run_train(
            selection, model, out, recipe=parse_recipe(recipe), **overrides_of(settings, template_arg), **reading
        )
        _leave_other_processes()
        if is_main:
            name = name_of(model_place(selection, out), folder)
            say(f"{name}: the model, its tokenizer, and train.yaml, which says what it was made from")
            say_next(f"handpick evaluate --model {quote_path(name)} --target TEST --metric loss")


@add_command(
    app,
    *("selection", "to", "out", "model", "recipe", "epochs", "batch", "learning_rate", "max_length"),
    rich_help_panel=TRAIN,
)
@with_flags(settings=RECIPE_FLAGS, reading=READING_FLAGS)
def export(
    selection: Selection,
    settings: dict[str, Any],
    reading: dict[str, Any],
    to: Annotated[str, typer.Option(help="The tool to train with.", metavar="axolotl|llama-factory|ms-swift|trl")],
    out: Annotated[str, typer.Option(help="Folder to write to.", metavar="DIR")],
    model: Model = None,
    recipe: Recipe = "auto",
    template_arg: TemplateArg = None,
) -> None:
    """Write a selection for another trainer, with the config that trains on it.

    Template, mask and recipe are those that `handpick train` takes.

    handpick export --selection runs/gsm8k --model MODEL --to axolotl --out runs/gsm8k/axolotl
    """
    with report_errors():
        from handpick.choices import look_up
        from handpick.finetuning.export import TOOLS
        from handpick.finetuning.train import run_export

        tool = look_up({name: name for name in TOOLS}, to, "export to")
        config = run_export(
            selection, tool, out, model, recipe=parse_recipe(recipe), **overrides_of(settings, template_arg), **reading
        )
        say(f"{out}: the examples as messages and as tokens, and how to train on them: {config}")
        say_next(f"{_TRAINERS[tool]} {quote_path(config)}")


def overrides_of(settings: dict[str, Any], template_arg: list[str] | None = None) -> dict[str, Any]:
    """Return what overrules the recipe."""
    return settings | {"template_args": parse_template_args(template_arg)} if template_arg else settings


def parse_recipe(name: str) -> Any:
    from handpick.choices import look_up
    from handpick.finetuning.train import RECIPES

    return look_up({each: each for each in RECIPES}, name, "recipe")


def _leave_other_processes() -> None:
    """End what training has opened between the processes: left to the end of Python, its threads may abort it."""
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def _silence_other_processes() -> bool:
    """Let the first process alone say anything, under a launcher of several."""
    from handpick.progress import console

    is_main = int(os.environ.get("RANK", "0")) == 0
    console.quiet = not is_main
    return is_main
