"""JSON that is not a record a line: an array, one object around the records, one lone record, values behind each other.

It is read into memory as text; its records are decoded one at a time.
"""

import json
import re
from collections.abc import Generator, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TypeAlias

from handpick.data.containers.json_lines import BOM, json_line_records
from handpick.data.containers.record import BadRecord, RawRecord, Records, Say, record_of_json
from handpick.data.examples import Json
from handpick.data.formats import parse_record
from handpick.data.json_rules import JsonReader
from handpick.data.lines import Damaged, read_chunks, read_lines
from handpick.errors import DataError

SHOWN_CHARACTERS = 1000  # of what stands where the text cannot be read any further, which may be gigabytes
_SHOWN_FIELDS = 10
_TRIED = 10  # elements of a list that are looked at to tell whether it holds records
_SPACE = re.compile(r"[\s\ufeff]*")
_INSIDE = (b"{", b"[", b",", b":")  # how a line ends behind which a value goes on
_DEPTH = 3  # of objects in objects that are searched for the list of records
_Path: TypeAlias = tuple[str, ...]
_Elements: TypeAlias = Generator[RawRecord | BadRecord, None, int]


class _Text:
    """The text of a file, and where its lines are. A byte that is not UTF-8 is a lone surrogate in it."""

    def __init__(self, path: Path) -> None:
        content, self.is_damaged, self.path = bytearray(), False, path
        self.what = "malformed JSON"  # what is wrong where the text cannot be read any further
        try:
            for chunk in read_chunks(path):
                content += chunk
        except Damaged as error:
            self.what, self.is_damaged = f"damaged file: {error}", True
        # What is not UTF-8 is found when its record is written as JSON.
        self.content = content.decode("utf-8", errors="surrogateescape")
        self._reader = JsonReader()
        self._line, self._counted = 1, 0

    def skip(self, position: int) -> int:
        """Return where the space behind a position ends."""
        match = _SPACE.match(self.content, position)
        return match.end() if match else position

    def decode(self, position: int) -> tuple[Json, int]:
        """Return the value that begins here, and where it ends."""
        return self._reader.decode_at(self.content, position)

    def record(self, position: int, value: Json) -> RawRecord | BadRecord:
        """Return the value that was decoded last, from here, as a record."""
        if isinstance(value, dict) and self._reader.wrong:  # which was not looked for before
            return BadRecord(self.line(position), self.show(position), self._reader.wrong, as_before=False)
        return record_of_json(self.line(position), value)

    def line(self, position: int) -> int:
        """Return the line of a position, counted from 1."""
        if position < self._counted:
            self._line, self._counted = 1, 0
        self._line += self.content.count("\n", self._counted, position)
        self._counted = position
        return self._line

    def bad(self, position: int, reason: str) -> BadRecord:
        """Return what stands from here on as a bad record."""
        return BadRecord(self.line(position), self.show(position), f"{self.what}: {reason}" if reason else self.what)

    def show(self, position: int) -> bytes:
        """Return the beginning of what stands here."""
        return self.content[position : position + SHOWN_CHARACTERS].encode("utf-8", errors="surrogateescape")


def is_json_text(path: Path) -> bool:
    """Return whether a file is JSON of another form than a record a line, whose first line may be a bad one.

    Raises:
        DataError: the file cannot be read.
    """
    lines = (line.content.strip() for line in read_lines(path))
    filled = (line for line in lines if line)
    first, second = next(filled, b"").removeprefix(BOM).lstrip(), next(filled, None)
    if not first.startswith((b"[", b"{")):
        return False
    if first.startswith(b"["):
        return second is None or not _is_json(first)
    if second is None:  # the line's own record, if it is one, keeps its bytes
        return _is_text_of_objects(path)
    if _is_json(first):
        return False
    if _is_object(second) and not first.endswith(_INSIDE):
        return False
    return _is_text_of_objects(path)


def json_text_records(path: Path, field: str | None, say: Say) -> Records:
    """Yield the records, good and bad; ``line`` is the line that one begins on.

    Args:
        path: the file.
        field: which field of the one object holds the records; None for the only one that can.
        say: told which it is.

    Raises:
        DataError: the file cannot be read, several fields could hold the records, or ``field`` holds none.
    """
    text = _Text(path)
    is_said = False
    for record in _records(text, field, say):
        yield record
        is_said = is_said or (isinstance(record, BadRecord) and record.reason.startswith(text.what))
    if text.is_damaged and not is_said:  # all that can be read is whole
        yield text.bad(len(text.content), "")


def _records(text: _Text, field: str | None, say: Say) -> Records:
    start = text.skip(0)
    if text.content.startswith("[", start):
        if field is not None:
            raise DataError(f"{text.path} is a list of records and has no field {field!r}")
        yield from _arrays(text, start)
        return
    try:
        value, end = text.decode(start)
    except (ValueError, RecursionError) as error:
        yield from _what_is_left(text, start, error, say)
        return
    if (behind := text.skip(end)) < len(text.content):
        yield text.record(start, value)
        yield from _objects(text, behind)
    elif isinstance(value, dict):
        yield from _of_one_object(text, start, value, field, say)


def _arrays(text: _Text, position: int) -> Records:
    """Yield the elements of arrays that were put behind each other."""
    while text.content.startswith("[", position):
        end = yield from _elements(text, position)
        position = text.skip(end)
    if position < len(text.content):
        yield text.bad(position, "there is text behind the end of the array")


def _elements(text: _Text, position: int) -> _Elements:
    """Yield the elements of the array that begins here; return where it ends."""
    position += 1
    while True:
        start = text.skip(position)
        if text.content.startswith("]", start):
            return start + 1
        try:
            value, end = text.decode(start)
        except (ValueError, RecursionError) as error:
            yield text.bad(start, f"the array cannot be read past here: {error}")
            return len(text.content)
        yield text.record(start, value)
        position = text.skip(end)
        if text.content.startswith(",", position):
            position += 1


def _objects(text: _Text, position: int) -> Records:
    """Yield values that stand behind each other, over several lines each."""
    while position < len(text.content):
        try:
            value, end = text.decode(position)
        except (ValueError, RecursionError) as error:
            yield text.bad(position, f"the file cannot be read past here: {error}")
            return
        yield text.record(position, value)
        position = text.skip(end)


def _fields(text: _Text, position: int) -> Iterator[tuple[str, int]]:
    """Yield the fields of the object that begins here, and where the value of each does.

    Raises:
        ValueError: the text ends or is no JSON behind what was yielded last.
    """
    position = text.skip(position + 1)
    while text.content.startswith('"', position):
        key, end = text.decode(position)
        start = text.skip(text.skip(end) + 1)  # the colon
        yield str(key), start
        position = text.skip(text.decode(start)[1])
        if text.content.startswith(",", position):
            position = text.skip(position + 1)


def _of_one_object(text: _Text, start: int, value: dict[str, Json], field: str | None, say: Say) -> Records:
    path = _path_of_records(text.path, value) if field is None else _path_of_field(text.path, value, field)
    if path is not None:
        say(f"one JSON object, whose records are the list {'.'.join(path)!r}")
        for name in path:
            starts = [position for field, position in _fields(text, start) if field == name]
            if len(starts) > 1:
                raise DataError(f"{text.path} has the field {name!r} twice in one object: rename one")
            start = starts[0]
        yield from _elements(text, start)
    elif len(value) > 1 and all(isinstance(each, dict) for each in value.values()) and _holds_records(value.values()):
        say(f"one JSON object, whose records are the values of its {len(value):,} fields")
        for _, position in _fields(text, start):
            yield text.record(position, text.decode(position)[0])
    elif not _is_good_record(value) and _has_columns(value):
        reason = f"columns and not records: the fields {_names(list(value))}; write a record a line (pandas: to_json("
        yield BadRecord(text.line(start), text.show(start), reason + "orient='records', lines=True))")
    elif len(value) > _SHOWN_FIELDS and not _is_record(value):
        reason = f"no known shape: one object, no field of which ({_names(list(value))}) is a list of records"
        yield BadRecord(text.line(start), text.show(start), reason)
    elif "\n" not in text.content.strip():
        yield from json_line_records(text.path)
    else:
        yield text.record(start, value)


def _lists(value: dict[str, Json], depth: int = _DEPTH) -> dict[_Path, list[Json]]:
    """Return the lists in an object and in the objects in it, by the fields that lead to them."""
    found: dict[_Path, list[Json]] = {}
    for name, each in value.items():
        if isinstance(each, list):
            found[(name,)] = each
        elif isinstance(each, dict) and depth > 1:
            found |= {(name, *path): inner for path, inner in _lists(each, depth - 1).items()}
    return found


def _path_of_field(file: Path, value: dict[str, Json], field: str) -> _Path:
    """Return the fields that lead to the list that was named.

    Raises:
        DataError: there is none of that name.
    """
    names = {".".join(path): path for path in _lists(value)}
    if field not in names:
        raise DataError(f"{file} has no list {field!r}; its lists are {_names(list(names)) or 'none'}")
    return names[field]


def _path_of_records(file: Path, value: dict[str, Json]) -> _Path | None:
    """Return the fields that lead to the list that holds the records; None where the object is a record itself.

    Raises:
        DataError: several could.
    """
    lists = {path: each for path, each in _lists(value).items() if each and isinstance(each[0], dict)}
    near = {path: each for path, each in lists.items() if len(path) == 1}
    if _is_answered(value):  # a list in it may look like records: Bedrock's system prompt is a list of texts
        return None
    could: list[_Path] = [path for path, each in near.items() if _holds_records(each)]
    if not could and not _is_record(value):
        could = [path for path, each in lists.items() if _holds_records(each)] or list(near if len(near) == 1 else ())
    if len(could) > 1:
        names = [".".join(path) for path in could]
        raise DataError(
            f"{file} is one JSON object, and {len(could)} of its lists could hold the records: {_names(names)}; "
            f"name one, as {file}:{names[0]}"
        )
    return could[0] if could else None


def _holds_records(values: Iterable[Json]) -> bool:
    return any(isinstance(each, dict) and _is_record(each) for each in islice(values, _TRIED))


def _is_record(value: dict[str, Json]) -> bool:
    """Return whether an object has one of the shapes of records, be it a bad one."""
    return not _what_is_wrong(value).startswith("no known shape")


def _is_good_record(value: dict[str, Json]) -> bool:
    return not _what_is_wrong(value)


def _is_answered(value: dict[str, Json]) -> bool:
    """Return whether an object is a record that can be used, with an answer in it."""
    try:
        return any(turn.role == "assistant" for turn in parse_record(value).messages)
    except (DataError, RecursionError):
        return False


def _what_is_wrong(value: dict[str, Json]) -> str:
    try:
        parse_record(value)
    except DataError as error:
        return str(error)
    except RecursionError:
        return "nested too deep"
    return ""


def _has_columns(value: dict[str, Json]) -> bool:
    """Return whether the fields of an object are columns: objects with the same keys or lists of one length."""
    if value.keys() == {"columns", "index", "data"}:
        return True
    keys = [list(each) if isinstance(each, dict) else None for each in value.values()]
    lengths = [len(each) if isinstance(each, list) else 0 for each in value.values()]
    return any(all(each and each == sizes[0] for each in sizes) for sizes in (keys, lengths) if len(sizes) > 1)


def _what_is_left(text: _Text, start: int, error: Exception, say: Say) -> Records:
    """Yield what can be read of one object that is cut off or damaged: the elements of the list that is."""
    last: tuple[str, int] | None = None
    try:
        for name, position in _fields(text, start):
            last = name, position
    except (ValueError, RecursionError):
        pass
    if last is None or not text.content.startswith("[", last[1]):
        yield text.bad(start, f"the object cannot be read: {error}")
        return
    say(f"one JSON object that is damaged, whose records are the list {last[0]!r}")
    yield from _elements(text, last[1])


def _is_text_of_objects(path: Path) -> bool:
    """Return whether a file that begins with no whole object is JSON over several lines, and no bad first line."""
    text = _Text(path)
    position = text.skip(0)
    try:
        while position < len(text.content):
            position = text.skip(text.decode(position)[1])
        return True
    except (ValueError, RecursionError):
        pass
    lines = [line.content for line in read_lines(path) if line.content.strip()]
    if len(lines) == 1 or any(map(_is_object, lines)):
        return False
    return bool(re.match(r'\{\s*"(?:[^"\\]|\\.)*"\s*:', text.content[text.skip(0) :][:SHOWN_CHARACTERS]))


def _is_json(content: bytes) -> bool:
    try:
        json.loads(content)
    except (ValueError, RecursionError):
        return False
    return True


def _is_object(content: bytes) -> bool:
    content = content.strip()
    return content.startswith(b"{") and content.endswith(b"}") and _is_json(content)


def _names(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN_FIELDS:,} more" if len(names) > _SHOWN_FIELDS else ""
    return ", ".join(names[:_SHOWN_FIELDS]) + more
