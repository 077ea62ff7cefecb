"""Plain values as JSON, and messages over an open file, between a referee and a candidate.

Neither side trusts the other with more than values: nothing that arrives is code, and nothing is looked up by a name
that the other side chose, but for the few here.
"""

import builtins
import json
import os
from collections import deque
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

CHANNEL = 3
MOST_BYTES = 8 << 20  # of one message
CHUNK_BYTES = 1 << 16
SMALL_INT_BITS = 64  # a decimal number much longer may not be read back

Reference = Callable[[Any], dict[str, Any]]  # from what is not plain to how to speak of it
Resolve = Callable[[str, Any], Any]  # and back: the word, and what stands with it

# Those that compare equal to one another by value alone; as text, and back.
TEXTUAL: dict[type[Any], tuple[Callable[[Any], str], Callable[[str], Any]]] = {
    Decimal: (str, Decimal),
    Fraction: (str, Fraction),
    datetime: (datetime.isoformat, datetime.fromisoformat),  # before date, of which it is one
    date: (date.isoformat, date.fromisoformat),
    time: (time.isoformat, time.fromisoformat),
    timedelta: (lambda value: str(value // timedelta(microseconds=1)), lambda text: timedelta(microseconds=int(text))),
    bytes: (bytes.hex, bytes.fromhex),
    bytearray: (bytearray.hex, bytearray.fromhex),
    range: (lambda value: f"{value.start} {value.stop} {value.step}", lambda text: range(*map(int, text.split()))),
}
BUILT_IN_TYPES = {kind.__name__: kind for kind in vars(builtins).values() if isinstance(kind, type)}
GROUPS: dict[type[Any], str] = {tuple: "tuple", set: "set", frozenset: "frozenset", deque: "deque"}


class Lost(Exception):
    """The other side is gone, or sends what is no message."""


def encode(value: Any, reference: Reference) -> Any:
    """Encode a value as JSON has it; what is no plain value becomes whatever ``reference`` makes of it.

    What is one by inheritance, such as a named tuple or a counter, crosses as the plain one that it is.
    """
    if value is None or value is True or value is False:
        return value
    if isinstance(value, int):
        number = int.__int__(value)
        return number if number.bit_length() <= SMALL_INT_BITS else {"int": hex(number)}
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, complex):
        return {"complex": [value.real, value.imag]}
    if isinstance(value, list):
        return [encode(item, reference) for item in value]
    if isinstance(value, dict):
        return {"dict": [[encode(key, reference), encode(item, reference)] for key, item in dict.items(value)]}
    for group, name in GROUPS.items():
        if isinstance(value, group):
            return {name: [encode(item, reference) for item in value]}
    for textual, (to_text, _) in TEXTUAL.items():
        if isinstance(value, textual):
            return {textual.__name__: to_text(value)}
    if isinstance(value, type) and value in BUILT_IN_TYPES.values():
        return {"type": value.__name__}
    return reference(value)


def decode(data: Any, resolve: Resolve) -> Any:
    """Decode the value that ``encode`` made JSON of.

    Raises:
        Lost: nothing that it makes.
    """
    if isinstance(data, list):
        return [decode(item, resolve) for item in data]
    if not isinstance(data, dict):
        return data
    try:
        ((word, content),) = data.items()
        if word == "dict":
            return {decode(key, resolve): decode(item, resolve) for key, item in content}
        if word == "int":
            return int(content, 16)
        if word == "complex":
            return complex(*content)
        if word == "type":
            return BUILT_IN_TYPES[content]
        for group, name in GROUPS.items():
            if word == name:
                return group(decode(item, resolve) for item in content)
        for kind, (_, from_text) in TEXTUAL.items():
            if word == kind.__name__:
                return from_text(content)
        return resolve(word, content)
    except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
        raise Lost(f"no value: {error}") from error


class Wire:
    """Messages, each a line of JSON, over the channel.

    Args:
        file: the number of an open socket.
    """

    def __init__(self, file: int = CHANNEL) -> None:
        self._file = file
        self._unread = b""

    def send(self, message: dict[str, Any]) -> None:
        """Send a message.

        Raises:
            Lost: nobody is there, or the message is too long.
        """
        line = json.dumps(message).encode() + b"\n"
        if len(line) > MOST_BYTES:
            raise Lost("a message is too long")
        try:
            while line:
                line = line[os.write(self._file, line) :]
        except OSError as error:
            raise Lost(str(error)) from error

    def receive(self) -> dict[str, Any]:
        """Wait for a message.

        Raises:
            Lost: nobody is there any more, or what came is none.
        """
        parts = [self._unread]
        size = len(self._unread)
        while b"\n" not in parts[-1]:
            try:
                part = os.read(self._file, CHUNK_BYTES)
            except OSError as error:
                raise Lost(str(error)) from error
            size += len(part)
            if not part or size > MOST_BYTES:
                raise Lost("the other side is gone" if not part else "a message is too long")
            parts.append(part)
        line, _, self._unread = b"".join(parts).partition(b"\n")
        try:
            message = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise Lost(f"no message: {error}") from error
        if not isinstance(message, dict):
            raise Lost("no message")
        return message
