"""Take the pictures of pages that README.md and the site show.

    handpick demo
    python scripts/docs_site/report_picture.py runs/demo-gsm8k

writes the report of that run, chooses as many by words beside it, lays both on one page, and takes pictures in a
Chromium (``CHROMIUM`` names it, where it is not on the path) through playwright: docs/pictures/report.png, the head of
the report, report_map.png, its map, and report_comparison.png, what both picked for a query; and look.png, the head of
the page of ``handpick look`` on the pool and its queries.
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

import handpick
from handpick import bundled

PICTURES = Path(__file__).parents[2] / "docs" / "pictures"
_WIDTH, _HEIGHT = 1080, 900


def main(demo: str) -> None:
    """Write the pages and take their pictures."""
    browser_path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    pool, query = [str(path) for path in bundled.pool_paths()], str(bundled.target_path("gsm8k"))
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        words = f"{folder}/words"
        handpick.select(pool, query, method="bm25", budget=100, out=words)
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox", "--disable-gpu"])
        tab = browser.new_page(viewport={"width": _WIDTH, "height": _HEIGHT})
        tab.set_default_timeout(120_000)
        tab.goto(Path(handpick.report(demo)).resolve().as_uri())
        tab.screenshot(path=str(PICTURES / "report.png"))
        tab.click("#map-on")
        tab.locator("#map").screenshot(path=str(PICTURES / "report_map.png"))
        tab.goto(Path(handpick.report(demo, words, out=folder)).as_uri())
        tab.evaluate("document.getElementById('queries').scrollIntoView()")
        tab.screenshot(path=str(PICTURES / "report_comparison.png"))
        handpick.look(pool, query, str(bundled.model_path()), out=f"{folder}/look.html")
        tab.goto(Path(f"{folder}/look.html").as_uri())
        tab.screenshot(path=str(PICTURES / "look.png"))
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1])
