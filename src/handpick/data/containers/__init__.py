"""The table of containers: what records come in. A new one is a file in here and one line in ``CONTAINERS``.

What a file is, is decided by its content; only CSV and TSV, whose content does not tell, go by their names. All is
streamed but JSON that is not a record a line.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from handpick.data.containers.arrow import (
    ARROW_FILE_MAGIC,
    ARROW_STREAM_MAGIC,
    PARQUET_MAGIC,
    arrow_file_records,
    arrow_stream_records,
    parquet_records,
)
from handpick.data.containers.foreign import HEAD_BYTES, refuse_foreign
from handpick.data.containers.json_lines import json_line_records
from handpick.data.containers.json_text import is_json_text, json_text_records
from handpick.data.containers.record import Records, Say
from handpick.data.containers.separated import separated_records
from handpick.data.lines import Damaged, read_chunks
from handpick.errors import DataError

COMPRESSED_SUFFIXES = (".gz", ".zst")
DATA_SUFFIXES = (".jsonl", ".json", ".ndjson", ".parquet", ".arrow", ".feather", ".csv", ".tsv", *COMPRESSED_SUFFIXES)


class Container(NamedTuple):
    """What records come in: how it is called, how it is known, and how it is read.

    ``holds`` is given the path and the first bytes, decompressed; ``read`` the path, the field that was named, and
    where to say what the file does not. ``named`` says that the name decides, and not the bytes.
    """

    name: str
    holds: Callable[[Path, bytes], bool]
    read: Callable[[Path, str | None, Say], Records]
    named: bool = False
    has_fields: bool = False


def _begins(magic: bytes) -> Callable[[Path, bytes], bool]:
    return lambda path, head: head.startswith(magic)


def _ends(suffix: str) -> Callable[[Path, bytes], bool]:
    return lambda path, head: _without_compression(path.name.lower()).endswith(suffix) and not head.startswith(b'{"')


# The first that holds is taken; the last holds anything.
CONTAINERS: tuple[Container, ...] = (
    Container("Parquet", _begins(PARQUET_MAGIC), lambda path, _, say: parquet_records(path, say)),
    Container("Arrow file", _begins(ARROW_FILE_MAGIC), lambda path, _, say: arrow_file_records(path, say)),
    Container("Arrow stream", _begins(ARROW_STREAM_MAGIC), lambda path, _, say: arrow_stream_records(path, say)),
    Container("CSV", _ends(".csv"), lambda path, _, say: separated_records(path, ",", say), named=True),
    Container("TSV", _ends(".tsv"), lambda path, _, say: separated_records(path, "\t", say), named=True),
    Container("JSON", lambda path, _: is_json_text(path), json_text_records, has_fields=True),
    Container("JSON Lines", lambda path, _: True, lambda path, _, say: json_line_records(path)),
)


def find_container(path: Path) -> Container:
    """Return what a file is.

    Raises:
        DataError: it cannot be read, or is of a kind that is known not to hold records.
    """
    head = b""
    try:
        for chunk in read_chunks(path):
            head += chunk
            if len(head) >= HEAD_BYTES:
                break
    except Damaged:  # is said where the records end
        pass
    refuse_foreign(str(path), head[:HEAD_BYTES])
    return next(container for container in CONTAINERS if container.holds(path, head))


def read_records(path: Path, field: str | None, say: Say) -> Records:
    """Yield every record of a file, good and bad. ``raw`` is the line's own bytes for JSON Lines, else compact JSON.

    Args:
        path: the file.
        field: which field of the one JSON object that the file is holds the records.
        say: where to say what the file does not say by itself.

    Raises:
        DataError: the file cannot be read, or is damaged Parquet or Arrow.
    """
    container = find_container(path)
    if field is not None and not container.has_fields:
        raise DataError(f"{path} is {container.name} and has no fields to choose from, and {field!r} was named")
    return container.read(path, field, say)


def has_no_types(name: str) -> bool:
    """Return whether all that a file of this name holds is text, numbers too."""
    return _without_compression(name.lower()).endswith((".csv", ".tsv"))


def _without_compression(name: str) -> str:
    for suffix in COMPRESSED_SUFFIXES:
        name = name.removesuffix(suffix)
    return name
