"""The examples of docs/python.md run as they stand, one behind the other."""

import re
from pathlib import Path
from typing import Any

import pytest

import handpick

PAGE = Path(__file__).parents[1] / "docs" / "python.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
OF_NO_FUNCTION = {"FeatureStore", "HandpickError", "Selection"}  # what functions give and raise


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for number, block in enumerate(BLOCKS, start=1):
        exec(compile(block, f"docs/python.md, example {number}", "exec"), names)
    assert Path("runs/words/report.html").exists()


def test_every_public_function_has_an_example() -> None:
    called = set(re.findall(r"handpick\.(\w+)\(", "".join(BLOCKS)))
    assert called == set(handpick.__all__) - OF_NO_FUNCTION
