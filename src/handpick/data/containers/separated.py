"""CSV and TSV with a header: every cell is text, an empty one null. Cells in quotes may hold quotes and line breaks."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path

from handpick.data.containers.json_lines import BOM
from handpick.data.containers.record import BadRecord, Records, Say, record_of_json
from handpick.data.lines import read_lines
from handpick.errors import DataError

_CELL_CHARACTERS = 2**31 - 1  # csv's own limit is 131,072, less than a long conversation
_OTHERS = (";", "\t", "|")


def separated_records(path: Path, delimiter: str, say: Say) -> Records:
    """Yield every row below the header, good and bad; ``line`` is the line that one begins on.

    Args:
        path: the file.
        delimiter: what stands between cells.
        say: told where it is another than the file's name says.

    Raises:
        DataError: the file cannot be read, or two columns have one name.
    """
    lines = _Lines(path)
    csv.field_size_limit(max(csv.field_size_limit(), _CELL_CHARACTERS))
    header, delimiter = _header(path, lines, delimiter, say)
    rows = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        lines.begin_record()
        try:
            row = next(rows)
        except StopIteration:
            break
        except csv.Error as error:
            yield BadRecord(lines.first, lines.raw(), f"malformed CSV: {error}")
            continue
        if not row:
            continue
        if len(row) != len(header):
            reason = f"malformed CSV: {len(row)} cells under {len(header)} columns"
            yield BadRecord(lines.first, lines.raw(), reason)
            continue
        yield record_of_json(lines.first, {name: cell or None for name, cell in zip(header, row, strict=True)})
    if lines.damage is not None:
        yield BadRecord(lines.number, b"", f"damaged file: {lines.damage}")


class _Lines(Iterator[str]):
    """The lines of a file as text, and which of them the record at hand was made of."""

    def __init__(self, path: Path) -> None:
        self._lines = read_lines(path)
        self._of_record: list[bytes] = []
        self.number, self.first = 0, 1
        self.damage: str | None = None

    def begin_record(self) -> None:
        """Note that the next line is the first of a record."""
        self._of_record, self.first = [], self.number + 1

    def raw(self) -> bytes:
        """Return the lines of the record at hand."""
        return b"\n".join(self._of_record)

    def __next__(self) -> str:
        line = next(self._lines)
        if line.damage is not None:  # what has been read of a row is none
            self.damage, self.number = line.damage, line.number
            raise StopIteration
        self.number = line.number
        self._of_record.append(line.content)
        # A byte that is not UTF-8 becomes a lone surrogate, which is found when its record is written as JSON.
        return line.content.decode("utf-8", errors="surrogateescape") + "\n"


def _header(path: Path, lines: _Lines, delimiter: str, say: Say) -> tuple[list[str], str]:
    """Return the names of the columns and what stands between them."""
    raw = b""
    while not raw.strip():
        raw = next(lines, "").encode("utf-8", errors="surrogateescape").removeprefix(BOM)
        if not raw:
            return [], delimiter
    text = raw.decode("utf-8", errors="surrogateescape")
    names = _cells(path, text, lines, delimiter)
    if len(names) == 1:
        for other in _OTHERS:
            if other != delimiter and other in names[0]:
                say(f"its columns are set apart by {json.dumps(other)}")
                names, delimiter = _cells(path, text, lines, other), other
                break
    names = [name.strip() or f"column {i}" for i, name in enumerate(names, start=1)]
    if repeated := [name for name in names if names.count(name) > 1]:
        raise DataError(f"{path} has two columns named {repeated[0]!r}; rename one")
    return names, delimiter


def _cells(path: Path, text: str, lines: Iterator[str], delimiter: str) -> list[str]:
    """Return the cells of the header, of which one in quotes may go on in the next line."""

    def from_here() -> Iterator[str]:
        yield text
        yield from lines

    try:
        return next(csv.reader(from_here(), delimiter=delimiter, strict=True))
    except (csv.Error, StopIteration) as error:
        raise DataError(f"the first line of {path} is no header of columns: {error}") from error
