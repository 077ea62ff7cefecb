"""A raw record, what it says, and what of it counts as not being there."""

import ast
import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple, TypeAlias

from handpick.data.examples import Conversation, Json
from handpick.data.json_rules import JsonReader
from handpick.data.nesting import TOO_DEEP, is_nested_too_deep
from handpick.data.reading import Reading
from handpick.errors import DataError

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")

_TRUTHS = {"true": True, "false": False, "1": True, "0": False, "1.0": True, "0.0": False}

Record: TypeAlias = Mapping[str, Json]


class Conversations(NamedTuple):
    """What a record says: the conversation and, of a preference record, the one that lost; the label of KTO's."""

    messages: Conversation
    rejected: Conversation | None = None
    wanted: bool | None = None


class Format(NamedTuple):
    """A shape of record: its name, the fields that mark it, how it is read, and whether the fields hold what it takes.

    ``fits`` is for shapes whose fields' names are common words: metadata of that name must not be taken for an answer.
    """

    name: str
    fields: tuple[str, ...]
    parse: Callable[[Record, Reading], Conversations]
    fits: Callable[[Record], bool] = lambda record: True


def is_null(value: Json) -> bool:
    """Return whether a value stands for nothing: null, or the NaN that data frames fill in."""
    return value is None or (isinstance(value, float) and value != value)


def truth_of(value: Json) -> bool | None:
    """Return the truth value that a bool, a 0 or 1 or, as CSV files have it, the word of one stands for; else None."""
    if isinstance(value, str):
        return _TRUTHS.get(value.strip().lower())
    return bool(value) if isinstance(value, bool | int | float) and value in (0, 1) else None


def is_blank(value: Json) -> bool:
    """Return whether there is nothing in a value: null, or an empty text, list or object."""
    return is_null(value) or value in ("", [], {}) or (isinstance(value, str) and not value.strip())


def label_text(value: Json) -> str | None:
    """Return a label, such as a source: a text, or a whole number as one; anything else is none."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) else None


def without_nulls(value: Json) -> Json:
    """Return a value without the null fields of objects at any depth: columnar files fill them in (as TRL's
    ``remove_none_values``).
    """
    if isinstance(value, dict):
        return {name: without_nulls(each) for name, each in value.items() if not is_null(each)}
    if isinstance(value, list):
        return [without_nulls(each) for each in value]
    return value


def to_json(value: Json) -> str:
    """Return a value as compact JSON, its keys in their own order."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


def check_argument_text(arguments: Json, field: str) -> None:
    """Refuse arguments that stand as JSON text, which stays as it is, where readers disagree on what it says.

    Raises:
        DataError: a key stands twice in one object, or a number is too large.
    """
    if isinstance(arguments, str):
        reader = JsonReader()
        with suppress(ValueError, RecursionError):  # text of another kind is a template's or a trainer's to judge
            reader.decode(arguments)
            if reader.wrong:
                raise DataError(f"{reader.wrong} (in {field})")


def parse_json(text: str, field: str, what: str) -> Any:
    """Read a value that stands as text in a field, as JSON or as Python writes it.

    Raises:
        DataError: it is neither, or readers disagree on what it is (``data/json_rules.py``).
    """
    reader = JsonReader()
    try:
        value = reader.decode(text)
    except ValueError as error:
        reader.wrong = ""
        try:
            value = ast.literal_eval(text.strip())
            json.dumps(value, default=str)  # a key of Python's may be what no key of JSON's is
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            raise DataError(f"{what}: {field} is text, but no JSON: {error}") from error
    if reader.wrong:
        raise DataError(f"{reader.wrong} (in {field})")
    if is_nested_too_deep(value, text):
        raise DataError(TOO_DEEP)
    if _SURROGATE.search(text):
        try:
            json.dumps(value, ensure_ascii=False, default=str).encode()
        except UnicodeEncodeError as error:
            raise DataError(f"not text: a string in {field} holds half of a surrogate pair") from error
    return value
