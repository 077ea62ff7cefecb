"""What the clock says of a study stands apart from what depends on the study alone."""

import json
from pathlib import Path

import pytest

from handpick.errors import StoreError
from handpick.studies.cells import Cell, Results
from handpick.studies.steps import finish_step, read_seconds, read_step

CELLS = [Cell(model="m", method="bm25", target="t", seed=seed, seconds=seconds) for seed, seconds in ((0, 1.5), (1, 2))]


def test_a_step_is_the_same_however_long_it_took(tmp_path: Path) -> None:
    for name, seconds in (("a", 1.25), ("b", 80.0)):
        finish_step(tmp_path / name, {"x": 1}, {"examples": 3}, seconds)
        assert read_seconds(tmp_path / name) == seconds
        assert read_step(tmp_path / name) == {"examples": 3}
    assert (tmp_path / "a" / "step.json").read_bytes() == (tmp_path / "b" / "step.json").read_bytes()


def test_a_step_of_before_says_it_in_its_record(tmp_path: Path) -> None:
    (tmp_path / "step.json").write_text('{"inputs": {}, "made": {"examples": 3, "seconds": 4.5}}')
    assert read_seconds(tmp_path) == 4.5


def test_results_are_the_same_however_long_they_took(tmp_path: Path) -> None:
    slow = [cell.model_copy(update={"seconds": 99.0}) for cell in CELLS]
    for name, cells in (("a", CELLS), ("b", slow)):
        Results(name="study", cells=cells).save(tmp_path / name / "results.json")
        assert Results.open(tmp_path / name / "results.json").cells == cells
    assert (tmp_path / "a" / "results.json").read_bytes() == (tmp_path / "b" / "results.json").read_bytes()


def test_results_of_before_have_it_in_their_cells(tmp_path: Path) -> None:
    document = Results(name="study", cells=CELLS).model_dump(mode="json")
    (tmp_path / "results.json").write_text(json.dumps(document))
    assert Results.open(tmp_path / "results.json").cells == CELLS


@pytest.mark.parametrize("text", ["{", "[]", '{"name": "x", "cells": [], "digest": "0"}'])
def test_damaged_results_are_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(StoreError, match=r"results\.json is damaged"):
        Results.open(tmp_path / "results.json")
