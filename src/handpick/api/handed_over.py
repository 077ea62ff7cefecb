"""What callers hand over in Python, under the names that settings hold."""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic import BaseModel

from handpick.data.memory import hold_records
from handpick.data.read import Tables
from handpick.errors import SettingsError
from handpick.model.in_memory import hold_model

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Files: TypeAlias = str | Path | Sequence[str | Path]
Records: TypeAlias = Files | Sequence[Mapping[str, Any]] | Tables | Sequence[str | Path | Tables]
"""Files, folders, patterns or Hub names; or what is in memory: a list of mappings, or a data set of ``datasets``, of
which a dictionary of splits gives its training split, and an iterable one is read to its end."""
Model: TypeAlias = str | Path | tuple["PreTrainedModel", "PreTrainedTokenizerBase"]
"""A folder or a Hub name; or a transformers causal language model in memory and its fast tokenizer."""

_SOURCES = ("pool", "query", "exclude_overlap")
_MODELS = ("model", "base")
# how what has a method becomes a list of records: tables of Arrow and Polars, data frames of pandas, what is drawn once
_AS_RECORDS = {
    "to_pylist": "hand over its to_pylist()",
    "to_dicts": "hand over its to_dicts()",
    "to_dict": "hand over its to_dict('records')",
    "__next__": "hand over a list of what it gives",
}


def merge_settings(settings: BaseModel | None = None, /, **values: object) -> dict[str, Any]:
    """Return the settings that were given: those that ``settings`` was made with, and over them all but None."""
    base = {} if settings is None else {name: getattr(settings, name) for name in settings.model_fields_set}
    return base | {name: value for name, value in values.items() if value is not None}


@contextmanager
def name_inputs(values: Mapping[str, Any]) -> Generator[dict[str, Any]]:
    """Yield settings with names in place of the records and models among them; the names are known inside.

    Args:
        values: by the settings' names, which say what is a source of records and what is a model.

    Raises:
        SettingsError: a value is neither a name nor anything that can be handed over.
        ModelError: as ``hold_model``.
    """
    held: list[object] = []  # what is known by its name, for as long as this list is
    yield {name: _name_input(name, value, held) for name, value in values.items()}


def _name_input(name: str, value: Any, held: list[object]) -> Any:
    if name in _SOURCES:
        return name_sources(value, name, held)
    if name == "target" and isinstance(value, Mapping):
        return {str(task): name_sources(records, name, held) for task, records in value.items()}
    if name in _MODELS:
        return _name_model(value, name, held)
    return str(value) if isinstance(value, Path) else value


def name_sources(value: Any, what: str, held: list[object]) -> list[str]:
    """Return the names of sources, giving one to each that is in memory.

    Args:
        value: as ``Records``.
        what: the setting.
        held: what has to be kept for as long as the names are to be known; is added to.

    Raises:
        SettingsError: it is nothing that records can be read from.
        DataError: it is a dictionary of splits without one for training, or with several.
    """
    if isinstance(value, str | Path):
        return [str(value)]
    if _is_dataset(value) or (isinstance(value, list | tuple) and any(isinstance(each, Mapping) for each in value)):
        held.append(records := hold_records(value, what))
        return [records.name]
    if isinstance(value, list | tuple) and value and all(_is_dataset(each, str, Path) for each in value):
        return [name for each in value for name in name_sources(each, what, held)]
    found = "an empty list" if isinstance(value, list | tuple) and not value else type(value).__name__
    advice = next((f"; {how}" for name, how in _AS_RECORDS.items() if hasattr(value, name)), "")
    raise SettingsError(
        f"{what} should be a file, a list of files, a list of records (dictionaries) or a datasets.Dataset, not {found}"
        f"{advice}"
    )


def _is_dataset(value: object, *others: type) -> bool:
    from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict

    return isinstance(value, (Dataset, DatasetDict, IterableDataset, IterableDatasetDict, *others))


def _name_model(value: Any, what: str, held: list[object]) -> str:
    if isinstance(value, str | Path):
        return str(value)
    if not isinstance(value, tuple) or len(value) != 2:
        raise SettingsError(
            f"{what} should be a folder, a name on the Hub or (module, tokenizer), not {type(value).__name__}"
        )
    held.append(model := hold_model(*value))
    return model.name
