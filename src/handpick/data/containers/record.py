"""What a container gives: a record and the bytes it had, or what stands in a record's place and is none."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

from handpick.data.containers.json_form import json_form
from handpick.data.examples import Json
from handpick.data.nesting import TOO_DEEP, is_nested_too_deep

Say: TypeAlias = Callable[[str], None]
"""Where a reader says, in one line, what it did that the file does not say by itself. Puts the source's name before."""


class RawRecord(NamedTuple):
    """A record as its container holds it. ``line`` counts from 1; it is the row where there are no lines.

    ``as_before`` is False where the container was read otherwise by an older rule (``handpick.data.version``).
    """

    line: int
    raw: bytes
    fields: dict[str, Json]
    as_before: bool = True


class BadRecord(NamedTuple):
    """Something in a record's place that is none, and why; ``as_before`` as of a record."""

    line: int
    raw: bytes
    reason: str
    as_before: bool = True


Records: TypeAlias = Iterator[RawRecord | BadRecord]


def record_of_json(line: int, value: Json) -> RawRecord | BadRecord:
    """Return a JSON value as a record, whose ``raw`` is compact JSON; what is no object is bad.

    Args:
        line: where it stands, counted from 1.
        value: as ``json.loads`` gives it, with what it takes for numbers (NaN) and for text (halves of pairs).
    """
    if not isinstance(value, dict):
        return BadRecord(line, _show(value), f"not an object: the element is a {type(value).__name__}")
    try:
        try:
            raw = _compact(value)
            return BadRecord(line, raw, TOO_DEEP) if is_nested_too_deep(value, raw) else RawRecord(line, raw, value)
        except UnicodeEncodeError:
            raise
        except ValueError:  # NaN and infinity, which Python writes
            finite: Any = json_form(value)
            raw = _compact(finite)
            if is_nested_too_deep(finite, raw):
                return BadRecord(line, raw, TOO_DEEP)
            return RawRecord(line, raw, finite, as_before=False)
    except UnicodeEncodeError:
        reason = "not text: a string holds bytes that are not UTF-8, or half of a surrogate pair"
    except RecursionError:
        reason = TOO_DEEP
    except (ValueError, TypeError) as error:
        reason = f"malformed JSON: {error}"
    return BadRecord(line, _show(value), reason)


def _compact(value: Json) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8")


def record_of_python(line: int, value: object) -> RawRecord | BadRecord:
    """Return a value of Python's as the record it would be in a file, by the rules of ``json_form``.

    Args:
        line: where it stands, counted from 1.
        value: a mapping; anything else is bad.
    """
    if isinstance(value, Mapping) and (foreign := [key for key in value if not isinstance(key, str)]):
        return BadRecord(line, repr(dict(value)).encode(), f"a field's name is no text: {foreign[0]!r}")
    try:
        return record_of_json(line, json_form(value) if isinstance(value, Mapping) else value)  # type: ignore[arg-type]
    except RecursionError:
        return BadRecord(line, b"", TOO_DEEP)
    except (TypeError, ValueError) as error:
        return BadRecord(line, _show(value), f"malformed JSON: {error}")


def _show(value: object) -> bytes:
    try:
        return json.dumps(value, default=str).encode()
    except (ValueError, TypeError, RecursionError):
        return b""
