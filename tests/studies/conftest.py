"""A study of two targets on a tiny model, small enough for every test to run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from handpick import bundled
from handpick.studies.cells import Cell, Results
from handpick.studies.settings import StudySettings
from tests.conftest import records, write_jsonl

Ask = Callable[..., StudySettings]


def numbers(results: Results) -> list[dict[str, Any]]:
    """All of the cells but the clock's."""
    return [cell.model_dump(exclude={"seconds"}) for cell in results.cells]


def only(results: Results, **wanted: Any) -> list[Cell]:
    """The cells that have these values."""
    return [cell for cell in results.cells if all(getattr(cell, name) == value for name, value in wanted.items())]


@pytest.fixture(scope="session")
def study_data(tmp_path_factory: pytest.TempPathFactory, pool_records: list[dict[str, Any]]) -> Path:
    """A pool of forty records, and two targets' queries and tests."""
    folder = tmp_path_factory.mktemp("study")
    write_jsonl(folder / "pool.jsonl", pool_records[:40])
    for target in ("gsm8k", "mbpp"):
        found = records(bundled.target_path(target), 10)
        write_jsonl(folder / f"{target}-dev.jsonl", found[:4])
        write_jsonl(folder / f"{target}-test.jsonl", found[4:])
    return folder


@pytest.fixture
def ask(study_data: Path, tiny_model: Path, tmp_path: Path) -> Ask:
    """Settings of a small study in a folder of the test's own; what is given replaces."""

    def asked(**given: Any) -> StudySettings:
        targets = {
            name: {"query": str(study_data / f"{name}-dev.jsonl"), "test": str(study_data / f"{name}-test.jsonl")}
            for name in ("gsm8k", "mbpp")
        }
        values: dict[str, Any] = {
            "out": str(tmp_path / "study"), "pool": str(study_data / "pool.jsonl"), "models": str(tiny_model),
            "targets": targets, "methods": ["bm25"], "budgets": [4, 8], "seeds": [0, 1], "draws": 2, "recipe": "small",
            "baselines": ["zero-shot", "random"], "train": {"epochs": 2, "batch": 4}, "max_length": 384,
        }  # fmt: skip
        return StudySettings(**(values | given))

    return asked
