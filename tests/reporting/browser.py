"""A headless Chromium that notes all it is told and all that is asked of it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
REASON = "needs a Chromium on the path and the package playwright"

needs_browser = pytest.mark.skipif(CHROMIUM is None or find_spec("playwright") is None, reason=REASON)


class Tab:
    """A page that was opened from disk; ``said`` has errors and whatever went to the console, ``asked`` requests."""

    def __init__(self, page: Any) -> None:
        self.page = page
        page.set_default_timeout(120_000)  # a busy machine is no fault of the page
        self.said: list[str] = []
        self.asked: list[str] = []
        page.on("console", lambda message: self.said.append(message.text))
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("request", lambda request: self.asked.append(request.url))

    def open(self, path: Path) -> "Tab":
        self.page.goto(path.resolve().as_uri())
        return self

    def evaluate(self, script: str) -> Any:
        return self.page.evaluate(script)

    def texts(self, selector: str) -> list[str]:
        return [text.strip() for text in self.page.locator(selector).all_inner_texts()]


@contextmanager
def chromium() -> Iterator[Any]:
    """The browser."""
    from playwright.sync_api import sync_playwright

    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()
