"""From a source to its raw records: JSON Lines, a JSON array, Parquet, a ``datasets.Dataset``, a Hub data set.

What a file is, is decided by its content, not by its name. All but JSON arrays are streamed.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, time
from glob import glob, has_magic
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from handpick.data.examples import Json
from handpick.data.hub import hub_or_cache
from handpick.data.lines import Damaged, read_chunks, read_lines
from handpick.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset

Source: TypeAlias = "str | Path | Dataset"

BOM = b"\xef\xbb\xbf"
PARQUET_MAGIC = b"PAR1"
ROWS_AT_A_TIME = 1000
SHOWN_CHARACTERS = 1000  # of what stands where an array cannot be read any further, which may be gigabytes
DATA_SUFFIXES = (".jsonl", ".json", ".ndjson", ".parquet", ".gz", ".zst")
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")


class RawRecord(NamedTuple):
    """A record as its container holds it. ``line`` counts from 1; it is the row where there are no lines.

    ``as_before`` is False where the container was read otherwise, or not at all, by an older rule
    (``handpick.data.version``).
    """

    line: int
    raw: bytes
    fields: dict[str, Json]
    as_before: bool = True


class BadRecord(NamedTuple):
    """Something in a record's place that is none, and why. ``as_before`` is False where an older rule could use it."""

    line: int
    raw: bytes
    reason: str
    as_before: bool = True


@dataclass(frozen=True)
class FileInput:
    """A file of records."""

    path: Path

    @property
    def name(self) -> str:
        """The path as the user gave it."""
        return str(self.path)

    @property
    def stem(self) -> str:
        """The file's name without the suffixes of containers and compression."""
        name = self.path.name
        while name.endswith(DATA_SUFFIXES):
            name = name.rpartition(".")[0]
        return name

    def sha256(self) -> str:
        """Return the digest of the file's bytes.

        Raises:
            DataError: the file cannot be read.
        """
        try:
            with self.path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise DataError(f"cannot read {self.path}: {error.strerror}") from error

    def records(self) -> Iterator[RawRecord | BadRecord]:
        """Yield every record, good and bad. ``raw`` is the line's own bytes for JSON Lines, compact JSON otherwise.

        Blank lines are passed over, and a byte-order mark is no part of the record behind it.

        Raises:
            DataError: the file cannot be read, or is damaged Parquet.
        """
        if _is_parquet(self.path):
            return _parquet_records(self.path)
        if _is_one_array(self.path):
            return _array_records(self.path)
        return _line_records(self.path)


@dataclass(frozen=True)
class DatasetInput:
    """A data set of the ``datasets`` library."""

    dataset: "Dataset"
    name: str = "dataset"

    @property
    def stem(self) -> str:
        """The name without organisation and split."""
        return self.name.partition(":")[0].rpartition("/")[2]

    def sha256(self) -> str:
        """Return the digest of the rows as compact JSON, one a line."""
        digest = hashlib.sha256()
        for record in self.records():
            digest.update(record.raw + b"\n")
        return digest.hexdigest()

    def records(self) -> Iterator[RawRecord | BadRecord]:
        """Yield every row, good and bad."""
        tables = self.dataset.with_format("arrow").iter(ROWS_AT_A_TIME)
        return _row_records(table.to_pylist() for table in tables)


def is_pattern(source: str | Path) -> bool:
    """Return whether a path is a pattern of paths.

    The brackets of a Hub name's split (``org/name:train[:10%]``) make none.
    """
    return has_magic(str(source)) and not _exists_on_hub(str(source).partition(":")[0])


def _exists_on_hub(name: str) -> bool:
    return HUB_NAME.fullmatch(name) is not None and not name.endswith(DATA_SUFFIXES)


def open_source(source: Source) -> list[FileInput | DatasetInput]:
    """Find what a source names: a ``Dataset``, a file, the data files of a folder or of a pattern such as
    ``shards/*.jsonl``, in the order of their names, or else a data set of the Hub as ``org/name[:split]``.

    Raises:
        DataError: there is no such file or data set, or the Hub cannot be reached.
    """
    if not isinstance(source, str | Path):
        return [DatasetInput(source)]
    path = Path(source)
    if path.is_file():
        return [FileInput(path)]
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.is_file() and file.name.endswith(DATA_SUFFIXES))
        if not files:
            raise DataError(f"the folder {path} holds no data file ({', '.join(DATA_SUFFIXES)})")
        return [FileInput(file) for file in files]
    if is_pattern(source):
        files = sorted(Path(file) for file in glob(str(path)) if Path(file).is_file())
        if not files:
            raise DataError(f"no file is of the pattern {path}")
        return [FileInput(file) for file in files]
    name, _, split = str(source).partition(":")
    if isinstance(source, str) and _exists_on_hub(name):
        return [DatasetInput(_load_from_hub(name, split or "train"), source)]
    raise DataError(f"there is no file {path}")


def _load_from_hub(name: str, split: str) -> "Dataset":
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    try:
        with hub_or_cache():
            return load_dataset(name, split=split)
    except (OSError, ValueError, RuntimeError, DatasetsError) as error:
        raise DataError(
            f"there is no file {name}, and the split {split!r} of a data set {name} could not be loaded from the "
            f"Hub: {error}"
        ) from error


def _line_records(path: Path) -> Iterator[RawRecord | BadRecord]:
    for line in read_lines(path):
        raw = line.content.removeprefix(BOM)
        if line.damage is not None:
            yield BadRecord(line.number, raw, f"damaged file: {line.damage}")
        elif raw.strip():
            try:
                yield RawRecord(line.number, raw, _fields_of_line(raw))
            except DataError as error:
                yield BadRecord(line.number, raw, str(error))


def _refuse_constant(name: str) -> None:
    raise DataError(f"malformed JSON: {name} is no JSON value")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)  # json.loads would make one a line, a sixth of its time


def _fields_of_line(raw: bytes) -> dict[str, Json]:
    try:
        text = raw.decode("utf-8")
        value: Json = _DECODER.decode(text)
        if SURROGATE_ESCAPE.search(text):
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"not UTF-8: byte {error.start + 1} of the line is 0x{raw[error.start]:02x}") from error
    except UnicodeEncodeError as error:
        raise DataError("not text: a string holds half of a surrogate pair") from error
    except json.JSONDecodeError as error:
        raise DataError(f"malformed JSON: {error.msg} at column {error.colno}") from error
    except (ValueError, RecursionError) as error:  # a number of too many digits, brackets nested too deep
        raise DataError(f"malformed JSON: {error}") from error
    if not isinstance(value, dict):
        raise DataError(f"not an object: the line holds a {type(value).__name__}")
    return value


def _is_parquet(path: Path) -> bool:
    try:
        return next(read_chunks(path), b"").startswith(PARQUET_MAGIC)
    except Damaged:
        return False


def _is_one_array(path: Path) -> bool:
    """Return whether the file is one JSON array, which JSON Lines may look like when its first line is a bad one."""
    lines = (line.content for line in read_lines(path) if line.content.strip())
    first = next(lines, b"").removeprefix(BOM).lstrip()
    if not first.startswith(b"["):
        return False
    try:
        json.loads(first)
    except (ValueError, RecursionError):
        return True
    return next(lines, None) is None


def _array_records(path: Path) -> Iterator[RawRecord | BadRecord]:
    """Yield the elements of an array, decoded one at a time; ``line`` is the line an element begins on."""
    content, damage = bytearray(), "malformed JSON"
    try:
        for chunk in read_chunks(path):
            content += chunk
    except Damaged as error:
        damage = f"damaged file: {error}"
    # A byte that is not UTF-8 becomes a lone surrogate, which is found when its record is written as JSON.
    text = content.decode("utf-8", errors="surrogateescape")
    decoder, space = json.JSONDecoder(), re.compile(r"[\s\ufeff]*")

    def skip(position: int) -> int:
        match = space.match(text, position)
        return match.end() if match else position

    def bad(reason: str, rest: str) -> BadRecord:
        return BadRecord(line, rest[:SHOWN_CHARACTERS].encode("utf-8", errors="surrogateescape"), reason)

    position = text.index("[") + 1
    line, counted = 1, 0
    while True:
        start = skip(position)
        line, counted = line + text.count("\n", counted, start), start
        if text.startswith("]", start):
            position = skip(start + 1)
            if text.startswith("[", position):  # files that were put behind each other
                position += 1
                continue
            if position < len(text):
                yield bad(f"{damage}: there is text behind the end of the array", text[position:])
            return
        try:
            value, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError) as error:
            yield bad(f"{damage}: the array cannot be read past here: {error}", text[start:])
            return
        yield record_of_value(line, value)
        position = skip(end)
        if text.startswith(",", position):
            position += 1


def _parquet_records(path: Path) -> Iterator[RawRecord | BadRecord]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            yield from _row_records(batch.to_pylist() for batch in file.iter_batches(ROWS_AT_A_TIME))
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read as Parquet: {error}") from error


def _row_records(batches: Iterable[list[dict[str, Json]]]) -> Iterator[RawRecord | BadRecord]:
    rows = (row for batch in batches for row in batch)
    return (record_of_value(i, row) for i, row in enumerate(rows, start=1))


def record_of_value(line: int, value: Any) -> RawRecord | BadRecord:
    """Return a value as a record, whose ``raw`` is compact JSON; what is no object, or has no JSON form, is bad.

    Args:
        line: where it stands, counted from 1.
        value: as JSON, Parquet or Python has it.
    """

    def bad(reason: str) -> BadRecord:
        return BadRecord(line, json.dumps(value, default=str).encode(), reason)

    if not isinstance(value, dict):
        return bad(f"not an object: the element is a {type(value).__name__}")
    try:
        raw = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_timestamp)
        return RawRecord(line, raw.encode("utf-8"), value)
    except UnicodeEncodeError:
        return bad("not text: a string holds bytes that are not UTF-8, or half of a surrogate pair")
    except (ValueError, TypeError) as error:
        return bad(f"malformed JSON: {error}")


def _timestamp(value: object) -> str:
    """Format points in time, which JSON has no type for, as ISO 8601."""
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    raise TypeError(f"a value of type {type(value).__name__} has no JSON form")
