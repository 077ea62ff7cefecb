"""Records that are handed over in Python, as a source that pools are opened from."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

from handpick.data.examples import Json
from handpick.data.read import BadRecord, DatasetInput, RawRecord, record_of_value
from handpick.in_memory import PREFIX, find_held, hold, memory_name

if TYPE_CHECKING:
    from datasets import Dataset

Rows: TypeAlias = "Sequence[Mapping[str, Any]] | Dataset"


@dataclass(frozen=True)
class MemoryInput:
    """Records in memory: a list of mappings, or a ``datasets.Dataset``. ``what`` says what they are, for the name.

    Each is read as the line of JSON that it would be in a file: ``raw`` is that line, a tuple is a list, and a point in
    time its text. An element that is no mapping with string keys, or has no JSON form, is a bad record, as a bad line
    of a file is. Rows count from 1.
    """

    rows: Rows
    what: str = "records"

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of the records as compact JSON, one a line, 64 hex digits."""
        content = hashlib.sha256()
        for record in self._read_records():
            content.update(record.raw + b"\n")
        return content.hexdigest()

    @cached_property
    def name(self) -> str:
        """What settings, origins and quarantine call the records."""
        return memory_name(self.what, self.digest)

    @property
    def stem(self) -> str:
        """The source of records that name none."""
        return PREFIX.removesuffix(":")

    def sha256(self) -> str:
        """Return ``digest``."""
        return self.digest

    def records(self) -> Iterator[RawRecord | BadRecord]:
        """Return every row, good and bad; equal lines of JSON have equal fields, whatever they were made of."""
        for record in self._read_records():
            yield record._replace(fields=json.loads(record.raw)) if isinstance(record, RawRecord) else record

    def _read_records(self) -> Iterator[RawRecord | BadRecord]:
        if isinstance(self.rows, Sequence):
            return (_record(row, value) for row, value in enumerate(self.rows, start=1))
        return DatasetInput(self.rows).records()


def _record(row: int, value: object) -> RawRecord | BadRecord:
    if not isinstance(value, Mapping):
        return record_of_value(row, value)
    fields: dict[str, Json] = dict(value)
    foreign = [key for key in fields if not isinstance(key, str)]
    if not foreign:
        return record_of_value(row, fields)
    return BadRecord(row, repr(fields).encode(), f"a field's name is no text: {foreign[0]!r}")


def hold_records(rows: Rows, what: str) -> MemoryInput:
    """Make records known to ``Pool.open`` by their name, for as long as the caller keeps what this returns.

    Args:
        rows: a list of mappings, or a ``datasets.Dataset``. What changes in the list later is not seen.
        what: what they are: "pool", "query".
    """
    return hold(MemoryInput(list(rows) if isinstance(rows, Sequence) else rows, what))


def held_records(name: str) -> MemoryInput | None:
    """Return the records of a name; None where nobody in this process holds them."""
    return find_held(name, MemoryInput)
