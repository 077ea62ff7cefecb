"""JSON as records are read from it: what readers take for different things is set aside by name.

RFC 8259 leaves open what a key means that an object has twice (section 4: some readers take the first, some the last,
others refuse) and how large a number may be (section 6); of what one reader scores another could train something else.
"""

import json
import math
from collections.abc import Callable

from handpick.data.examples import Json

_SHOWN = 40  # characters of a key or a number


class WrittenNumber(float):
    """A number that a file writes otherwise than it would be written again: 4.10, 1e5. ``text`` is how."""

    text: str


class JsonReader:
    """Decodes JSON, and notes what in it readers disagree on.

    Args:
        constant: what stands for NaN, Infinity and -Infinity, which Python writes and JSON does not have.
    """

    def __init__(self, constant: Callable[[str], object] | None = None) -> None:
        self.wrong = ""
        self._decoder = json.JSONDecoder(
            object_pairs_hook=self._object, parse_float=self._number, parse_constant=constant
        )

    def decode(self, text: str) -> Json:
        """Return the value that a text is; ``wrong`` says then what is wrong with it, and is empty where nothing is.

        Raises:
            ValueError, RecursionError: as ``json.loads``.
        """
        self.wrong = ""
        value: Json = self._decoder.decode(text)
        return value

    def decode_at(self, text: str, position: int) -> tuple[Json, int]:
        """Return the value that begins at a position, and where it ends; ``wrong`` as of ``decode``.

        Raises:
            ValueError, RecursionError: as ``json.loads``.
        """
        self.wrong = ""
        return self._decoder.raw_decode(text, position)

    def _object(self, pairs: list[tuple[str, Json]]) -> dict[str, Json]:
        fields = dict(pairs)
        if len(fields) < len(pairs):
            seen: set[str] = set()
            twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
            self.wrong = self.wrong or (
                f"ambiguous JSON: the key {_shorten(repr(twice))} stands twice in one object, of which some readers "
                "take the first and some the last"
            )
        return fields

    def _number(self, text: str) -> float:
        value = float(text)
        if math.isinf(value):
            self.wrong = self.wrong or (
                f"malformed JSON: the number {_shorten(text)} is beyond what a float64 holds, and what is written of "
                "it is no JSON"
            )
        elif repr(value) != text:
            written = WrittenNumber(value)
            written.text = text
            return written
        return value


def _shorten(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
