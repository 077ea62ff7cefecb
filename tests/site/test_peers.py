"""The comparison with other tools says of every cell where it was seen."""

import re

from tests.site.pages import DOCS

COMPARED, SEEN = (DOCS / "peers.md").read_text(encoding="utf-8").split("## Where it was seen\n")
TOOLS = {"Bergson": "b", "DataFlex": "f", "Data-Juicer": "j", "wana": "w", "dattri-llm": "d"}
ROWS = [row for row in re.findall(r"^\| (.+) \|$", COMPARED, re.MULTILINE) if row.count(" | ") == len(TOOLS) + 1]
POINTER = re.compile(r"\b([bfjwdn]\d+)\b")


def test_every_cell_says_what_there_is_and_where_it_was_seen() -> None:
    assert len(ROWS) > 50
    for row in ROWS:
        feature, ours, *theirs = row.split(" | ")
        assert re.match(r"(\[yes\]\(|part: .*\]\(|no\b|never\b)", ours), f"{feature}: {ours}"
        for letter, cell in zip(TOOLS.values(), theirs, strict=True):
            assert re.match(r"(yes|no|part|not found)\b", cell), f"{feature}: {cell}"
            kinds = {pointer[0] for pointer in POINTER.findall(cell)}
            assert kinds == {"n" if cell.startswith("not found") else letter}, f"{feature}: {cell}"


def test_every_pointer_leads_to_a_line_and_every_line_is_pointed_to() -> None:
    lines = re.findall(r"^\| ([bfjwdn]\d+) \| \S.*\|$", SEEN, re.MULTILINE)
    assert len(lines) == len(set(lines))
    assert set(lines) == set(POINTER.findall(COMPARED))
