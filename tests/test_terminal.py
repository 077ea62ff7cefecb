"""A user's text is text on a terminal: no markup, no command to the terminal, and never an error."""

from io import StringIO

import pytest
from rich.table import Table

from handpick.progress import progress
from handpick.terminal import Terminal, as_one_line, escape_controls, is_text, say

HOSTILE = ["a[/b]", "[bold]x[/bold]", "[link=file:///etc/passwd]x[/link]", "x:smile:y", "[red", "\\[x]", "[/]"]


def printed(value: object) -> str:
    out = StringIO()
    Terminal(file=out, width=200, force_terminal=True, color_system=None).print(value, soft_wrap=True)
    return out.getvalue()


@pytest.mark.parametrize("text", HOSTILE)
def test_markup_is_text(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(text) == f"{text}\n"
    say(text)
    assert capsys.readouterr().out == f"{text}\n"


@pytest.mark.parametrize("text", HOSTILE)
def test_markup_is_text_in_tables_and_bars(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    table = Table(title=text)
    table.add_column(text, no_wrap=True)
    table.add_row(text)
    assert printed(table).count(text) == 3
    with progress(text, total=1) as advance:
        advance(1)
    assert text in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b]0;title\x07", r"\x1b[31mred\x1b]0;title\x07"),
        ("over\rwritten\x08", r"over\x0dwritten\x08"),
        ("turned \u202e around", r"turned \u202e around"),
        ("p\udcff.jsonl", r"p\xff.jsonl"),  # a file's name that is not UTF-8, as Python has it
        ("half \ud800", r"half \ud800"),
        ("é 漢 – 😀", "é 漢 – 😀"),
    ],
)
def test_what_a_terminal_would_obey_is_an_escape(text: str, shown: str) -> None:
    assert escape_controls(text) == shown
    assert printed(text) == f"{shown}\n"
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_row(text)
    assert "\x1b" not in printed(table)


def test_lines_become_one() -> None:
    assert as_one_line("a\n  b\r\n\nc ") == "a b c"


@pytest.mark.parametrize(("text", "is_one"), [("é\n", True), ("\0", False), ("\ud800", False)])
def test_what_a_file_can_hold(text: str, is_one: bool) -> None:
    assert is_text(text) is is_one
