"""From a source to its raw records: files, folders, patterns, objects, what ``datasets`` holds, names on the Hub."""

import dataclasses
import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from glob import has_magic
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, Union

from handpick.data.containers import DATA_SUFFIXES, find_container, read_records
from handpick.data.containers.columns import ROWS_AT_A_TIME, column_records, json_decoders
from handpick.data.containers.record import BadRecord, RawRecord, Records, Say
from handpick.data.fetch import fetch_files, named_by_address
from handpick.data.folder import files_of_folder, is_metadata, is_of_saved_dataset
from handpick.data.hub import hub_or_cache
from handpick.data.splits import choose_split, kind_of_split
from handpick.data.spool import SpooledRows
from handpick.errors import DataError
from handpick.in_memory import is_in_memory
from handpick.listing import matching
from handpick.object_store import check_address, is_address
from handpick.progress import log
from handpick.terminal import escape_controls, is_text

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict

__all__ = ["BadRecord", "DatasetInput", "FileInput", "RawRecord", "Source", "absolute_source", "open_source"]

# Union, since what stands in quotes is no operand of |: datasets is slow to import.
Tables: TypeAlias = Union["Dataset", "DatasetDict", "IterableDataset", "IterableDatasetDict"]
Source: TypeAlias = str | Path | Tables

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class FileInput:
    """A file of records.

    ``field`` is the one that holds them, where the file is one JSON object and the user named it; ``say`` is told what
    the file does not say by itself, once for all the files of a source. ``address`` is there where the file was fetched
    from one, and is then what it is called.
    """

    path: Path
    field: str | None = None
    say: Say | None = dataclasses.field(default=None, compare=False, repr=False)
    address: str | None = None

    @property
    def name(self) -> str:
        """The path or address as the user gave it, and the field that was chosen."""
        return self._called if self.field is None else f"{self._called}:{self.field}"

    @property
    def _called(self) -> str:
        return self.address or str(self.path)

    @property
    def stem(self) -> str:
        """The file's name without the suffixes of containers and compression, and without a chosen split.

        Of a data set that ``datasets`` saved it is the folder's, since its files have none of their own.
        """
        path = Path(self._called)
        if is_of_saved_dataset(path):
            path = path.parent.parent if kind_of_split(path.parent.name) else path.parent
        name = path.name
        if not name.endswith(DATA_SUFFIXES) and ":" in name:
            name = name.rpartition(":")[0]
        while name.endswith(DATA_SUFFIXES):
            name = name.rpartition(".")[0]
        return name

    def sha256(self) -> str:
        """Return the digest of the file's bytes, and of what else decides its records: a name, a chosen field.

        Raises:
            DataError: the file cannot be read.
        """
        try:
            with self.path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise DataError(f"cannot read {self._called}: {error.strerror}") from error
        with named_by_address(self.path, self._called):
            container = find_container(self.path)
        decided_by = [container.name] * container.named + [self.field] * (self.field is not None)
        if not decided_by:
            return digest
        return hashlib.sha256("\n".join([digest, *map(str, decided_by)]).encode()).hexdigest()

    def state(self) -> object:
        """Return what tells a file that was written to from one that was not.

        Raises:
            DataError: there is no such file any more.
        """
        try:
            found = self.path.stat()
        except OSError as error:
            raise DataError(f"cannot read {self._called}: {error.strerror}") from error
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns

    def records(self) -> Records:
        """Yield every record, good and bad. ``raw`` is the line's own bytes for JSON Lines, compact JSON otherwise.

        Blank lines are passed over, and a byte-order mark is no part of the record behind it.

        Raises:
            DataError: the file cannot be read, is damaged, or is of a kind that is no records.
        """
        with named_by_address(self.path, self._called):
            yield from read_records(self.path, self.field, self.say or _SayOnce(self.name))


@dataclass(frozen=True)
class DatasetInput:
    """A data set of the ``datasets`` library, or what was read of one that can be read only once."""

    dataset: "Dataset | SpooledRows"
    name: str = "dataset"

    @property
    def stem(self) -> str:
        """The name without organisation and split."""
        return self.name.partition(":")[0].rpartition("/")[2]

    def sha256(self) -> str:
        """Return the digest of the rows as compact JSON, one a line."""
        digest = hashlib.sha256()
        for record in self._records(lambda text: None):
            digest.update(record.raw + b"\n")
        return digest.hexdigest()

    def state(self) -> object:
        """Return nothing: rows of a data set do not change."""
        return None

    def records(self) -> Records:
        """Yield every row, good and bad."""
        return self._records(_SayOnce(self.name))

    def _records(self, say: Say) -> Records:
        if isinstance(self.dataset, SpooledRows):
            return self.dataset.records()
        return column_records(self.dataset.with_format("arrow").iter(ROWS_AT_A_TIME), self.name, say)


class _SayOnce:
    """Prints lines about a source to the person who is watching, each once."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._said: set[str] = set()

    def __call__(self, text: str) -> None:
        """Print one, unless it has been printed."""
        if text not in self._said:
            self._said.add(text)
            log(f"{self._source}: {text}")


def is_pattern(source: str | Path) -> bool:
    """Return whether a path is a pattern of paths.

    The brackets of a Hub name's split (``org/name:train[:10%]``) make none.
    """
    return has_magic(str(source)) and not _exists_on_hub(str(source).partition(":")[0])


def absolute_source(name: str) -> str:
    """Return a source as another folder would name it: a path that is there, or a pattern of paths, made absolute.

    A name on the Hub and an address stay as they are.
    """
    if is_address(name):
        return name
    if Path(name).exists() or is_pattern(name):
        return str(Path(name).resolve())
    path, choice = _path_and_choice(name)
    return f"{path.resolve()}:{choice}" if path.exists() else name


def open_source(source: Source) -> list[FileInput | DatasetInput]:
    """Find what a source names: a file, the data files of a folder or of a pattern such as ``shards/*.jsonl`` in the
    order of their names, a data set of ``datasets``, or else a data set of the Hub as ``org/name[:split]``.

    Of a folder or a ``DatasetDict`` with splits the training split is taken, which is said; ``folder:split`` takes
    another, as ``folder:config/split`` does where there are several configurations, and ``file.json:field`` where one
    object has several lists of records. An address (``s3://bucket/pool/*.jsonl``) names the same in a bucket.

    Raises:
        DataError: there is no such file or data set, it is not clear which split is meant, or the Hub cannot be
            reached.
    """
    if not isinstance(source, str | Path):
        return [DatasetInput(one_table(source))]
    _refuse_name(str(source))
    found = _find_inputs(source, _SayOnce(str(source)))
    for each in found:
        _refuse_name(each.name)
    return found


def files_of_source(source: str | Path) -> list[Path]:
    """Return the files of this machine that ``open_source`` would read; none of an address or a name on the Hub.

    Raises:
        DataError: as ``open_source``, but that no address is asked for what it names.
    """
    if is_address(source):
        check_address(str(source), DataError)
        return []
    path, _ = _path_and_choice(source)
    if is_in_memory(str(source)) or not (path.exists() or is_pattern(source)):
        return []
    return [each.path for each in _find_inputs(source, lambda text: None) if isinstance(each, FileInput)]


def _refuse_name(name: str) -> None:
    """Refuse a name that is no text, since it is written into files of text beside the results."""
    if not is_text(name):
        raise DataError(f"the name of the file {escape_controls(name)} is not UTF-8; rename it")


def _find_inputs(source: str | Path, say: Say) -> list[FileInput | DatasetInput]:
    if is_address(source):
        return [FileInput(each.path, each.choice, say, each.address) for each in fetch_files(str(source), say)]
    path, choice = _path_and_choice(source)
    if path.is_file():
        return [FileInput(path, choice, say)]
    if path.is_dir():
        return [FileInput(file, say=say) for file in files_of_folder(path, choice, say)]
    if is_pattern(source):
        files = _files_of_pattern(Path(source))
        if not files:
            raise DataError(f"no file is of the pattern {source}")
        return [FileInput(file, say=say) for file in files]
    name, _, split = str(source).partition(":")
    if isinstance(source, str) and _exists_on_hub(name):
        return [DatasetInput(_load_from_hub(name, split or "train"), source)]
    raise DataError(f"there is no file {source}")


def _files_of_pattern(source: Path) -> list[Path]:
    try:
        found = list(matching(Path(source.anchor), source.relative_to(source.anchor).as_posix()))
    except OSError as error:
        raise DataError(f"cannot read the folder {error.filename}: {error.strerror}") from error
    return sorted(file for file in found if file.is_file() and not is_metadata(file))


def one_table(source: Tables) -> "Dataset | SpooledRows":
    """Return the data set that is meant by one of ``datasets``' types.

    Of a dictionary of splits the training split is taken, which is said; what can only be iterated is read to its end,
    once, and kept on disk for as long as this process runs or what this returns is kept.

    Raises:
        DataError: a dictionary holds no split for training, or several.
    """
    from datasets import DatasetDict, IterableDataset, IterableDatasetDict

    if isinstance(source, DatasetDict | IterableDatasetDict):
        where = f"the {type(source).__name__} handed over"
        names = [str(key) for key in source]
        name = choose_split(where, names, None, _SayOnce(where), "hand one split over, as dataset[{!r}]")
        source = source[name]
    if isinstance(source, IterableDataset):
        log("an IterableDataset is read to its end, once, and its records are kept on disk")
        return SpooledRows(_plain_rows(source))
    return source


def _plain_rows(source: "IterableDataset") -> Iterable[object]:
    """Return rows with their media as bytes, which need no library, and what is kept as JSON text decoded."""
    rows: Iterable[object] = source.with_format(None)
    if source.features is None:
        return rows
    decoders = json_decoders(source.features.arrow_schema)
    return (
        row | {name: decode(row[name]) for name, decode in decoders.items() if name in row}
        for row in source.with_format(None).decode(False)
    )


def _path_and_choice(source: str | Path) -> tuple[Path, str | None]:
    """Return a path, and what stands behind its colon if nothing has the whole for its name."""
    head, colon, choice = str(source).rpartition(":")
    if colon and choice and not Path(source).exists() and Path(head).exists():
        return Path(head), choice
    return Path(source), None


def _exists_on_hub(name: str) -> bool:
    return _HUB_NAME.fullmatch(name) is not None and not name.endswith(DATA_SUFFIXES)


def _load_from_hub(name: str, choice: str) -> "Dataset":
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    config, _, split = choice.rpartition("/")
    load: Callable[..., Dataset] = partial(load_dataset, name, config) if config else partial(load_dataset, name)
    try:
        with hub_or_cache():
            return load(split=split)
    except (OSError, ValueError, RuntimeError, DatasetsError) as error:
        raise DataError(
            f"there is no file {name}, and the split {choice!r} of a data set {name} could not be loaded from the "
            f"Hub: {error}; another is named as {name}:SPLIT or {name}:CONFIG/SPLIT"
        ) from error
