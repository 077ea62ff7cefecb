"""What no metric can grade is found out before a model is loaded and before a single answer is drawn."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from handpick.data.render import Renderer
from handpick.errors import DataError
from handpick.evaluation import evaluate as evaluate_module
from handpick.evaluation import run as run_module
from handpick.evaluation.evaluate import evaluate
from handpick.evaluation.gradable import ungradable_records
from handpick.evaluation.run import run_evaluate, run_versus
from handpick.evaluation.settings import EvaluateSettings, TaskSettings
from handpick.evaluation.task import Task
from handpick.judge import JudgeOptions
from handpick.planning import evaluate as planning_module
from handpick.planning.evaluate import plan_evaluate
from tests.conftest import write_jsonl

Make = Callable[..., Task]
ASKED = {"prompt": "What is it?"}
TESTS = {"tests": ["assert f(1) == 1"]}
FOLLOWED = {"instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}


def code(body: str) -> dict[str, Any]:
    return {"entry_point": "f", "test": body}


@pytest.mark.parametrize(
    ("metric", "good", "bad", "why"),
    [
        ("choice", {"answer": "B"}, {"answer": "answer1"}, "is no choice: in the record"),
        ("choice", {"answer": "Б"}, {"answer": "Беларусь"}, "is no choice"),
        ("choice", {"choices": ["x", "y"], "answer": "y"}, {"choices": ["x", "y"], "answer": "z"}, "none of x, y"),
        ("choice-likelihood", {"choices": ["x", "y"], "answer": "x"}, {"answer": "x"}, "has 0 different ones"),
        ("choice-likelihood:mean", {"choices": ["x", "y"], "answer": "x"}, {"choices": ["x", "y"], "answer": "z"},
         "is none of the choices"),
        ("exact-match", {"answer": "x"}, {}, "no reference answer"),
        ("exact-match", {"answer": 3}, {"answer": "   "}, "no reference answer"),
        ("exact-match:last-number", {"answer": "so 4"}, {"answer": "four"}, "finds none in 'four'"),
        ("exact-match:boxed", {"answer": "4"}, {"answer": {"a": 4}}, "holds dict; write it as text"),
        ("exact-match:choice", {"answer": "(C)"}, {"answer": "either"}, "finds none in 'either'"),
        ("exact-match:true-false", {"answer": True}, {"answer": "perhaps"}, "finds none in 'perhaps'"),
        ("squad-f1", {"answers": {"text": ["x"]}}, {"answers": {"text": []}}, "no reference answer"),
        ("squad-f1", {"answers": ["", "x"]}, {"answers": ["", " "]}, "no reference answer"),
        ("squad-f1", {"answer": "the dog"}, {"answer": "the."}, "no word of 'the.'"),
        ("squad-em:zh", {"answer": "北京"}, {"answer": "。"}, "no word of '。'"),
        ("rouge-l", {"answer": "x"}, {}, "no reference answer"),
        ("rouge-l", {"answer": "x"}, {"answer": "?!"}, "there is no word in"),
        ("pass@1", TESTS, {"answer": "x"}, "no unit tests: none in"),
        ("pass@10", code("def check(c):\n    assert c(1) == 1"), code("def check(c:"), "that are no Python"),
        ("unit-tests", TESTS, {"tests": []}, "no unit tests: none in"),
        ("unit-tests", code("def check(c):\n    pass"), {"test": "def check(c):\n    pass"}, "`entry_point`"),
        ("ifeval", FOLLOWED, {**FOLLOWED, "instruction_id_list": ["punctuation:no_comas"]}, "no such instruction"),
        ("ifeval", FOLLOWED, {"answer": "x"}, "no instructions to check"),
        ("ifeval", FOLLOWED, {"instruction_id_list": ["keywords:existence"], "kwargs": [{}]}, "cannot be checked"),
    ],
)  # fmt: skip
def test_a_metric_that_can_grade_none_or_some(
    metric: str, good: dict[str, Any], bad: dict[str, Any], why: str, task_of: Make
) -> None:
    none = task_of([ASKED | bad | {"id": "b0"}, ASKED | bad | {"id": "b1"}], metric)
    with pytest.raises(DataError) as told:
        ungradable_records(none)
    assert why in str(told.value)
    assert "b0" in str(told.value)
    assert str(told.value).endswith(f"({metric} can grade none of the 2 records of test)")
    some = task_of([ASKED | good | {"id": "g"}, ASKED | bad | {"id": "b"}], metric)
    (rows,) = ungradable_records(some).values()
    assert list(rows) == [1]
    assert why in rows[1]
    assert ungradable_records(task_of([ASKED | good | {"id": "g"}], metric)) == {}


def test_what_needs_no_reference_is_graded_without(task_of: Make, tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text("def short(prompts, completions, records):\n    return [1] * len(records)\n")
    prompts = [ASKED | {"id": "p"}]
    assert ungradable_records(task_of(prompts, "loss", "judge:m", "model:nowhere", f"{mine}:short")) == {}
    (tmp_path / "prompt.txt").write_text("{prompt} {answer} {reference} {low} {high}")
    judge = JudgeOptions(prompt=str(tmp_path / "prompt.txt"))
    with pytest.raises(DataError, match="judge:m can grade none of the 1 records"):
        ungradable_records(task_of(prompts, "judge:m"), judge)


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """No model is loaded and no answer drawn."""

    def fail(*args: object, **others: object) -> None:
        pytest.fail("there was work")

    for module in (run_module, planning_module):
        monkeypatch.setattr(module, "open_settings_model", fail)
    monkeypatch.setattr(evaluate_module, "generate_answers", fail)


@pytest.mark.usefixtures("no_work")
def test_nothing_is_loaded_or_drawn_where_nothing_can_be_graded(tmp_path: Path) -> None:
    """Of two tasks the second is looked at before the first is measured."""
    good = write_jsonl(tmp_path / "good.jsonl", [ASKED | {"id": "g", "answer": "A"}])
    bad = write_jsonl(tmp_path / "bad.jsonl", [ASKED | {"id": f"b{i}", "answer": f"answer{i}"} for i in range(1, 5)])
    settings = EvaluateSettings(model="nowhere", out=str(tmp_path / "out"))
    tasks = {path.stem: TaskSettings(files=[str(path)], metrics=["choice"]) for path in (good, bad)}
    message = r"^the reference is no choice: in the record b1 .*\(choice can grade none of the 4 records of bad\)$"
    for act in (run_evaluate, plan_evaluate):
        with pytest.raises(DataError, match=message):
            act(settings, tasks)
    with pytest.raises(DataError, match="can grade none of the 4 records of versus"):
        run_versus(settings, "another", TaskSettings(files=[str(bad)]), "choice")


def test_prompts_that_a_rule_cannot_compare_are_left_out_before_anyone_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[list[int]] = []

    def answers(settings: Any, model: str, task: Task, rows: list[int], folder: Path) -> Any:
        asked.append(list(rows))
        return run_module._Answers(dict.fromkeys(rows, "A" if model == "one" else "B"), {}, {})

    monkeypatch.setattr(run_module, "_likeliest_answers", answers)
    items = [ASKED | {"id": f"r{i}", "answer": answer} for i, answer in enumerate(["A", "answer1", "B", "A"])]
    prompts = TaskSettings(files=[str(write_jsonl(tmp_path / "p.jsonl", items))])
    found = run_versus(EvaluateSettings(model="one", out=str(tmp_path / "out")), "two", prompts, "choice")
    assert asked == [[0, 2, 3], [0, 2, 3]]
    assert (found.wins, found.losses) == (2, 1)
    said = " ".join(capsys.readouterr().err.split())
    assert "choice cannot grade 1 of the 4 records of versus, which are left out of it; r1: the reference" in said
    assert json.loads((tmp_path / "out" / "versus.json").read_text())["left_out"] == 1


def test_what_one_metric_cannot_grade_is_left_out_of_it_and_said(
    model: nn.Module, renderer: Renderer, task_of: Make, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    asked: list[int] = []
    draw = evaluate_module.generate_answers

    def counting(model: Any, renderer: Any, prompts: Any, *rest: Any, **others: Any) -> Any:
        asked.append(len(prompts))
        return draw(model, renderer, prompts, *rest, **others)

    monkeypatch.setattr(evaluate_module, "generate_answers", counting)
    items = [ASKED | {"id": f"r{i}", "answer": answer} for i, answer in enumerate(["A", "red", "", "D"])]
    task = task_of(items, "choice", "exact-match:choice", "rouge-l")
    path = tmp_path / "p.jsonl"
    found = evaluate(model, renderer, task, max_length=512, predictions=path)
    assert asked == [3]  # r2 has no reference at all
    assert {name: each.n for name, each in found.metrics.items()} == {
        "choice": 2,
        "exact-match:choice": 2,
        "rouge-l": 3,
    }
    assert (found.records, found.left_out) == (3, 2)
    said = " ".join(capsys.readouterr().err.split())
    assert (
        "choice cannot grade 2 of the 4 records of test, which are left out of it; r1: the reference "
        "is no choice: in the record r1" in said
    )
    assert "rouge-l cannot grade 1 of the 4 records of test, which are left out of it; r2: no reference answer" in said
    assert '"left_out": "choice: the reference is no choice: in the record r1' in path.read_text()
