"""Records that are handed over in Python, as a source that pools are opened from."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

from handpick.data.containers.record import RawRecord, Records, record_of_python
from handpick.data.read import DatasetInput, Tables, one_table
from handpick.data.spool import SpooledRows
from handpick.in_memory import PREFIX, find_held, hold, memory_name

if TYPE_CHECKING:
    from datasets import Dataset

Rows: TypeAlias = "Sequence[Mapping[str, Any]] | Dataset | SpooledRows"


@dataclass(frozen=True)
class MemoryInput:
    """Records in memory: a list of mappings, or a ``datasets.Dataset``. ``what`` says what they are, for the name.

    Each is read as the line of JSON that it would be in a file: ``raw`` is that line, a tuple is a list, a point in
    time its text, and NaN null. An element that is no mapping with string keys, or has no JSON form, is a bad record,
    as a bad line of a file is. Rows count from 1.
    """

    rows: Rows
    what: str = "records"

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of the records as compact JSON, one a line, 64 hex digits."""
        if not isinstance(self.rows, Sequence):
            return DatasetInput(self.rows).sha256()
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

    def state(self) -> object:
        """Return nothing: nobody else writes to what is in memory."""
        return None

    def records(self) -> Records:
        """Return every row, good and bad; equal lines of JSON have equal fields, whatever they were made of."""
        for record in self._read_records():
            yield record._replace(fields=json.loads(record.raw)) if isinstance(record, RawRecord) else record

    def _read_records(self) -> Records:
        if isinstance(self.rows, Sequence):
            return (record_of_python(row, value) for row, value in enumerate(self.rows, start=1))
        return DatasetInput(self.rows).records()


def hold_records(rows: "Sequence[Mapping[str, Any]] | Tables", what: str) -> MemoryInput:
    """Make records known to ``Pool.open`` by their name, for as long as the caller keeps what this returns.

    Args:
        rows: a list of mappings, or a data set of ``datasets``. What changes in the list later is not seen; of a
            dictionary of splits the training split is taken, and what can only be iterated is read to its end.
        what: what they are: "pool", "query".

    Raises:
        DataError: a dictionary holds no split for training, or several.
    """
    return hold(MemoryInput(list(rows) if isinstance(rows, Sequence) else one_table(rows), what))


def held_records(name: str) -> MemoryInput | None:
    """Return the records of a name; None where nobody in this process holds them."""
    return find_held(name, MemoryInput)
