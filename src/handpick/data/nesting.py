"""How deep a record may go: reading, writing and rendering one go down it by calling themselves."""

from collections.abc import Iterable

from handpick.data.examples import Json

MOST_NESTED = 100  # lists and objects within each other
TOO_DEEP = f"malformed JSON: it is nested too deep, in more than {MOST_NESTED} lists and objects"


def is_nested_too_deep(value: Json, text: str | bytes) -> bool:
    """Return whether a value has more lists and objects within each other than ``MOST_NESTED``.

    Args:
        value: as it was read.
        text: what it was read from, by which most values are known not to.
    """
    inside = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    if inside.count(b"[") + inside.count(b"{") + inside.count(b"(") <= MOST_NESTED:
        return False
    level: list[Json] = [value]
    for _ in range(MOST_NESTED):
        level = [each for outer in level for each in _values_of(outer)]
    return bool(level)


def _values_of(value: Json) -> Iterable[Json]:
    """Return the lists and objects in a value; of Python's own text, tuples too."""
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return [each for each in inside if isinstance(each, list | dict | tuple)]
