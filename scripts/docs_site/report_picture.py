"""Take the picture of a report that README.md and the site show.

    python scripts/docs_site/report_picture.py

chooses 100 of the pool that comes with handpick for its GSM8K questions, by words, writes the report, and takes a
picture of its head in a Chromium (``CHROMIUM`` names it, where it is not on the path) through playwright:
docs/pictures/report.png.
"""

import os
import shutil
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

import handpick
from handpick import bundled

PICTURE = Path(__file__).parents[2] / "docs" / "pictures" / "report.png"
_WIDTH, _HEIGHT = 1080, 900


def main() -> None:
    """Write the report and take its picture."""
    browser_path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    pool = [str(path) for path in bundled.pool_paths()]
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        out = f"{folder}/runs/gsm8k"
        handpick.select(pool, str(bundled.target_path("gsm8k")), method="bm25", budget=100, out=out)
        page = handpick.report(out)
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox", "--disable-gpu"])
        tab = browser.new_page(viewport={"width": _WIDTH, "height": _HEIGHT})
        tab.set_default_timeout(120_000)
        tab.goto(Path(page).as_uri())
        tab.screenshot(path=str(PICTURE))
        browser.close()


if __name__ == "__main__":
    main()
