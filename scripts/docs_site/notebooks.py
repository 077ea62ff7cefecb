"""Notebooks of the tutorials: the same text and code, a cell a command, without the output that the pages show.

`make docs` puts them beside the pages. A block with a title becomes a file that a cell writes, a transcript's commands
become cells of a shell's; what no test runs (a block of no language) stays text.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

DOCS = Path(__file__).parents[2] / "docs"
_FENCE = re.compile(r"^```(\w*)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:)[^)]*\)")
_ASSIGNED = re.compile(r"(\w+)=\$\((.*)\)")


class Cell(NamedTuple):
    """A cell of a notebook."""

    kind: Literal["markdown", "code"]
    source: str


def tutorials() -> list[str]:
    """Return the names of the pages that there are notebooks of."""
    return sorted(path.name for path in DOCS.glob("tutorial_*.md"))


def make_notebook(page: str) -> str:
    """Return the notebook of a page, as the text of its file.

    Raises:
        ValidationError: it is none.
    """
    import nbformat

    notebook: Any = nbformat.v4.new_notebook()
    for number, (kind, source) in enumerate(cells_of(page)):
        cell = nbformat.v4.new_code_cell(source) if kind == "code" else nbformat.v4.new_markdown_cell(source)
        cell["id"] = f"cell-{number}"  # else drawn at random
        notebook.cells.append(cell)
    nbformat.validate(notebook)
    return str(nbformat.writes(notebook)) + "\n"


def cells_of(page: str) -> Iterator[Cell]:
    """Yield the cells of a page."""
    text = (DOCS / page).read_text(encoding="utf-8")
    written, place = "", 0
    for block in _FENCE.finditer(text):
        written += _LINK.sub(_without_link, text[place : block.start()])
        place = block.end()
        cells = list(_cells_of_block(*block.groups()))
        if not cells:  # of no language: nothing runs it
            written += block[0]
            continue
        if written.strip():
            yield Cell("markdown", written.strip())
        written = ""
        yield from cells
    written += _LINK.sub(_without_link, text[place:])
    if written.strip():
        yield Cell("markdown", written.strip())


def _cells_of_block(language: str, title: str | None, text: str) -> Iterator[Cell]:
    if title:
        yield Cell("code", f"%%writefile {title}\n{text.rstrip()}")
    elif language == "python":
        yield Cell("code", text.rstrip())
    elif language == "console":
        yield from (Cell("code", _as_cell(line[2:])) for line in text.splitlines() if line.startswith("$ "))


def _as_cell(command: str) -> str:
    """Return a shell's command as IPython runs it, which puts its own variables in place of ``$NAME``."""
    if assigned := _ASSIGNED.fullmatch(command):
        return f"[{assigned[1]}] = !{assigned[2]}"
    if command.endswith(" &"):
        return f"%%bash --bg\n{command.removesuffix(' &')}"
    return f"!{command}"


def _without_link(link: re.Match[str]) -> str:
    """Return the words of a link to another page, which a notebook does not have beside it."""
    return f"({link[2]})" if link[1] else link[2]
