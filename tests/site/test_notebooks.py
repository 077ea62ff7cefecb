"""Every tutorial has a notebook with all of its code, in order, and none of the output that the page shows."""

import json

import pytest

from scripts.docs_site import notebooks
from tests.site.pages import blocks_of

PAGES = notebooks.tutorials()


@pytest.mark.parametrize("page", PAGES)
def test_all_of_a_page_is_there(page: str) -> None:
    cells = list(notebooks.cells_of(page))
    code = iter(cell.source for cell in cells if cell.kind == "code")
    for block in blocks_of(page):
        if block.title:
            assert next(code) == f"%%writefile {block.title}\n{block.text.rstrip()}"
        elif block.language == "python":
            assert next(code) == block.text.rstrip()
        for line in block.text.splitlines() if block.language == "console" else ():
            if line.startswith("$ "):
                source = next(code)
                assert source.startswith(("!", "[MODEL] = !", "%%bash --bg\n"))
                assert line[2:].removesuffix(" &").removeprefix("MODEL=$(").removesuffix(")") in source
    assert list(code) == []
    words = "\n".join(cell.source for cell in cells if cell.kind == "markdown")
    assert words.startswith("# ")
    assert ".md" not in words
    assert "```console" not in words


def test_what_is_written_is_a_notebook() -> None:
    pytest.importorskip("nbformat", reason="needs pip install 'handpick[docs]'")
    for page in PAGES:
        text = notebooks.make_notebook(page)
        assert text == notebooks.make_notebook(page)
        assert json.loads(text)["nbformat"] == 4
