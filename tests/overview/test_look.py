"""``handpick look``: the function, the command and the page."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import handpick
from handpick.cli import app
from handpick.data.render import Renderer
from handpick.errors import DataError, SettingsError
from handpick.overview.look import SetAside
from handpick.reporting.overview import write_overview_page
from tests.conftest import write_jsonl
from tests.reporting.browser import Tab, chromium, needs_browser
from tests.reporting.conftest import Page


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["look", *map(str, arguments)])


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal with room for paths."""
    monkeypatch.setattr("handpick.cli.show_overview.console.width", 300, raising=False)


@pytest.fixture(scope="module")
def files(
    tmp_path_factory: pytest.TempPathFactory, pool_records: list[dict[str, Any]], query_records: list[dict[str, Any]]
) -> dict[str, Path]:
    """A pool with a query in it, bad lines and a source with a name to be wary of; and the queries."""
    folder = tmp_path_factory.mktemp("look")
    pool = [record | {"source": "<b>left</b>" if n % 3 else "right"} for n, record in enumerate(pool_records)]
    in_pool = {"id": "the-query", "messages": query_records[2]["messages"]}
    path = write_jsonl(folder / "pool.jsonl", [*pool, in_pool])
    with path.open("a") as lines:
        lines.write(
            '{"messages": [{"role": "judge", "content": "x"}]}\n{"cut\n{"id": "no", "nothing": 1}\n{"cut again\n'
        )
    return {"pool": path, "query": write_jsonl(folder / "query.jsonl", query_records)}


def table(shown: str, title: str) -> dict[str, list[str]]:
    """The rows of a table by their first cell."""
    lines = shown.split(f"{title}  ", 1)[1].splitlines()[2:]
    rows = [re.split(r"\s{2,}", line.strip()) for line in lines[: lines.index("")]]
    return {name: cells for name, *cells in rows}


def test_the_terminal_says_what_there_is(files: dict[str, Path], tiny_model: Path) -> None:
    shown = run("--pool", files["pool"], "--query", files["query"], "--model", tiny_model, "--max-length", 100)
    assert shown.exit_code == 0, shown.stderr
    facts = table(shown.stdout, "What there is")
    assert facts["records"] == ["121", "8"]
    assert facts["set aside"] == ["4", "0"]
    assert facts["turns"] == ["242", "16"]
    assert facts["stand in the pool word for word"][-1] == "1 (12.5%)"
    assert "longer than 100 tokens, so cut" in facts
    assert table(shown.stdout, "Formats") == {"messages": ["121", "100.0%", "8", "100.0%"]}
    assert table(shown.stdout, "Roles")["assistant"][:2] == ["121", "100.0%"]
    assert table(shown.stdout, "Sources")["<b>left</b>"][:2] == ["80", "66.1%"]
    assert table(shown.stdout, "Languages")["en"]
    set_aside = [line.split("  ") for line in shown.stdout.split("Set aside")[1].splitlines() if "malformed" in line]
    assert [cell.strip() for cell in set_aside[0] if cell.strip()][:3] == ["pool", "malformed JSON", "2"]
    assert "pool.jsonl, line 123" in shown.stdout
    assert "all 121 records of the pool and all 8 records of the query" in shown.stdout


def test_the_function_gives_the_numbers(files: dict[str, Path], query_records: list[dict[str, Any]]) -> None:
    found = handpick.look(files["pool"], query_records, sample=50, seed=3)
    assert found.query is not None
    assert (found.pool.counts.records, found.query.counts.records, found.queries_in_pool) == (121, 8, 1)
    assert found.pool.files == {str(files["pool"]): 121}
    assert (found.pool.sample.records, found.pool.sample.whole, found.query.sample.whole) == (50, False, True)
    assert found.pool.sample.tokens is None
    bad = found.pool.set_aside
    assert list(bad) == ["malformed JSON", "unknown role", "no known shape"]
    assert bad["unknown role"] == SetAside(1, str(files["pool"]), 122, bad["unknown role"].reason)
    assert found.pool.n_set_aside == 4
    assert handpick.look(files["pool"], all=True).pool.sample.whole


def test_a_narrow_terminal_has_whole_headings(files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handpick.cli.show_overview.console.width", 80, raising=False)
    roles = run("--pool", files["pool"], "--query", files["query"]).stdout.split("Roles  ")[1].split("\nTurns")[0]
    assert [roles.count(word) for word in ("assistant", "(pool)", "(query)", "characters")] == [1, 1, 1, 2]


def test_parsed_records_are_kept_where_it_is_asked(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    handpick.look(files["pool"])
    assert list(tmp_path.iterdir()) == []
    handpick.look(files["pool"], cache="kept")
    tables = list((tmp_path / "kept").glob("*.arrow"))
    assert len(tables) == 1
    written = tables[0].stat().st_mtime_ns
    handpick.look(files["pool"], cache=tmp_path / "kept")
    assert tables[0].stat().st_mtime_ns == written


@pytest.fixture
def page(files: dict[str, Path], tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The page of both, under a template that does not write a role."""
    monkeypatch.setattr(
        Renderer, "unwritten", lambda self, c: ("a <role>",) if c[0].role == "system" else (), raising=False
    )
    told = [{"id": f"told-{n}", "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"},
             {"role": "assistant", "content": "a"}]} for n in range(3)]  # fmt: skip
    pool = [*map(json.loads, files["pool"].read_text().splitlines()[:60]), *told]
    out = tmp_path / "pages" / "look.html"
    handpick.look(pool, files["query"], str(tiny_model), out=out)
    return out


def test_the_page(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    found = Page(text)
    assert found.all("td", class_="first")
    cells = ["".join(cell.split()) for cell in found.all("td")]
    assert "a<role>:notwritten" in cells
    assert "4.8%" in cells  # 3 of 63
    assert "told-0" in cells
    assert "<b>left</b>" in found.all("td", class_="first")
    assert "<b>" not in text
    assert {"Formats", "Sources", "Roles", "Turns", "Fields", "Languages", "Lengths", "What the template loses"} <= set(
        found.all("h2")
    )
    assert text.count("<svg") == 2
    assert "http-equiv" in text
    assert not re.search(r'(?:src|href)="(?!#)', text)
    assert "Made by handpick look" in " ".join(found.all("footer")[0].split())


def test_equal_findings_give_an_equal_page(files: dict[str, Path], tmp_path: Path) -> None:
    found = handpick.look(files["pool"], files["query"])
    pages = [write_overview_page(found, tmp_path / name).read_bytes() for name in ("a.html", "b.html")]
    assert pages[0] == pages[1]


@pytest.mark.browser
@needs_browser
def test_the_page_in_a_browser(page: Path) -> None:
    with chromium() as browser:
        tab = Tab(browser.new_page(viewport={"width": 1280, "height": 900})).open(page)
        assert tab.said == []
        assert tab.asked == [page.resolve().as_uri()]
        wide = tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide == 0


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "Missing option"),
        (["--pool", "nowhere.jsonl"], "there is no file nowhere.jsonl"),
        (["--pool", "p", "--max-length", 9], "--max-length is for tokens, and none are counted: name a --model"),
        (["--pool", "p", "--all", "--sample", 9], "--sample is for a sample, and --all looks at every record"),
        (["--pool", "p", "--out", "folder"], "--out takes the name of a page, such as look.html, not 'folder'"),
        (["--pool", "p", "--sample", 0], "--sample should be greater than or equal to 1"),
    ],
)
def test_what_is_wrong_is_said(given: list[object], said: str) -> None:
    shown = run(*given)
    assert shown.exit_code == 2
    assert said in re.sub(r"\s+", " ", shown.stderr)


def test_records_are_read_as_runs_read_them(tmp_path: Path) -> None:
    rows = [{"frage": f"wie {n}?", "antwort": "so", "label": n != 3} for n in range(5)]
    path = write_jsonl(tmp_path / "own.jsonl", rows)
    found = handpick.look(path, columns={"prompt": "frage", "response": "antwort", "label": "label"})
    assert found.pool.counts.records == 4
    assert found.pool.n_set_aside == 1  # the answer that is not wanted
    with pytest.raises(DataError, match="no record has the column 'nowhere'"):
        handpick.look(path, columns={"prompt": "frage", "response": "nowhere"})


def test_where_no_record_can_be_used_the_reasons_are_said(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "bad.jsonl", [{"nothing": 1}, {"messages": []}, {"nothing": 2}])
    other = write_jsonl(tmp_path / "other.jsonl", [{"neither": 1}])
    bad = (
        r"no usable record in .*bad\.jsonl.*: 2 × no known shape: .* nothing; .*\(first: line 1 of .*bad\.jsonl\); 1 ×"
    )
    with pytest.raises(DataError, match=bad):
        handpick.look(path)
    with pytest.raises(DataError, match=rf"{bad} .*; 1 × no known shape: .* neither; .*other\.jsonl\)"):
        handpick.look([path, other])
    with pytest.raises(SettingsError, match="max-length is for tokens"):
        handpick.look(path, max_length=9)
