"""What a person reads in a terminal: a user's text is text there, and neither markup nor a command to the terminal.

Names of folders, targets and sources, ids and records come from users and from files of others. All of them reach a
terminal through a ``Terminal``: brackets stay brackets, and what a terminal would obey, what would turn a line around
and what has no bytes is shown as an escape.
"""

import re
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

# control characters but for tab and line feed, marks that change a line's direction, halves of surrogate pairs
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class Terminal(Console):
    """A console of rich's that reads no markup and no emoji in any text it is given, tables and bars included.

    Args:
        stderr: whether it is standard error.
        settings: what else rich's own takes.
    """

    def __init__(self, *, stderr: bool = False, **settings: Any) -> None:
        super().__init__(stderr=stderr, highlight=False, markup=False, emoji=False, **settings)

    def render_str(self, text: str, **settings: Any) -> Text:
        """Return a text as it is laid out, escaped before rich takes any of it away."""
        return super().render_str(escape_controls(text), **settings)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield the segments of anything that is printed, their text escaped."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=escape_controls(segment.text))


console = Terminal()


def say(text: object) -> None:
    """Print a line on standard output, as wide as it is."""
    console.print(str(text), soft_wrap=True)


def escape_controls(text: str) -> str:
    r"""Return a text with what a terminal would not show as it is written as ``\x1b``; line feeds stay."""
    return _OBEYED.sub(_escape, text)


def is_text(text: str) -> bool:
    """Return whether a file can hold a text, or its name be one: UTF-8, and no zero in it."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def as_one_line(text: object) -> str:
    """Return a text without its line ends."""
    return " ".join(filter(None, (line.strip() for line in str(text).splitlines())))


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file's name that is not UTF-8
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
