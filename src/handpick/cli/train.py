"""``train`` and ``export``."""

import inspect
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from handpick.cli.app import TRAIN, app
from handpick.cli.expanded import Command, expanded
from handpick.cli.plainly import plainly
from handpick.training.settings import FinetuneSettings, LoraSettings

_LORA = "lora_"
_HEADING = "Recipe (default: that of --recipe)"


def with_recipe(command: Command) -> Command:
    """A decorator: the command gets a flag for every setting of a recipe, in ``settings`` if given."""
    recipe = [_flag(name, field) for name, field in FinetuneSettings.model_fields.items() if name != "lora"]
    recipe += [_flag(_LORA + name, field) for name, field in LoraSettings.model_fields.items()]
    return expanded("settings", recipe, _recipe_of)(command)


def _recipe_of(flags: Mapping[str, Any]) -> dict[str, Any]:
    given = {name: value for name, value in flags.items() if value not in (None, False)}
    lora = {name.removeprefix(_LORA): given.pop(name) for name in list(given) if name.startswith(_LORA)}
    if lora.get("targets") not in (None, "auto", "all-linear"):
        lora["targets"] = [name.strip() for name in lora["targets"].split(",") if name.strip()]
    return given | ({"lora": lora} if lora else {})


_HELP = {
    "epochs": "passes over the examples",
    "learning_rate": "of AdamW, at its highest",
    "weight_decay": "of AdamW",
    "lora_rank": "of the adapter",
    "lora_alpha": "what scales the adapter: alpha over rank",
    "lora_dropout": "in front of the adapter, while training",
    "lora_targets": "auto, all-linear, or names of layers with commas between them; auto: attention for Llama, else "
    "every linear layer",
}


def _flag(name: str, field: FieldInfo) -> inspect.Parameter:
    switch = field.annotation is bool
    words = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    number = {int, float} & {field.annotation}
    option = typer.Option(
        f"--{name.replace('_', '-')}",
        help=field.description or _HELP[name],
        show_default=False,
        metavar=None if switch else "|".join(words) or ("N" if number else "NAME"),
        rich_help_panel=_HEADING,
    )
    kind: Any = bool if switch else str | None
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=False if switch else None, annotation=Annotated[kind, option]
    )


Selection = Annotated[Path, typer.Option(help="Folder of a selection, or a file of records.", metavar="DIR|FILE")]
Model = Annotated[
    str | None, typer.Option(help="Base model; default: the one the selection was made with.", metavar="DIR|NAME")
]
Recipe = Annotated[
    str,
    typer.Option(
        help="tis: 2 epochs, lr 2e-5, 128 a step; small: for models under 100M parameters.", metavar="auto|tis|small"
    ),
]


@app.command(rich_help_panel=TRAIN)
@with_recipe
def train(
    selection: Selection,
    settings: dict[str, Any],
    model: Model = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the new model; default: model in the selection's.", metavar="DIR")
    ] = None,
    recipe: Recipe = "auto",
) -> None:
    """Fine-tune a model on a selection. A run that is stopped goes on with the same command.

    handpick train --selection runs/gsm8k --model MODEL --out runs/gsm8k/model

    On several GPUs: accelerate launch -m handpick train …
    """
    with plainly():
        from handpick.finetuning.train import run_train

        is_main = _speak_from_the_first_process()
        folder = run_train(selection, model, out, recipe=known_recipe(recipe), **settings)
        if is_main:
            typer.echo(f"{folder}: the model, its tokenizer, and train.yaml, which says what it was made from")


@app.command(rich_help_panel=TRAIN)
@with_recipe
def export(
    selection: Selection,
    settings: dict[str, Any],
    to: Annotated[str, typer.Option(help="The tool to train with.", metavar="axolotl|llama-factory")],
    out: Annotated[Path, typer.Option(help="Folder to write to.", metavar="DIR")],
    model: Model = None,
    recipe: Recipe = "auto",
) -> None:
    """Write a selection for another trainer, with the config that trains on it with the same template, mask and recipe.

    handpick export --selection runs/gsm8k --model MODEL --to axolotl --out runs/gsm8k/axolotl
    """
    with plainly():
        from handpick.choices import look_up
        from handpick.finetuning.export import TOOLS
        from handpick.finetuning.train import run_export

        tool = look_up({name: name for name in TOOLS}, to, "export to")
        config = run_export(selection, tool, out, model, recipe=known_recipe(recipe), **settings)
        typer.echo(f"{out}: the examples as messages and as tokens, and how to train on them: {config}")


def known_recipe(name: str) -> Any:
    from handpick.choices import look_up
    from handpick.finetuning.train import RECIPES

    return look_up({each: each for each in RECIPES}, name, "recipe")


def _speak_from_the_first_process() -> bool:
    """Under a launcher of several processes, let the first alone say anything."""
    from handpick.progress import console

    is_main = int(os.environ.get("RANK", "0")) == 0
    console.quiet = not is_main
    return is_main
