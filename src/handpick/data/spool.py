"""Rows that can be read only once, kept on disk."""

import json
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

from handpick.data.containers.record import BadRecord, RawRecord, Records, record_of_python
from handpick.errors import DataError


class SpooledRows:
    """The rows of an iterable, which is read to its end; removed from disk when nobody holds this any more.

    Args:
        rows: mappings; what is none, or has no JSON form, is a bad record.

    Raises:
        DataError: they cannot be written.
    """

    def __init__(self, rows: Iterable[object]) -> None:
        self._folder = TemporaryDirectory(prefix="handpick-")
        self._file = Path(self._folder.name) / "rows"
        try:
            with self._file.open("w", encoding="utf-8", newline="\n") as out:
                for row, value in enumerate(rows, start=1):
                    record = record_of_python(row, value)
                    reason = record.reason if isinstance(record, BadRecord) else None
                    out.write(json.dumps([row, record.raw.decode("utf-8", "backslashreplace"), reason]) + "\n")
        except OSError as error:
            raise DataError(f"cannot keep the rows of an iterable data set on disk: {error.strerror}") from error

    def records(self) -> Records:
        """Yield every row, good and bad."""
        with self._file.open(encoding="utf-8", newline="\n") as lines:
            for row, text, reason in map(json.loads, lines):
                raw = text.encode("utf-8")
                yield RawRecord(row, raw, json.loads(raw)) if reason is None else BadRecord(row, raw, reason)
