"""The page of a selection in a real browser: it renders, sorts, filters, opens, and asks for nothing."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import handpick
from handpick.reporting import picks
from handpick.reporting.selection import write_selection_report
from handpick.sealed import seal, unseal
from handpick.selection import Selection
from tests.conftest import write_jsonl
from tests.reporting.browser import Tab, chromium, needs_browser
from tests.reporting.conftest import record

pytestmark = [pytest.mark.browser, needs_browser]

COLUMNS = ["rank", "score", "source", "picked for", "text"]
N, PAGE = 5000, 50


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five thousand picks: random, with scores and queries put in afterwards."""
    folder = tmp_path_factory.mktemp("many")
    asked = [f"question {n * 7919 % N:05} of words" for n in range(N)]
    pool = [record(n, asked[n], f"answer {n % 13} " * 40, source=f"s{n % 3}") for n in range(N)]
    pool[17]["messages"][0]["content"] = "<img src=x onerror=alert(1)> needle in the hay"
    query = write_jsonl(folder / "query.jsonl", [record(N + n, f"asked {n}", "b") for n in range(7)])
    out = folder / "run"
    handpick.select(str(write_jsonl(folder / "pool.jsonl", pool)), method="random", budget=N, out=str(out))
    path = out / "selection.json"
    found = unseal(json.loads(path.read_text()))
    found["scores"] = [round((n * 31 % N) / N - 0.5, 6) for n in range(N)]
    found["picked_for"] = [None if n % 11 == 0 else f"r{N + n % 7}" for n in range(N)]
    found["settings"]["query"] = [str(query)]
    path.write_text(json.dumps(seal(found)))
    write_selection_report(out)
    return out


@pytest.fixture
def tab(browser: Any, many: Path) -> Iterator[Tab]:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    tab = Tab(page).open(many / "report.html")
    yield tab
    assert tab.said == []
    assert tab.asked == [(many / "report.html").resolve().as_uri()]
    page.close()


def column(tab: Tab, at: int) -> list[str]:
    return tab.texts(f"#picks-table tbody tr:not(.detail) td:nth-child({at + 1})")


def test_it_shows_the_first_picks(tab: Tab, many: Path) -> None:
    selection = Selection.open(many)
    assert column(tab, 0) == [str(rank) for rank in range(1, PAGE + 1)]
    assert [float(score) for score in column(tab, 1)] == pytest.approx(selection.scores[:PAGE], rel=1e-3)
    assert column(tab, 3) == [each or "–" for each in selection.picked_for[:PAGE]]
    assert tab.texts("#picks-said") == [f"1–{PAGE} of 5,000 picks"]
    widths = tab.evaluate("[...document.querySelectorAll('figure svg')].map(s => s.getBoundingClientRect().width)")
    assert len(widths) == 2
    assert min(widths) > 300


@pytest.mark.parametrize("at", range(5))
def test_it_sorts_by_every_column_both_ways(tab: Tab, many: Path, at: int) -> None:
    data = json.loads(tab.evaluate("document.getElementById('picks-data').textContent"))
    values = {
        "rank": [row["rank"] for row in data["rows"]],
        "score": [row["score"] for row in data["rows"]],
        "source": [data["sources"][row["source"]] for row in data["rows"]],
        "picked for": [None if row["query"] is None else data["queries"][row["query"]]["id"] for row in data["rows"]],
        "text": [row["turns"][0][1] for row in data["rows"]],
    }[COLUMNS[at]]
    there = sorted(value for value in values if value is not None)
    heading = tab.page.locator("#picks-table thead th").nth(at)
    seen = set()
    for _ in range(2):
        heading.locator("button").click()
        shown = column(tab, at)
        way = heading.get_attribute("aria-sort")
        seen.add(way)
        expected = (there if way == "ascending" else there[::-1])[:PAGE]
        if COLUMNS[at] == "score":
            assert [float(each) for each in shown] == pytest.approx(expected, rel=1e-3, abs=1e-9)
        else:
            plain = [each.replace(",", "") for each in shown]
            assert [each[: len(str(want))] for each, want in zip(plain, expected, strict=True)] == list(
                map(str, expected)
            )
    assert seen == {"ascending", "descending"}
    assert tab.page.locator("#picks-table th[aria-sort]").count() == 1


def test_it_filters(tab: Tab) -> None:
    tab.page.fill("#picks-search", "NEEDLE hay")
    assert tab.texts("#picks-said") == ["1–1 of 1 picks"]
    assert column(tab, 4)[0].startswith("<img src=x onerror=alert(1)> needle in the hay")
    tab.page.fill("#picks-search", "no such words")
    assert tab.texts("#picks-said") == ["No pick has that."]
    tab.page.fill("#picks-search", "r5003")
    assert set(column(tab, 3)) == {"r5003"}
    tab.page.fill("#picks-search", "")
    tab.page.select_option("#picks-source", label="s2")
    assert set(column(tab, 2)) == {"s2"}
    assert tab.texts("#picks-said") == [f"1–{PAGE} of 1,666 picks"]


def test_a_text_opens_beside_its_query(tab: Tab, many: Path) -> None:
    selection = Selection.open(many)
    button = tab.page.locator("#picks-table tbody tr").nth(1).locator("button").first
    assert button.get_attribute("aria-expanded") == "false"
    button.focus()
    tab.page.keyboard.press("Enter")
    assert button.get_attribute("aria-expanded") == "true"
    (shown,) = tab.texts("tr.detail")
    turns = json.loads(selection.record(1))["messages"]
    assert turns[0]["content"] in shown
    assert turns[1]["content"].strip() in shown
    assert f"For the query: {selection.picked_for[1]}" in shown
    assert f"asked {int(str(selection.picked_for[1])[1:]) - N}" in shown
    tab.page.keyboard.press("Enter")
    assert tab.page.locator("tr.detail").count() == 0


def test_it_turns_pages(tab: Tab) -> None:
    assert tab.page.locator("#picks-back").is_disabled()
    tab.page.click("#picks-on")
    assert column(tab, 0)[0] == "51"
    tab.page.click("#picks-back")
    assert column(tab, 0)[0] == "1"


def test_it_says_that_there_are_more_picks_than_the_page_holds(
    browser: Any, many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picks, "_PICKS", 60)
    shutil.copytree(many, tmp_path / "run")
    page = browser.new_page()
    tab = Tab(page).open(write_selection_report(tmp_path / "run"))
    assert tab.page.inner_text("#picks-said") == "1–50 of 60 picks; 4,940 more picks are in selected.jsonl"
    page.close()


def test_other_tables_sort_too(tab: Tab) -> None:
    table = tab.page.locator("#mixture table")
    rows = "#mixture tbody td:first-child"
    assert sorted(tab.texts(rows)) == ["s0", "s1", "s2"]
    table.locator("th button").first.click()
    assert tab.texts(rows) == ["s0", "s1", "s2"]
    table.locator("th button").first.click()
    assert tab.texts(rows) == ["s2", "s1", "s0"]
    table.locator("th button").nth(2).click()
    counts = [int(each.replace(",", "")) for each in tab.texts("#mixture tbody td:nth-child(3)")]
    assert counts == sorted(counts, reverse=True)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_nothing_is_wider_than_the_window(browser: Any, many: Path, width: int, scheme: str) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    tab = Tab(page).open(many / "report.html")
    tab.page.locator("#picks-table .open-row").first.click()
    assert tab.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    light = tab.evaluate("parseInt(getComputedStyle(document.body).backgroundColor.split('(')[1]) > 128")
    assert light == (scheme == "light")
    ink = tab.evaluate("getComputedStyle(document.body).color")
    plot = tab.evaluate("getComputedStyle(document.querySelector('figure svg text')).fill")
    assert plot == ink
    assert tab.said == []
    page.close()


def test_the_page_refuses_scripts_and_requests_of_others(browser: Any, many: Path) -> None:
    page = browser.new_page()
    refused: list[tuple[str, str]] = []
    page.on("requestfailed", lambda request: refused.append((request.url, request.failure)))
    tab = Tab(page).open(many / "report.html")
    tab.evaluate(
        """() => {
            const script = document.createElement("script");
            script.textContent = "window.ran = 1";
            const image = document.createElement("img");
            image.src = "https://example.org/x.png";
            document.body.append(script, image);
        }"""
    )
    page.wait_for_timeout(200)
    assert tab.evaluate("window.ran === undefined")
    assert refused == [("https://example.org/x.png", "csp")]
    assert any("Content Security Policy" in each for each in tab.said)
    page.close()
