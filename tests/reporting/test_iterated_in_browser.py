"""The page of what ``handpick iterselect`` chose in a real browser."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from handpick.reporting.selection import write_selection_report
from tests.reporting.browser import Tab, chromium, needs_browser
from tests.reporting.iterated import explained_of, iterated_folder, pool_of

pytestmark = [pytest.mark.browser, needs_browser]

RANK, Q, M, R, TAKEN, SOURCE, NEAREST, TEXT = range(8)
N = 30


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pool = pool_of(2 * N)
    for each in pool:
        each["category"] = "a_category_of_a_very_long_name_that_no_narrow_window_can_hold"
    out = iterated_folder(tmp_path_factory.mktemp("iter") / "run", pool, explained_of(N))
    return write_selection_report(out)


@pytest.fixture
def tab(browser: Any, written: Path) -> Iterator[Tab]:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    tab = Tab(page).open(written)
    yield tab
    assert tab.said == []
    assert tab.asked == [written.resolve().as_uri()]
    page.close()


def column(tab: Tab, at: int) -> list[str]:
    return tab.texts(f"#picks-table tbody tr:not(.detail) td:nth-child({at + 1})")


def test_the_headings_stand_above_what_they_name(tab: Tab) -> None:
    headings = [each.rstrip(" ↕↑↓") for each in tab.texts("#picks-table thead th")]
    assert headings == ["rank", "Q", "M", "R", "taken", "source", "nearest hard", "text"]
    taken = explained_of(N)
    for at, name in ((Q, "score"), (M, "hardness"), (R, "similarity")):
        expected = [each[name] for each in taken]
        assert [None if each == "–" else float(each) for each in column(tab, at)] == pytest.approx(expected)
    assert column(tab, TAKEN)[2:4] == ["judged hard, round 1", "judged hard, round 2"]
    assert column(tab, NEAREST)[2:4] == ["–", "r0"]
    assert column(tab, TEXT)[3].endswith("what is 3 times 3 It is 9.")


@pytest.mark.parametrize(("at", "name"), [(Q, "score"), (M, "hardness"), (R, "similarity")])
def test_it_sorts_by_what_spoke_for_a_pick(tab: Tab, at: int, name: str) -> None:
    there = sorted((each[name] for each in explained_of(N) if each[name] is not None), reverse=True)
    tab.page.locator("#picks-table thead th").nth(at).locator("button").click()
    shown = column(tab, at)
    assert [float(each) for each in shown[: len(there)]] == pytest.approx(there)
    assert set(shown[len(there) :]) <= {"–"}


def test_it_shows_those_alone_that_were_taken_so(tab: Tab) -> None:
    tab.page.select_option("#picks-way", label="inferred")
    assert set(column(tab, TAKEN)) == {"inferred"}
    assert tab.texts("#picks-said") == [f"1–{N - 8} of {N - 8} picks"]
    tab.page.select_option("#picks-way", label="judged easy")
    assert tab.texts("#picks-said") == ["No pick has that."]
    tab.page.select_option("#picks-way", label="all")
    tab.page.fill("#picks-search", "is 841.")
    assert column(tab, RANK) == ["30"]


def test_a_text_opens_beside_its_nearest_hard_example(tab: Tab) -> None:
    tab.page.locator("#picks-table tbody tr").nth(4).locator("button").first.click()
    (shown,) = tab.texts("tr.detail")
    assert "Judged hard, round 2. Q 0.708, M 0.82, R 0.54." in shown
    assert "The nearest hard example: r1" in shown
    assert "what is 1 times 1" in shown
    assert tab.evaluate("document.querySelector('tr.detail td').colSpan") == 8


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_nothing_is_wider_than_the_window(browser: Any, written: Path, width: int, scheme: str) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    tab = Tab(page).open(written)
    tab.page.locator("#picks-table .open-row").nth(7).click()
    assert tab.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    whole = tab.evaluate("(box => box.scrollWidth <= box.clientWidth)(document.querySelector('#judged .scroll'))")
    assert whole == (width == 1280)  # all columns of the rounds at once, where there is room
    ink, plots = tab.evaluate(
        """[getComputedStyle(document.body).color,
            [...document.querySelectorAll('#judged figure svg text')].map(each => getComputedStyle(each).fill)]"""
    )
    assert set(plots) == {ink}
    assert tab.said == []
    page.close()
