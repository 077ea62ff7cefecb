"""Reads a file as a pool would, for the tests of containers."""

from pathlib import Path
from typing import Any

from handpick.data.read import BadRecord, FileInput, RawRecord, open_source


def read(path: Path | str) -> list[RawRecord | BadRecord]:
    """Read a source of one file."""
    (source,) = open_source(path)
    assert isinstance(source, FileInput)
    return list(source.records())


def fields(path: Path | str) -> list[dict[str, Any]]:
    """Read the records of a source of files, all of which must be good."""
    records = [record for source in open_source(path) for record in source.records()]
    assert all(isinstance(record, RawRecord) for record in records), records
    return [record.fields for record in records if isinstance(record, RawRecord)]


def reasons(path: Path | str) -> dict[int, str]:
    """Read the bad records of a file: why each is one, by its line."""
    return {record.line: record.reason for record in read(path) if isinstance(record, BadRecord)}
