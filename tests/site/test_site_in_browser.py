"""The site in a real browser, from disk: nothing is loaded from elsewhere, nothing is too wide or hard to read."""

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.reporting.axe import needs_axe, violations
from tests.reporting.browser import Tab, chromium, needs_browser

ROOT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.timeout(900),  # a busy machine is no fault of the site
    needs_browser,
    pytest.mark.skipif(find_spec("mkdocs") is None, reason="needs pip install 'handpick[docs]'"),
]
# One of every kind: prose, code, transcripts, wide tables, what is made of docstrings and of classes
LOOKED_AT = ("index", "start", "tutorial_train", "look", "methods", "peers", "reference/python", "reference/settings")
# A scroller without a tab stop of its own: Chromium, Firefox and Safari make it one by themselves
OF_THE_BROWSER = "scrollable-region-focusable"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(out)]
    subprocess.run(command, cwd=ROOT, check=True, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"})
    return out


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.mark.parametrize("width", [1280, 390])
def test_every_page_is_whole_and_as_wide_as_the_window(site: Path, browser: Any, width: int) -> None:
    tab = Tab(browser.new_page(viewport={"width": width, "height": 900}))
    pages = [page for page in site.rglob("*.html") if page.name != "404.html"]  # which only a server shows
    assert len(pages) > 50
    for page in pages:
        tab.open(page)
        wide = tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide == 0, page
        assert tab.said == [], page
    assert [url for url in tab.asked if not url.startswith(("file:", "data:", "blob:"))] == []
    tab.page.close()


def test_the_search_finds_without_a_server(site: Path, browser: Any) -> None:
    tab = Tab(browser.new_page(viewport={"width": 1280, "height": 900})).open(site / "index.html")
    tab.page.click(".md-search__input")
    tab.page.keyboard.type("prefilter")
    tab.page.wait_for_selector(".md-search-result__item")
    assert any("prefilter" in each.lower() for each in tab.texts(".md-search-result__item h1"))
    assert tab.said == []
    tab.page.close()


@needs_axe
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_nothing_serious(site: Path, browser: Any, width: int, scheme: str) -> None:
    tab = Tab(browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme))
    for page in LOOKED_AT:
        tab.open(site / f"{page}.html")
        assert [each for each in violations(tab) if not each.startswith(OF_THE_BROWSER)] == [], page
    tab.page.close()
