"""Tasks from files: which records, which examples and subtasks, and what their fingerprint says."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from handpick.data.examples import Example, Message
from handpick.errors import DataError, SettingsError
from handpick.evaluation.metrics import larger_is_better
from handpick.evaluation.settings import TaskSettings
from handpick.evaluation.task import Task, open_task, prompt_of
from handpick.fingerprint import file_digest
from tests.conftest import write_jsonl


def rows(n: int = 10) -> list[dict[str, Any]]:
    return [
        {"id": f"r{i}", "prompt": f"What is {i}?", "completion": str(i), "subtask": "ab"[i % 2], "example": i // 2}
        for i in range(n)
    ]


def opened(path: Path, **settings: Any) -> Task:
    return open_task(TaskSettings(files=str(path), **settings), path.parent / "scratch", "t")


def test_records_examples_and_subtasks(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "t.jsonl", rows())
    task = opened(path, example_field="example")
    assert [e.id for e in task.examples] == [r["id"] for r in rows()] == [r["id"] for r in task.records]
    assert list(task.example_R) == [str(i // 2) for i in range(10)]
    assert list(task.subtask_R or []) == list("ab" * 5)
    assert opened(path).example_R[:2] == ["r0", "r1"]
    assert opened(path, subtask_field=None).subtask_R is None


def test_a_limit_takes_a_fixed_random_sample_and_all_where_there_are_fewer(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "t.jsonl", rows())
    want = sorted(np.random.default_rng(0).permutation(10)[:4].tolist())
    assert [e.id for e in opened(path, limit=4).examples] == [f"r{i}" for i in want]
    assert len(opened(path, limit=40)) == 10


def test_a_record_without_the_field_is_named(tmp_path: Path) -> None:
    some = rows()
    del some[3]["subtask"], some[5]["example"]
    path = write_jsonl(tmp_path / "t.jsonl", some)
    with pytest.raises(DataError, match=r"^the record r3 has no field 'subtask'"):
        opened(path)
    with pytest.raises(DataError, match=r"^the record r5 has no field 'example'"):
        opened(path, subtask_field=None, example_field="example")
    with pytest.raises(DataError, match=r"^the record r0 has no field 'kind'"):
        opened(path, subtask_field="kind")


def test_a_default_subtask_field_need_not_be_there(tmp_path: Path) -> None:
    none = [{k: v for k, v in row.items() if k != "subtask"} for row in rows()]
    assert opened(write_jsonl(tmp_path / "t.jsonl", none)).subtask_R is None


def test_the_fingerprint_is_of_contents_and_settings_and_not_of_the_path(tmp_path: Path) -> None:
    one, copy = write_jsonl(tmp_path / "t.jsonl", rows()), write_jsonl(tmp_path / "u.jsonl", rows())
    other = write_jsonl(tmp_path / "v.jsonl", rows(9))
    first = opened(one).fingerprint()
    assert json.loads(json.dumps(first)) == first == opened(copy).fingerprint()
    assert opened(other).fingerprint() != first
    for changed in ({"limit": 3}, {"metrics": ["loss", "choice"]}, {"max_new_tokens": 7}, {"example_field": "example"}):
        assert opened(one, **changed).fingerprint() != first, changed


def test_the_fingerprint_follows_a_users_file(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "t.jsonl", rows())
    mine = tmp_path / "mine.py"
    seen = []
    for value in (0, 1):
        mine.write_text(f"def f(prompts, completions, records):\n    return [{value} for _ in completions]\n")
        seen.append(opened(path, metrics=f"{mine}:f").fingerprint())
    assert seen[0]["rewards"] != seen[1]["rewards"]


def test_the_fingerprint_has_the_judge_as_it_is_asked(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "t.jsonl", rows())
    strict = tmp_path / "strict.txt"
    strict.write_text("Be strict. {prompt} {answer} {low} {high}", encoding="utf-8")
    task = opened(path, metrics="judge:m")
    (plain,), (asked,) = (
        task.fingerprint(judge)["rewards"].values()  # type: ignore[union-attr]
        for judge in (None, {"prompt": str(strict), "temperature": None, "url": "http://localhost:1/v1"})
    )
    assert (plain["prompt"], plain["temperature"]) == (None, 0)  # type: ignore[index, call-overload]
    assert (asked["prompt"], asked["temperature"]) == (file_digest(strict), None)  # type: ignore[index, call-overload]
    assert str(tmp_path) not in json.dumps(asked)
    assert "localhost" not in json.dumps(asked)


def test_a_users_file_may_move(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "t.jsonl", rows())
    seen = []
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
        mine = tmp_path / folder / "mine.py"
        mine.write_text("def f(prompts, completions, records):\n    return [1 for _ in completions]\n")
        seen.append(opened(path, metrics=["loss", f"{mine}:f"]).fingerprint())
    assert seen[0] == seen[1]
    assert str(tmp_path) not in json.dumps(seen)


def test_what_is_answered_is_all_before_the_last_answer() -> None:
    user, said = Message("user", "u"), Message("assistant", "a")
    assert prompt_of(Example("x", (user, said), b"")) == (user,)
    assert prompt_of(Example("x", (user, said, user), b"")) == (user, said, user)
    with pytest.raises(DataError, match=r"^no prompt: the record begins with its answer"):
        prompt_of(Example("x", (said,), b""))


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"metrics": ["los"]}, r"no metric 'los' \(did you mean 'loss'\?\)"),
        ({"metrics": ["pass@0"]}, r"there is no metric pass@0; write pass@1"),
        ({"metrics": ["choice-likelihood:max"]}, r"there is no metric choice-likelihood:max"),
        ({"metrics": ["pass@10"], "samples": 5}, r"pass@10 needs at least 10 samples, not 5"),
        ({"samples": 5}, r"samples are for pass@K"),
    ],
)
def test_settings_that_cannot_be_meant(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(SettingsError, match=complaint):
        TaskSettings(files="t.jsonl", **settings)
    with pytest.raises(ValidationError):
        TaskSettings(files=[])


def test_answers_drawn() -> None:
    def drawn(*metrics: str, samples: int | None = None) -> int:
        return TaskSettings(files="t", metrics=list(metrics), samples=samples).answers_drawn

    assert (drawn("loss"), drawn("pass@1"), drawn("pass@1", "pass@10"), drawn("pass@1", samples=3)) == (0, 0, 20, 3)


def test_names() -> None:
    assert not larger_is_better("loss")
    assert all(map(larger_is_better, ["exact-match:last-number", "pass@1", "ifeval:prompt-strict"]))
