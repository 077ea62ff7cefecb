"""Two evaluations of the same tests, held against differences by hand."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from handpick.data.render import Renderer
from handpick.errors import DataError, FingerprintMismatch, StoreError
from handpick.evaluation.difference import PairedDifference, compare_evaluations
from handpick.evaluation.estimate import mean
from handpick.evaluation.evaluate import RecordScores, _write_predictions, evaluate
from handpick.evaluation.task import Task
from handpick.layout import EvaluationLayout
from handpick.sealed import write_sealed
from tests.evaluation.test_evaluate import qa

Make = Callable[..., Task]
MADE = {"model": "m", "tokenizer": "t", "template": "t", "dtype": "float32", "max_length": 64}


def written(
    folder: Path, task: Task, values: dict[str, dict[int, float]], *, made: Any = (), task_is: Any = (), **scores: Any
) -> Path:
    """An evaluation as ``handpick evaluate`` leaves it."""
    layout = EvaluationLayout(folder)
    _write_predictions(layout.predictions("test"), RecordScores(values=values, **scores), task)
    of_task = {**task.fingerprint(), **dict(task_is)}
    write_sealed(layout.evaluation, {"made_with": MADE | dict(made), "tasks": {"test": {"task": of_task}}})
    return folder


def difference(a: Path, b: Path, metric: str = "loss") -> PairedDifference:
    return compare_evaluations(a, b).tasks["test"][metric]


def test_examples_are_paired(task_of: Make, tmp_path: Path) -> None:
    """Losses that differ by .1 on every example, and by ten times that from example to example."""
    rng = np.random.default_rng(0)
    task = task_of([qa(i, example=i // 2) for i in range(40)], "loss", example_field="example")
    hard = rng.normal(3, 1, 40)
    easier = hard - 0.1 + rng.normal(0, 0.01, 40)
    a = written(tmp_path / "a", task, {"loss": dict(enumerate(easier.tolist()))})
    b = written(tmp_path / "b", task, {"loss": dict(enumerate(hard.tolist()))})
    found = difference(a, b)
    assert found.difference == mean(easier - hard, list(task.example_R))
    assert found.difference.value == pytest.approx(found.a.value - found.b.value, abs=1e-12)
    assert (found.difference.n, found.alone) == (20, 0)
    assert -0.11 < found.difference.low < -0.1 + 0.01
    assert found.difference.high < -0.09
    assert found.a.high > found.b.low  # of the means by themselves nothing could be said
    assert difference(b, a).difference.value == -found.difference.value
    same = difference(a, a).difference
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_only_what_both_have_is_compared(task_of: Make, tmp_path: Path) -> None:
    task = task_of([qa(i) for i in range(4)], "loss", "rouge-l")
    both = {"loss": {0: 1.0, 1: 2.0, 2: 3.0}, "rouge-l": {0: 0.5}}
    a = written(tmp_path / "a", task, both, refused={3: "too long"})
    b = written(tmp_path / "b", task, {"loss": {1: 1.0, 2: 1.0, 3: 9.0}})
    found = compare_evaluations(a, b)
    assert list(found.tasks["test"]) == ["loss"]
    assert found.tasks["test"]["loss"].a.value == 2.5
    assert found.tasks["test"]["loss"].difference.value == 1.5
    assert found.tasks["test"]["loss"].alone == 2
    assert found.same_tokens
    other = written(tmp_path / "other", task, {"loss": {1: 1.0}}, made={"tokenizer": "of another"})
    assert not compare_evaluations(a, other).same_tokens
    with pytest.raises(DataError, match=r"have no metric of test in common, on any record"):
        compare_evaluations(a, written(tmp_path / "none", task, {"choice": {0: 1.0}}))


def test_instructions_weigh_the_same_not_prompts(task_of: Make, tmp_path: Path) -> None:
    task, metric = task_of([qa(i) for i in range(2)], "ifeval"), "ifeval:instruction-strict"
    weights = {metric: {0: 1.0, 1: 3.0}}
    a = written(tmp_path / "a", task, {metric: {0: 1.0, 1: 1 / 3}}, weights=weights)
    b = written(tmp_path / "b", task, {metric: {0: 0.0, 1: 1.0}}, weights=weights)
    found = difference(a, b, metric)
    assert (found.a.value, found.b.value) == (pytest.approx(2 / 4), pytest.approx(3 / 4))
    assert found.difference.value == pytest.approx(-1 / 4)


def test_a_model_differs_from_itself_by_nothing(
    model: nn.Module, renderer: Renderer, task_of: Make, tmp_path: Path
) -> None:
    """With predictions that ``evaluate`` wrote."""
    task = task_of([qa(i) for i in range(3)], "loss")
    folder = written(tmp_path / "a", task, {})
    path = EvaluationLayout(folder).predictions("test")
    found = evaluate(model, renderer, task, max_length=512, predictions=path, quiet=True)
    assert difference(folder, folder).a == found.metrics["loss"]


def test_what_is_not_of_the_same_tests_is_refused(task_of: Make, tmp_path: Path) -> None:
    task, loss = task_of([qa(0)], "loss"), {"loss": {0: 1.0}}
    a = written(tmp_path / "a", task, loss)
    for changed, complaint in (
        ({"task_is": {"contents": "other"}}, "the task test of .*a does not match: contents is "),
        ({"task_is": {"choices": ["x"]}}, "the task test of .*a does not match: choices"),
        ({"made": {"max_length": 9}}, "the evaluation .*a does not match: max_length is 64 there and 9"),
    ):
        with pytest.raises(FingerprintMismatch, match=complaint):
            compare_evaluations(a, written(tmp_path / "b", task, loss, **changed))
    # the same records are paired, and no answer is looked at
    compare_evaluations(a, written(tmp_path / "b", task, loss, task_is={"limit": 1, "max_new_tokens": 9}))
    write_sealed(EvaluationLayout(a).evaluation, {"made_with": MADE, "tasks": {"other": {}}})
    with pytest.raises(DataError, match=r"no task in common: other, and test; measure both on one"):
        compare_evaluations(a, tmp_path / "b")
    with pytest.raises(StoreError, match=r"there is no .*evaluation.json: name a folder that `handpick evaluate` wrot"):
        compare_evaluations(a, tmp_path / "gone")
    EvaluationLayout(tmp_path / "b").predictions("test").write_text('{"id": 1}\n')
    with pytest.raises(StoreError, match=r"predictions-test.jsonl is damaged, or none of ours \(it has no 'example'\)"):
        compare_evaluations(tmp_path / "b", tmp_path / "b")


def test_answers_are_compared_that_were_made_alike(task_of: Make, tmp_path: Path) -> None:
    task, passed = task_of([qa(0)], "pass@1"), {"pass@1": {0: 1.0}}
    a = written(tmp_path / "a", task, passed)
    for changed, complaint in (
        ({"max_new_tokens": 9}, r"max_new_tokens is 4 there and 9 here"),
        ({"metrics": ["pass@1", "pass@10"]}, r"pass@K"),  # whose answers are drawn, and here the likeliest is taken
    ):
        with pytest.raises(FingerprintMismatch, match=complaint):
            compare_evaluations(a, written(tmp_path / "b", task, passed, task_is=changed))


def test_a_metric_of_ones_own_that_has_changed_is_another(task_of: Make, tmp_path: Path) -> None:
    def measured(name: str, body: str) -> Path:
        mine = tmp_path / "mine.py"
        mine.write_text(f"def brief(prompts, completions, records):\n    return {body}\n")
        task = task_of([qa(0)], f"{mine}:brief")
        return written(tmp_path / name, task, {f"{mine}:brief": {0: 1.0}})

    a = measured("a", "[1.0]")
    assert compare_evaluations(a, measured("same", "[1.0]")).tasks
    with pytest.raises(FingerprintMismatch, match=r"does not match: rewards.brief.file is "):
        compare_evaluations(a, measured("b", "[2.0]"))
    assert json.loads(EvaluationLayout(a).evaluation.read_text())["tasks"]["test"]["task"]["rewards"]
