"""Steps are named by what goes into them, and are made when they say so."""

from pathlib import Path

import pytest

from handpick.errors import StoreError
from handpick.studies.steps import Steps, finish_step, step_name


def test_a_name_is_of_the_inputs_whatever_their_order() -> None:
    assert step_name("a", {"x": 1, "y": 2}) == step_name("a", {"y": 2, "x": 1})
    assert step_name("a", {"x": 1}) != step_name("a", {"x": 2})


def test_a_step_is_made_once_it_is_finished(tmp_path: Path) -> None:
    steps = Steps(tmp_path)
    name = step_name("a", {"x": 1})
    steps.path(name).mkdir(parents=True)
    assert steps.read_record(name) is None
    finish_step(steps.path(name), {"x": 1}, {"found": 2})
    assert steps.read_record(name) == Steps(tmp_path).read_record(name) == {"found": 2}


@pytest.mark.parametrize("text", ["", "{}", '{"made": 1}', "[]"])
def test_a_damaged_record_is_called_that(tmp_path: Path, text: str) -> None:
    (tmp_path / "a-1").mkdir()
    (tmp_path / "a-1" / "step.json").write_text(text)
    with pytest.raises(StoreError, match="damaged"):
        Steps(tmp_path).read_record("a-1")
