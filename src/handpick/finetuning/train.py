"""``train`` and ``export``: from a selection to a fine-tuned model, here or with another tool."""

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import ValidationError

from handpick.data.examples import Example
from handpick.data.pool import Pool
from handpick.data.quarantine import Quarantine
from handpick.data.reading import TABLE_ALONE, Reading, ReadingSettings, check_columns
from handpick.data.render import Rendered, Renderer
from handpick.data.template_args import parse_template_args
from handpick.data.unwritten import count_unwritten, report_unwritten
from handpick.errors import DataError, SettingsError
from handpick.finetuning.export import Tool, write_export
from handpick.finetuning.finetune import count_processes, finetune
from handpick.flag_names import as_flag, check_values, parse_settings, show_value
from handpick.layout import ExportLayout, FinetuneLayout, RunLayout
from handpick.model import (
    MODEL_CONFIG,
    compute_dtype,
    device,
    load_renderer,
    padding_id,
    parameter_count,
    position_limit,
)
from handpick.object_store import is_address
from handpick.objectives.next_token import NextToken
from handpick.own_folder import check_inputs, hold_folder
from handpick.progress import log
from handpick.run_place import fetch_place, folder_of, hold_place, name_of
from handpick.selection import Selection
from handpick.training.settings import SMALL_FINETUNE, SMALL_MODEL, FinetuneSettings

Recipe = Literal["auto", "tis", "small"]
RECIPES: tuple[Recipe, ...] = get_args(Recipe)


def run_train(
    selection: str | Path,
    model: str | None = None,
    out: str | Path | None = None,
    *,
    recipe: Recipe = "auto",
    template_args: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Path:
    """Fine-tune a model on chosen records.

    Args:
        selection: a folder that ``handpick select`` wrote, the address of one in a bucket, or a file of records.
        model: the base model's folder or Hub name; by default the one that the selection was made with.
        out: the folder of the new model, or its address; by default ``model`` in the selection's folder.
        recipe: ``tis``, ``small`` (for models under 100 M parameters), or ``auto``: by the model's size.
        template_args: what the chat template is told; by default what the selection was made with.
        settings: fields of ``handpick.training.settings.FinetuneSettings`` that replace the recipe's; of ``lora``, a
            mapping replaces the fields that it has. Also ``columns`` and ``turn_weights``, which say how records are
            read; a selection's folder says it itself.

    Returns:
        ``out``, or the folder of this machine that is kept at that address, with the adapter or the whole model, its
        tokenizer, and ``train.yaml``.

    Raises:
        HandpickError: of the kind that fits what is wrong (see ``handpick.errors``).
    """
    check_values({} if out is None else {"out": out}, as_flag)
    if count_processes() > 1 and (is_address(selection) or is_address(out)):
        raise SettingsError("processes that train together meet in a folder, and a bucket is none: name folders")
    chosen = fetch_place(selection)
    model, place = model_of(chosen, model), model_place(selection, out)
    out = folder_of(place)
    reading, own = reading_for(chosen, settings)
    used = recipe_for(model, recipe, own)
    told = template_args_of(chosen, template_args)
    _check_inputs(FinetuneLayout(out), chosen, model)
    is_first = os.environ.get("RANK", "0") == "0"  # of several processes that train together, which write as one
    with (
        hold_place(place) if is_first else nullcontext(),
        open_records(chosen, model, used.max_length, out, reading, told) as data,
    ):
        steps_of = f"LoRA of rank {used.lora.rank}" if used.adapter == "lora" else "all weights"
        log(
            f"fine-tuning on {len(data.sequences):,} examples × {used.epochs}, {used.batch} a step: {steps_of}, "
            f"computed in {str(compute_dtype(used.dtype)).removeprefix('torch.')} on {device()}"
        )
        named = selection if is_address(selection) else chosen.resolve()
        about = {"selection": str(named), "base_model": model, "left_out": data.n_left_out}
        about |= {"template_args": told} if told else {}
        return finetune(model, data.sequences, used, out, pad_id=padding_id(data.renderer.tokenizer), about=about)


def run_export(
    selection: str | Path,
    to: Tool,
    out: str | Path,
    model: str | None = None,
    *,
    recipe: Recipe = "auto",
    template_args: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Path:
    """Write chosen records as another tool reads them, and the config that trains on them with the same recipe.

    Args:
        selection, model, recipe, template_args, settings: as ``run_train``.
        to: one of ``handpick.finetuning.export.TOOLS``.
        out: the folder to write to.

    Returns:
        The config file.

    Raises:
        HandpickError: of the kind that fits what is wrong.
    """
    check_values({"out": out}, as_flag)
    chosen = fetch_place(selection)
    model = model_of(chosen, model)
    reading, own = reading_for(chosen, settings)
    used = recipe_for(model, recipe, own)
    told = template_args_of(chosen, template_args)
    _check_inputs(ExportLayout(Path(out)), chosen, model)
    with hold_folder(Path(out)), open_records(chosen, model, used.max_length, Path(out), reading, told) as data:
        return write_export(to, Path(out), data.examples, data.sequences, data.renderer, used, model)


def tokenize_selection(
    selection: Path,
    model: str | None,
    max_length: int,
    reading: Reading | None,
    template_args: Mapping[str, Any] | None,
) -> list[Rendered]:
    """Return chosen records as tokens with labels, those that ``run_train`` trains on, in order.

    Args:
        selection, model, template_args: as ``run_train``.
        max_length: tokens kept of a conversation.
        reading: how records are read; None: as a selection's folder says.

    Raises:
        HandpickError: of the kind that fits what is wrong.
    """
    check_values({"max_length": max_length}, as_flag)
    model = model_of(selection, model)
    reading = reading_for(selection, {})[0] if reading is None else reading
    told = template_args_of(selection, template_args)
    with open_records(selection, model, max_length, None, reading, told) as data:
        return data.sequences


def _check_inputs(layout: FinetuneLayout | ExportLayout, selection: Path, model: str) -> None:
    records = RunLayout(selection).records if selection.is_dir() else selection
    check_inputs(layout, {"selection": records}, {"model": Path(model) / MODEL_CONFIG})


def reading_for(selection: Path, settings: Mapping[str, Any]) -> tuple[Reading, dict[str, Any]]:
    """Return how records are read, by the selection's own settings and the user's, and the settings that are left.

    Raises:
        SettingsError: a column's role is unknown, or a value is wrong.
    """
    names = ReadingSettings.model_fields
    made_with = Selection.open(selection).settings if selection.is_dir() else {}
    said = {name: each for given in (made_with, settings) for name, each in given.items() if name in names}
    left = {name: each for name, each in settings.items() if name not in names}
    return parse_settings(ReadingSettings, said).reading, left


def recipe_for(model: str, recipe: Recipe, settings: Mapping[str, Any]) -> FinetuneSettings:
    """Return the recipe's settings with the user's in their place; says which recipe ``auto`` took.

    Raises:
        SettingsError: a setting is unknown or out of range.
        ModelError: ``auto`` cannot find out how large the model is.
    """
    small = recipe == "small"
    if recipe == "auto":
        n = parameter_count(model)
        small = n < SMALL_MODEL
        log(f"recipe: {'small' if small else 'tis'}, for a model of {n / 1e6:,.1f} M parameters (--recipe)")
    return replace_settings(SMALL_FINETUNE if small else FinetuneSettings(), settings)


def replace_settings(recipe: FinetuneSettings, settings: Mapping[str, Any]) -> FinetuneSettings:
    """Return a recipe with some settings in place of its own.

    Raises:
        SettingsError: a setting is unknown or out of range.
    """
    check_values(settings)
    values, own = recipe.model_dump(), settings.get("lora", {})
    lora = values["lora"] | dict(own) if isinstance(own, Mapping) else own
    try:
        return FinetuneSettings(**(values | dict(settings) | {"lora": lora}))
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise SettingsError(
            f"{name}: {first['msg'].removeprefix('Input ')}, not {show_value(first['input'])}"
        ) from error


def model_of(selection: Path, model: str | None) -> str:
    if not selection.exists():
        raise DataError(f"there is no selection {selection}: name the folder that `handpick select` wrote, or a file")
    found = model
    if found is None and selection.is_dir():
        found = Selection.open(selection).settings.get("model")
    if found is None:
        raise SettingsError(f"{selection} does not say which model to train: name one with --model")
    return str(Path(found).resolve()) if Path(found).exists() else found


def template_args_of(selection: Path, template_args: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what the chat template is told: as given, else as the selection was made with.

    Raises:
        SettingsError: a name is none, or a value has no JSON form.
    """
    if template_args is not None:
        return parse_template_args(dict(template_args))
    made_with = Selection.open(selection).settings if selection.is_dir() else {}
    return dict(made_with.get("template_args") or {})


def model_place(selection: str | Path, out: str | Path | None) -> str | Path:
    """Return what the new model is called: its address where it is in a bucket, else its folder.

    Raises:
        SettingsError: it is not said, and the selection is no folder.
    """
    if out is not None:
        return out
    chosen = folder_of(selection)
    if not is_address(selection) and not chosen.is_dir():
        raise SettingsError("no folder for the trained model given: name one with --out")
    return name_of(selection, RunLayout(chosen).model)


@dataclass(frozen=True, slots=True)
class _Data:
    """The chosen examples that leave a response to learn from, as messages and as tokens."""

    examples: list[Example]
    sequences: list[Rendered]
    renderer: Renderer
    n_left_out: int


@contextmanager
def open_records(
    selection: Path,
    model: str,
    max_length: int,
    out: Path | None,
    reading: Reading = TABLE_ALONE,
    template_args: Mapping[str, Any] | None = None,
) -> Iterator[_Data]:
    """Open the records of a selection, parsed for as long as it is open; what is left out is kept in ``out``."""
    folder = selection.is_dir()
    if folder:
        if not len(Selection.open(selection)):
            raise DataError(f"the selection in {selection} is empty: there is nothing to train on")
        selection = RunLayout(selection).records
    renderer = load_renderer(model, template_args)
    limit = position_limit(model)
    if limit is not None and max_length > limit:
        raise SettingsError(
            f"the model reads {limit} tokens at most, and max_length is {max_length}; give --max-length {limit} or less"
        )
    with tempfile.TemporaryDirectory(prefix="handpick-") as scratch:
        # of several processes that train together, the first alone says what it could not use
        place = out if out is not None and int(os.environ.get("RANK", "0")) == 0 else Path(scratch)
        quarantine = Quarantine(FinetuneLayout(place).quarantine())
        pool = Pool.open([selection], cache=Path(scratch), quarantine=quarantine, reading=reading)
        if not folder:  # a run's choices need not have what its pool and queries had
            check_columns(reading, [pool.columns])
        if place == out:
            report_unwritten({"selection": count_unwritten(pool, renderer)}, FinetuneLayout(place).unwritten)
        data = _render_records(pool, selection, renderer, max_length, quarantine)
        if out is not None:
            quarantine.report()
        elif quarantine.count:
            why = ", ".join(f"{n:,} {kind}" for kind, n in quarantine.kinds.items())
            log(f"{quarantine.count:,} record{'s' if quarantine.count > 1 else ''} left out ({why})")
        yield data


def _render_records(pool: Pool, source: Path, renderer: Renderer, max_length: int, quarantine: Quarantine) -> _Data:
    examples = pool.examples(0, len(pool))
    if pairs := [example.id for example in examples if example.rejected is not None]:
        raise DataError(
            f"{len(pairs)} of the {len(examples)} records of {source} are pairs of a chosen and a rejected answer, the "
            f"first {pairs[0]!r}; write the chosen conversations as `messages` to train on them"
        )
    ids, sequences, refused = NextToken(renderer, max_length).prepare(examples)
    row_of = {example.id: row for row, example in enumerate(examples)}
    for example, reason in refused:
        pool.set_aside(row_of[example.id], reason, quarantine)
    if not sequences:
        raise DataError(
            f"none of the {len(examples)} records of {source} can be trained on; the first, {refused[0][0].id!r}, has "
            f"{refused[0][1]}"
        )
    return _Data([examples[row_of[i]] for i in ids], sequences, renderer, quarantine.count)
