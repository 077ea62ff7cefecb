"""Draw the Mermaid diagrams of docs/ as SVG, by Graphviz, so that the site needs no Mermaid and no network.

    python scripts/docs_site/diagrams.py

writes ``docs/pictures/PAGE-N.svg`` for the N-th diagram of each page, and needs Graphviz's ``dot`` (``DOT`` names it,
where it is not on the path). Each picture ends with the digest of the diagram it was drawn from, by which the site's
build notices one that was changed since. Read is the part of Mermaid's flowcharts that the pages use.
"""

import hashlib
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
PICTURES = DOCS / "pictures"
BLOCK = re.compile(r"^```mermaid\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NODE = re.compile(r'(\w+)(?:\[\("([^"]*)"\)\]|\["([^"]*)"\]|\[([^\]"(]*)\])?')
_ARROW = re.compile(r'\s*(?:-- "?([^">]*?)"? -->|-\. "?([^">]*?)"? \.->|(-->)|(-\.->))\s*')
_INK = "#010203"  # a colour that stands for the text's own


def picture_of(page: str, number: int) -> Path:
    """Return where the picture of a page's ``number``-th diagram is, counted from 1."""
    return PICTURES / f"{Path(page).stem}-{number}.svg"


def mark_of(diagram: str) -> str:
    """Return the comment that ties a picture to its diagram."""
    return f"<!-- {hashlib.sha256(diagram.encode()).hexdigest()[:16]} -->"


def as_dot(diagram: str) -> str:
    """Return a flowchart as Graphviz takes it.

    Raises:
        ValueError: a line is none of the kinds that are read.
    """
    head, *lines = diagram.strip().splitlines()
    if not re.fullmatch(r"flowchart (LR|TB|TD)", head.strip()):
        raise ValueError(f"no flowchart that is read: {head}")
    nodes: dict[str, str] = {}
    edges = [edge for line in lines if line.strip() for edge in _edges(line.strip(), nodes)]
    return "\n".join(
        [
            "digraph {",
            "rankdir=TB; bgcolor=transparent; ranksep=0.3; nodesep=0.2;",  # a page has more length than width
            f'node [shape=box, style=rounded, color="{_INK}", fontcolor="{_INK}", fontname="DejaVu Sans", fontsize=11,'
            " height=0.3, margin=0.1];",
            f'edge [color="{_INK}", fontcolor="{_INK}", fontname="DejaVu Sans", fontsize=9, arrowsize=0.6];',
            *(f"{name} [{look}];" for name, look in nodes.items()),
            *edges,
            "}",
        ]
    )


def _edges(line: str, nodes: dict[str, str]) -> Iterator[str]:
    before, place, look = "", 0, ""
    while True:
        node = _NODE.match(line, place)
        if node is None:
            raise ValueError(f"no node is read at: {line[place:]}")
        name, store, quoted, plain = node.groups()
        label = store or quoted or plain
        if label or name not in nodes:
            shape = ", shape=cylinder" if store else ""
            nodes[name] = f'label="{(label or name).replace("<br/>", chr(92) + "n")}"{shape}'
        if before:
            yield f"{before} -> {name} [{look}];"
        place = node.end()
        if place == len(line):
            return
        arrow = _ARROW.match(line, place)
        if arrow is None:
            raise ValueError(f"no arrow is read at: {line[place:]}")
        said, said_dotted, _, dotted = arrow.groups()
        look = f'label=" {said or said_dotted or ""} "' + (", style=dashed" if said_dotted or dotted else "")
        before, place = name, arrow.end()


def draw(diagram: str) -> str:
    """Return a flowchart as SVG whose ink is the text's own, without blank lines."""
    command = [os.environ.get("DOT", "dot"), "-Tsvg"]
    drawn = subprocess.run(command, input=as_dot(diagram), capture_output=True, text=True, check=True).stdout
    svg = drawn[drawn.index("<svg") :]
    svg = re.sub(r"<!--.*?-->|<title>.*?</title>", "", svg, flags=re.DOTALL).replace(_INK, "currentColor")
    svg = re.sub(r' id="[^"]*" class="[^"]*"', "", svg).replace('font-family="DejaVu Sans"', 'font-family="inherit"')
    return "\n".join([*(line for line in svg.splitlines() if line.strip()), mark_of(diagram)]) + "\n"


def main() -> None:
    """Draw every diagram that has no picture yet, or another."""
    PICTURES.mkdir(exist_ok=True)
    for page in sorted(DOCS.glob("*.md")):
        for number, diagram in enumerate(BLOCK.findall(page.read_text(encoding="utf-8")), start=1):
            path = picture_of(page.name, number)
            if not path.exists() or mark_of(diagram) not in path.read_text(encoding="utf-8"):
                path.write_text(draw(diagram), encoding="utf-8")
                print(path.relative_to(DOCS.parent))


if __name__ == "__main__":
    main()
