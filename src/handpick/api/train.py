"""``handpick.train``, from chosen records to a fine-tuned model, and ``handpick.tokenize``, for other trainers."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

from handpick.api.handed_over import Model, Records, merge_settings, name_inputs
from handpick.choices import Dtype
from handpick.data.memory import hold_records
from handpick.data.read import BadRecord
from handpick.data.reading import ReadingSettings, reading_of
from handpick.errors import DataError, SettingsError
from handpick.files import write_parts
from handpick.finetuning.train import Recipe, run_train, tokenize_selection
from handpick.layout import RunLayout
from handpick.object_store import is_address
from handpick.run_place import fetch_place
from handpick.selection import Selection
from handpick.training.settings import LoraSettings

if TYPE_CHECKING:
    from datasets import Dataset


def train(
    selection: str | Path | Selection | Records,
    model: Model | None = None,
    out: str | Path | None = None,
    *,
    recipe: Recipe = "auto",
    epochs: int | None = None,
    learning_rate: float | None = None,
    batch: int | None = None,
    adapter: Literal["lora", "none"] | None = None,
    lora: Mapping[str, Any] | LoraSettings | None = None,
    max_length: int | None = None,
    template_args: Mapping[str, Any] | None = None,
    dtype: Dtype | None = None,
    seed: int | None = None,
    **others: Any,
) -> Path:
    """Fine-tune a model on chosen records.

    Args:
        selection: a folder that ``handpick select`` wrote, the address of one in a bucket, or a file of records; or a
            ``Selection``, a list of records or a ``datasets.Dataset``, which is then written to ``out`` as well, as
            ``selected.jsonl``.
        model: the base model, as ``handpick.select``; unless given, the one that the selection was made with.
        out: the folder of the new model, or its address; unless given, ``model`` in the selection's folder.
        recipe: ``tis``, ``small`` (for models under 100 M parameters), or ``auto``: by the model's size.
        epochs: instead of the recipe's, as what follows.
        learning_rate: at its highest.
        batch: examples a step.
        adapter: ``none`` trains all weights.
        lora: the adapter's shape; a mapping replaces the fields that it has.
        max_length: tokens of a conversation that are kept.
        template_args: what the chat template is told; unless given, what the selection was made with.
        dtype: what the model computes in.
        seed: of the adapter, the order and the dropout.
        others: any other field of ``handpick.training.settings.FinetuneSettings``.

    Returns:
        ``out``, or the folder of this machine that is kept there, with the adapter or the whole model, its tokenizer,
        and ``train.yaml``. An adapter of a model in memory names no base model: name it as ``base`` where it is
        evaluated.

    Raises:
        HandpickError: of the kind that fits what is wrong (see ``handpick.errors``).
    """
    recipes_own = merge_settings(
        epochs=epochs, learning_rate=learning_rate, batch=batch, adapter=adapter, lora=lora, max_length=max_length,
        dtype=dtype, seed=seed, **others,
    )  # fmt: skip
    if isinstance(selection, Selection):  # its records are read as they were chosen
        recipes_own = {n: v for n, v in selection.settings.items() if n in ReadingSettings.model_fields} | recipes_own
    with name_inputs(merge_settings(model=_model_of(selection, model))) as plain:
        told = template_args_for(selection, template_args)
        return run_train(
            _records_file(selection, out), plain.get("model"), out, recipe=recipe, template_args=told, **recipes_own
        )


def tokenize(
    selection: str | Path | Selection | Records,
    model: Model | None = None,
    *,
    max_length: int = 2048,
    template_args: Mapping[str, Any] | None = None,
) -> "Dataset":
    """Return chosen records as the tokens and labels that ``train`` trains on, for a trainer of one's own.

    TRL's ``SFTTrainer`` takes it as its ``train_dataset``, and so does any trainer that leaves columns ``input_ids``
    and ``labels`` as they are. TRL cuts at the ``max_length`` of its own config, 1,024 by default: give it this one.

    Args:
        selection: as ``train``.
        model: whose tokenizer and chat template, as ``train``.
        max_length: tokens of a conversation that are kept.
        template_args: as ``train``.

    Returns:
        A ``datasets.Dataset``, a row a record in order of choice, with the lists ``input_ids`` and ``labels``, int64;
        a token without loss has the label -100. Records that leave no response to learn from are left out, which is
        said.

    Raises:
        HandpickError: of the kind that fits what is wrong (see ``handpick.errors``).
    """
    from datasets import Dataset

    reading = reading_of(selection.settings) if isinstance(selection, Selection) else None
    with planned_records(selection, model) as (chosen, name):
        sequences = tokenize_selection(chosen, name, max_length, reading, template_args_for(selection, template_args))
    return Dataset.from_dict({"input_ids": [s.input_ids for s in sequences], "labels": [s.labels for s in sequences]})


@contextmanager
def planned_records(
    selection: str | Path | Selection | Records, model: Model | None
) -> Generator[tuple[Path, str | None]]:
    """Yield the file or folder of records to train on and the model's name; what is in memory is there inside.

    Args:
        selection, model: as ``train``.

    Raises:
        HandpickError: as ``train``.
    """
    with name_inputs(merge_settings(model=_model_of(selection, model))) as plain, TemporaryDirectory() as scratch:
        yield fetch_place(_records_file(selection, scratch)), plain.get("model")


def _model_of(selection: object, model: Model | None) -> Model | None:
    if model is None and isinstance(selection, Selection):
        own: str | None = selection.settings.get("model")
        return own
    return model


def template_args_for(selection: object, given: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Return what the chat template is told: as given, else what a selection in memory was made with.

    None leaves it to the selection's folder.
    """
    if given is None and isinstance(selection, Selection):
        made_with: Mapping[str, Any] | None = selection.settings.get("template_args")
        return made_with
    return given


def _records_file(selection: str | Path | Selection | Records, out: str | Path | None) -> str | Path:
    """Return where the records to train on lie, writing those in memory to ``out``.

    Raises:
        SettingsError: they are in memory, and ``out`` is not given.
        DataError: one of them cannot be written.
        StoreError: the file cannot be written.
    """
    if isinstance(selection, str | Path):
        return selection
    if out is None:
        raise SettingsError("records in memory are written beside the model: give out, the folder of the new model")
    if is_address(out):
        raise SettingsError(f"records in memory are written beside the model, and {out} is in a bucket: name a folder")
    path = RunLayout(Path(out)).records
    if isinstance(selection, Selection):
        selection.to_jsonl(path)
    else:
        write_parts(path, (line + b"\n" for line in _lines(selection)))
    return path


def _lines(records: Any) -> list[bytes]:
    lines = []
    for record in hold_records(records, "records").records():
        if isinstance(record, BadRecord):
            raise DataError(f"record {record.line} cannot be trained on: {record.reason}; mend it, or leave it out")
        lines.append(record.raw)
    return lines
