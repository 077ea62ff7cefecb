"""JSON Lines: a record a line, whose very bytes are kept. NaN and infinity, which Python writes, are read as null.

A key that stands twice in an object, or a number that is too large, sets its record aside (``data/json_rules.py``).
"""

import json
import re
from pathlib import Path

from handpick.data.containers.record import BadRecord, RawRecord, Records
from handpick.data.examples import Json
from handpick.data.json_rules import JsonReader
from handpick.data.lines import read_lines
from handpick.data.nesting import TOO_DEEP, is_nested_too_deep
from handpick.errors import DataError

BOM = b"\xef\xbb\xbf"
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")


def json_line_records(path: Path) -> Records:
    """Yield every line's record, good and bad. Blank lines are passed over; a byte-order mark is no part of a record.

    Raises:
        DataError: the file cannot be read.
    """
    not_finite: list[str] = []  # what of a line stands for no number: NaN, Infinity, -Infinity
    reader = JsonReader(not_finite.append)
    for line in read_lines(path):
        raw = line.content.removeprefix(BOM)
        if line.damage is not None:
            yield BadRecord(line.number, raw, f"damaged file: {line.damage}")
        elif raw.strip():
            not_finite.clear()
            try:
                fields = _fields_of_line(raw, reader)
                if reader.wrong:  # which was not looked for before
                    yield BadRecord(line.number, raw, reader.wrong, as_before=False)
                    continue
                if is_nested_too_deep(fields, raw):
                    raise DataError(TOO_DEEP)
                yield RawRecord(line.number, raw, fields, as_before=not not_finite)
            except DataError as error:
                yield BadRecord(line.number, raw, str(error))


def _fields_of_line(raw: bytes, reader: JsonReader) -> dict[str, Json]:
    try:
        text = raw.decode("utf-8")
        value = reader.decode(text)
        if _SURROGATE_ESCAPE.search(text):
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
