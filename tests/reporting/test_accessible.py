"""The pages for everybody, in a real browser: axe-core finds nothing serious; keys, paper and live text do theirs."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import handpick
from handpick.reporting.comparison import write_comparison
from handpick.reporting.overview import write_overview_page
from handpick.reporting.selection import write_selection_report
from handpick.reporting.study import write_study_report
from tests.reporting.axe import needs_axe, violations
from tests.reporting.browser import Tab, chromium, needs_browser
from tests.reporting.iterated import explained_of, iterated_folder, pool_of
from tests.reporting.test_study import grid

pytestmark = [pytest.mark.browser, needs_browser]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def pages(
    files: dict[str, Path], by_words: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    given = {"pool": str(files["pool"]), "query": str(files["query"]), "model": str(tiny_model)}
    handpick.select(**given, method="rds+", budget=30, max_length=128, out=str(folder / "states"))
    return {
        "selection": write_selection_report(folder / "states"),
        "comparison": write_comparison(folder / "states", by_words, folder / "two"),
        "study": write_study_report(grid(), folder / "study"),
        "iterselect": write_selection_report(iterated_folder(folder / "hard", pool_of(40), explained_of(20))),
        "look": write_overview_page(handpick.look(files["pool"], files["query"]), folder / "look.html"),
    }


@pytest.fixture
def tab(browser: Any, pages: dict[str, Path]) -> Iterator[Tab]:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    tab = Tab(page).open(pages["selection"])
    yield tab
    assert tab.said == []
    assert len(tab.asked) == 1
    page.close()


@needs_axe
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("which", ["selection", "comparison", "study", "iterselect", "look"])
def test_axe_finds_nothing_serious(browser: Any, pages: dict[str, Path], which: str, width: int, scheme: str) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    tab = Tab(page).open(pages[which])
    if which == "selection":
        page.locator("#picks-table .open-row").first.click()
        page.click("#map-on")
    assert violations(tab) == []
    assert tab.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    levels = tab.evaluate("[...document.querySelectorAll('h1, h2, h3, h4')].map((each) => Number(each.tagName[1]))")
    assert levels[0] == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))
    assert tab.evaluate("[...document.querySelectorAll('table')].every((each) => each.caption)")
    page.close()


def test_keys_go_from_point_to_point(tab: Tab) -> None:
    tab.page.focus("#map-frame")
    tab.page.keyboard.press("ArrowRight")
    (first,) = tab.texts("#map-said")
    assert first.startswith("Pick ")
    assert ", for the query " in first
    tab.page.keyboard.press("ArrowRight")
    assert tab.texts("#map-said") != [first]
    tab.page.keyboard.press("ArrowLeft")
    assert tab.texts("#map-said") == [first]
    tab.page.select_option("#map-only", label="queries")
    tab.page.click("#map-on")
    assert tab.texts("#map-said")[0].startswith("Query ")
    assert tab.page.get_attribute("#map-said", "role") == "status"


def test_the_pointer_shows_a_text(tab: Tab) -> None:
    tab.page.locator("#map-frame").scroll_into_view_if_needed()
    at = tab.evaluate(
        """() => {
            const [x, y, id] = JSON.parse(document.getElementById("map-data").textContent).layers[1].points[0];
            const svg = document.querySelector("#map-frame svg");
            const box = svg.getBoundingClientRect();
            const scale = box.width / svg.viewBox.baseVal.width;
            return [box.left + x * scale, box.top + y * scale];
        }"""
    )
    tab.page.mouse.move(*at)
    assert tab.page.locator("#map-here").get_attribute("cx") != "-99"
    assert len(tab.texts("#map-said strong")) == 1


def test_the_best_are_searched(tab: Tab) -> None:
    assert tab.texts("#best-said") == ["1–50 of 120 examples"]
    tab.page.select_option("#best-chosen", label="chosen")
    assert tab.texts("#best-said") == ["1–30 of 30 examples"]
    first = tab.texts("#best-table tbody tr:first-child td:last-child")[0]
    tab.page.fill("#best-search", first.upper()[:40])
    assert tab.texts("#best-table tbody tr:first-child td:last-child") == [first]
    tab.page.fill("#best-search", "no such words")
    assert tab.texts("#best-said") == ["No example has that."]
    assert tab.page.get_attribute("#best-said", "role") == "status"


def test_on_paper_all_is_open(tab: Tab) -> None:
    assert tab.page.locator("details[open]").count() == 0
    tab.evaluate("dispatchEvent(new Event('beforeprint')); 0")
    tab.page.emulate_media(media="print")
    assert tab.page.locator("details:not([open])").count() == 0
    assert tab.page.locator("#best-table tbody tr").count() == 100
    for control in ("nav", ".tools", ".map-tools", ".pager button", ".skip"):
        assert not tab.page.locator(control).first.is_visible(), control
    tab.evaluate("dispatchEvent(new Event('afterprint')); 0")
    assert tab.page.locator("details[open]").count() == 0
    assert tab.page.locator("#best-table tbody tr").count() == 50


def test_the_first_key_skips_to_the_content(tab: Tab) -> None:
    tab.page.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.className") == "skip"
    tab.page.keyboard.press("Enter")
    assert tab.evaluate("document.activeElement.id") == "content"
