"""The pages that are made of the code have all of it, and every diagram has the picture that was drawn of it."""

import re
from pathlib import Path

import pytest

import handpick
from handpick import layout
from handpick.layout import InFolder, Layout
from handpick.settings import Settings
from handpick.studies.settings import StudySettings
from scripts.docs_site import diagrams, made_pages

ROOT = Path(__file__).parents[2]
PAGES = made_pages.make_pages()


def test_every_public_name() -> None:
    named = set(re.findall(r"^::: handpick\.(\w+)$", PAGES["reference/python.md"], re.MULTILINE))
    assert named == set(handpick.__all__) - {"HandpickError", "Settings"}
    assert "::: handpick.errors.HandpickError" in PAGES["reference/python.md"]


def test_every_setting_with_flag_default_and_source() -> None:
    page = PAGES["reference/settings.md"]
    rows = dict(re.findall(r"^\| `(\w+)`[^|]* \| (.*) \|$", page, re.MULTILINE))
    assert {*Settings.model_fields, *StudySettings.model_fields} <= set(rows)
    assert "LESS, code" in rows["projection_dim"]
    assert "`8192`" in rows["projection_dim"]
    assert "`projection_dim`<br>`--projection-dim`" in page
    assert "`draws`<br>" not in page.partition("## A study\n")[2].partition("## ")[0]  # a study's have no flags


def test_every_command_with_every_flag() -> None:
    page = PAGES["reference/commands.md"]
    assert {"select", "plan study", "store verify"} <= set(re.findall(r"^## handpick (.+)$", page, re.MULTILINE))
    assert "`--kde-width`" in page.partition("## handpick select")[2].partition("\n## ")[0]


def test_every_file() -> None:
    """By the layouts themselves: what is read of their source, and what they are."""
    page = PAGES["reference/files.md"]
    kinds = [each for each in vars(layout).values() if isinstance(each, type) and issubclass(each, Layout)]
    assert len(kinds) > 20
    for kind in kinds:
        part = page.partition(f"{{ #{kind.__name__.lower()} }}")[2].partition("\n## ")[0]
        for each in vars(kind).values():
            if isinstance(each, InFolder):
                assert re.search(rf"^\| `{re.escape(each.name)}` \| \S.*\. \|$", part, re.MULTILINE), each.name
    assert "| `predictions-TASK.jsonl` |" in page
    assert "| `shards/CHECKPOINT` |" in page
    assert "| `SHA256.arrow` or `SHA256-READING.arrow` |" in page


def test_every_finding_and_benchmark() -> None:
    for path in (ROOT / "findings").glob("*.sh"):
        assert f"(../findings/{path.name})" in PAGES["findings.md"]
        page = made_pages.finding_page(path)
        assert page.startswith("# ")
        assert "**Seen" in page
        assert page.count("```") % 2 == 0
    for path in (ROOT / "benchmarks").glob("*.py"):
        assert f"`python benchmarks/{path.name}`" in PAGES["evidence.md"]


def test_every_diagram_has_its_picture() -> None:
    pages = {path.name: diagrams.BLOCK.findall(path.read_text(encoding="utf-8")) for path in diagrams.DOCS.glob("*.md")}
    assert sum(map(len, pages.values())) >= 3
    for page, drawn in pages.items():
        for number, diagram in enumerate(drawn, start=1):
            picture = diagrams.picture_of(page, number).read_text(encoding="utf-8")
            assert diagrams.mark_of(diagram) in picture, f"{page}: run python scripts/docs_site/diagrams.py"
            assert "<script" not in picture


def test_a_diagram_is_read_or_refused() -> None:
    dot = diagrams.as_dot('flowchart LR\n    a["one<br/>two"] -- "x" --> b[("disk")]\n    a -. no .-> c --> b\n')
    assert 'a [label="one\\ntwo"];' in dot
    assert 'b [label="disk", shape=cylinder];' in dot
    assert re.findall(r"(\w) -> (\w)", dot) == [("a", "b"), ("a", "c"), ("c", "b")]
    assert dot.count("style=dashed") == 1
    for wrong in ("sequenceDiagram\n  a->>b: c", "flowchart LR\n  a ==> b", "flowchart LR\n  a --> "):
        with pytest.raises(ValueError, match="is read"):
            diagrams.as_dot(wrong)


def test_links_of_the_readme_lead_somewhere() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    assert len(links) > 15
    assert [link for link in links if not (ROOT / link).exists()] == []
    assert text.index("make demo") < text.index("make test") < text.index("import handpick")
