"""The plan of an evaluation: its passes, their tokens, and the most that answers can have."""

from pathlib import Path

import pytest

from handpick.data.render import Renderer
from handpick.errors import HandpickError
from handpick.evaluation.answers import prompts_of
from handpick.evaluation.settings import EvaluateSettings, TaskSettings
from handpick.evaluation.task import open_task
from handpick.model import load_tokenizer
from handpick.planning import plan_evaluate
from tests.conftest import write_jsonl

QUICK = 0.1


@pytest.fixture
def tests(tmp_path: Path) -> Path:
    records = [
        {
            "id": f"r{i}", "prompt": f"Is {i} more than 3? " + "Think. " * i, "answer": "yes" if i > 3 else "no",
            "choices": ["yes", "no"], "tests": ["assert more(4)"],
            "messages": [
                {"role": "user", "content": f"Is {i} more than 3? " + "Think. " * i},
                {"role": "assistant", "content": "yes" if i > 3 else "no"},
            ],
        }
        for i in range(9)
    ]  # fmt: skip
    return write_jsonl(tmp_path / "tests.jsonl", records)


def test_every_pass_has_its_line_and_its_tokens(tests: Path, tiny_model: Path, tmp_path: Path) -> None:
    settings = EvaluateSettings(model=str(tiny_model), out=str(tmp_path / "out"), max_length=256)
    task = TaskSettings(
        files=[str(tests)], metrics=["loss", "choice-likelihood", "exact-match"], max_new_tokens=24,
    )  # fmt: skip
    plan = plan_evaluate(settings, {"mine": task}, QUICK)
    stages = {stage.name: stage for stage in plan.stages}
    assert list(stages) == ["read and parse", "model", "loss, mine", "choices, mine", "answers, mine"]
    opened, renderer = open_task(task, tmp_path / "scratch", "mine"), Renderer(load_tokenizer(str(tiny_model)))
    loss, choices, answers = (stages[f"{what}, mine"] for what in ("loss", "choices", "answers"))
    assert loss.tokens is not None
    assert loss.tokens.value == sum(len(renderer(e.messages, 256).input_ids) for e in opened.examples)
    assert (loss.examples, choices.examples, answers.examples) == (9, 18, len(prompts_of(opened, renderer, 256)[0]))
    assert answers.tokens is not None
    assert (answers.tokens.low, answers.tokens.high) == (0, 9 * 24)
    assert answers.seconds is not None
    assert 0 < answers.seconds.low <= answers.seconds.value == answers.seconds.high
    assert all(stage.flops for stage in (loss, choices, answers))
    assert not (tmp_path / "out" / "evaluation.json").exists()


def test_samples_count_as_often_as_they_are_drawn(tests: Path, tiny_model: Path, tmp_path: Path) -> None:
    settings = EvaluateSettings(model=str(tiny_model), out=str(tmp_path / "out"), max_length=256)
    task = TaskSettings(files=[str(tests)], metrics=["pass@2"], max_new_tokens=8, samples=3)
    (samples,) = plan_evaluate(settings, {"mine": task}, QUICK).stages[2:]
    assert (samples.name, samples.examples) == ("samples, mine", 27)
    assert samples.tokens is not None
    assert samples.tokens.high == 27 * 8


def test_what_the_run_would_say_is_said_now(tests: Path, tiny_model: Path, tmp_path: Path) -> None:
    settings = EvaluateSettings(model=str(tiny_model), out=str(tmp_path / "out"), max_length=256)
    for metric, said in ((f"{tmp_path}/gone.py:f", "gone.py"), ("exact-match", "leave no room for a prompt")):
        with pytest.raises(HandpickError, match=said):
            plan_evaluate(settings, {"mine": TaskSettings(files=[str(tests)], metrics=[metric])}, QUICK)
