"""Whatever stands in the data, a table runs nothing in a spreadsheet, and a page nothing in a browser."""

import csv
import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from handpick.reporting.page import data_block, page
from handpick.reporting.plots import Plot, harmless_cell, panels, style, write_csv

SCRIPT = "\"'--></script></style></title><script>alert(1)</script><img src=x onerror=alert(1)>&{{ 7*7 }}]]>\u2028\0\x1b"


@pytest.mark.parametrize(
    "cell", ["=1+1", "+1+1", "-1-1", "@SUM(1)", "\t=1", "\r=1", "\n=1", " =1", "\ufeff=1", "=cmd|' /C calc'!A0", "-",
             "＝1", "＋1", "－1", "＠a", "−1+2", "=", "+x", "-5 apples", "--1", "+-1", "-1e", "=-5"]
)  # fmt: skip
def test_a_formula_is_text(cell: str) -> None:
    assert str(harmless_cell(cell)).startswith("'")


@pytest.mark.parametrize(
    "cell",
    [-5, 1.5, None, float("nan"), "-5", "+3.25", "-1e-9", "-.5", "-inf", "5%", "-5%", "a=b", "a-b", "", "text", "1+1"],
)  # fmt: skip
def test_numbers_and_other_texts_stay(cell: object) -> None:
    assert harmless_cell(cell) is cell


@given(st.lists(st.lists(st.text() | st.integers() | st.floats(), min_size=2, max_size=2), max_size=3))
def test_no_cell_of_a_table_is_a_formula(tmp_path_factory: pytest.TempPathFactory, rows: list[list[object]]) -> None:
    path = tmp_path_factory.getbasetemp() / "table.csv"
    write_csv(path, ["=a", "b"], rows)
    for row in csv.reader(path.read_text("utf-8").splitlines(keepends=True)):
        for cell in row:
            assert harmless_cell(cell) == cell


class Elements(HTMLParser):
    """What a browser makes of a page: elements, their attributes, and the text of scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[str] = []
        self.scripts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]

    def handle_data(self, data: str) -> None:
        if self.tags[-1:] == ["script"]:
            self.scripts.append(data)


def test_a_page_holds_any_text() -> None:
    values = {"title": SCRIPT, "content": SCRIPT}
    whole = page("page.html.jinja", **values).decode()
    plain = page("page.html.jinja", title="t", content="t").decode()
    made, wanted = Elements(), Elements()
    made.feed(whole)
    wanted.feed(plain)
    assert made.tags == wanted.tags
    assert made.attributes == wanted.attributes
    assert "\0" not in whole


def test_the_policy_allows_the_page_s_own_script_alone() -> None:
    import base64
    import hashlib

    made = Elements()
    text = page("page.html.jinja", title="t").decode()
    made.feed(text)
    digest = base64.b64encode(hashlib.sha256(made.scripts[0].encode()).digest()).decode()
    policy = text.partition('Content-Security-Policy" content="')[2].partition('"')[0]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert rules["script-src"] == f"'sha256-{digest}'"
    assert not [name for name in made.attributes if name.startswith("on")]


@given(st.recursive(st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=5))
def test_a_block_of_data_ends_no_script(value: object) -> None:
    block = str(data_block([value, SCRIPT]))
    assert not {"<", ">", "&"} & set(block)
    assert json.loads(block) == [value, SCRIPT]


def test_a_plot_holds_any_text(tmp_path: Path) -> None:
    with style():
        figure, (axis,) = panels(1)
        axis.set_title("x")
        axis.set_xlabel(Markup(SCRIPT.replace("\0", "").replace("\x1b", "")))
        axis.plot([0, 1], [0, 1], label='"><script>alert(2)</script>')
        axis.legend()
    svg = Plot("p", "t", "c", figure, ["a"], [[1]]).svg
    made = Elements()
    made.feed(str(svg))
    assert "script" not in made.tags
    assert "img" not in made.tags
    assert not [name for name in made.attributes if name.startswith("on")]
