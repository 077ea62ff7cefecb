"""axe-core, which finds what keeps people with a screen reader, a keyboard or weak eyes out of a page.

Its script is taken from the package axe-playwright-python (or axe-core-python), where one is installed.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.reporting.browser import Tab

_PACKAGES = ("axe_playwright_python", "axe_core_python")


def _script() -> Path | None:
    for name in _PACKAGES:
        spec = find_spec(name)
        for folder in [] if spec is None else spec.submodule_search_locations or []:
            if (Path(folder) / "axe.min.js").exists():
                return Path(folder) / "axe.min.js"
    return None


SCRIPT = _script()
needs_axe = pytest.mark.skipif(SCRIPT is None, reason="needs the package axe-playwright-python, which brings axe-core")


def violations(tab: Tab) -> list[str]:
    """Every serious or critical one, with the element; what is closed is opened first."""
    assert SCRIPT is not None
    tab.evaluate("document.querySelectorAll('details').forEach((each) => (each.open = true)); 0")
    tab.evaluate(SCRIPT.read_text(encoding="utf-8") + "; 0")
    found: dict[str, Any] = tab.evaluate("axe.run(document, { resultTypes: ['violations'] })")
    assert len(found["passes"]) > 10
    return [
        f"{each['id']} ({each['impact']}): {node['html'][:200]}"
        for each in found["violations"]
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]
