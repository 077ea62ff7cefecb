"""lm-evaluation-harness: asked for what it takes, and what it says read; it is not among the test dependencies."""

import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from handpick.data.render import Renderer
from handpick.errors import DataError, SettingsError
from handpick.evaluation import harness
from handpick.evaluation.harness import harness_results

RESULTS = {
    "results": {
        "gsm8k": {
            "alias": "gsm8k", "exact_match,strict-match": 0.25, "exact_match_stderr,strict-match": 0.05,
            "exact_match,flexible-extract": 0.5, "exact_match_stderr,flexible-extract": 0.05,
        },
        "bbh_a": {"alias": " - a", "acc,none": 1, "acc_stderr,none": "N/A", "sample_len": 3},
    },
    "groups": {"bbh": {"alias": "bbh", "acc,none": 0.75, "acc_stderr,none": 0.1}},
}  # fmt: skip


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A stand-in for the library, and what it was asked."""
    seen: dict[str, Any] = {}

    class TaskManager:
        all_tasks = ("bbh", "gsm8k")

        def __init__(self, include_path: str | None) -> None:
            seen["include"] = include_path

        def match_tasks(self, tasks: list[str]) -> list[str]:
            return [task for task in tasks if task in self.all_tasks]

    def evaluated(**given: Any) -> Any:
        seen.update(given)
        if error := seen.get("raises"):
            raise error
        return RESULTS

    stand_ins = {
        "lm_eval": {"simple_evaluate": evaluated}, "lm_eval.models": {},
        "lm_eval.models.huggingface": {"HFLM": lambda **given: given}, "lm_eval.tasks": {"TaskManager": TaskManager},
    }  # fmt: skip
    for name, content in stand_ins.items():
        module = types.ModuleType(name)
        module.__spec__ = importlib.util.spec_from_loader(name, None)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    return seen


def test_its_results_by_task_and_metric(
    model: nn.Module, renderer: Renderer, asked: dict[str, Any], tmp_path: Path
) -> None:
    found = harness_results(model, renderer, ["gsm8k", "bbh"], max_length=99, limit=3, include=tmp_path, chat=True)
    assert found == {
        "gsm8k": {
            "exact_match,strict-match": 0.25, "exact_match_stderr,strict-match": 0.05,
            "exact_match,flexible-extract": 0.5, "exact_match_stderr,flexible-extract": 0.05,
        },
        "bbh_a": {"acc": 1.0},
        "bbh": {"acc": 0.75, "acc_stderr": 0.1},
    }  # fmt: skip
    assert asked["model"] == {
        "pretrained": model, "tokenizer": renderer.tokenizer, "max_length": 99, "batch_size": 8
    }  # fmt: skip
    assert (asked["tasks"], asked["limit"], asked["apply_chat_template"]) == (["gsm8k", "bbh"], 3, True)
    assert asked["include"] == str(tmp_path)


def test_an_unknown_task_is_named(model: nn.Module, renderer: Renderer, asked: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=r"^lm-evaluation-harness has no task 'gsm8' \(did you mean 'gsm8k'\?\)"):
        harness_results(model, renderer, ["gsm8"], max_length=99)
    assert "model" not in asked


def test_data_that_cannot_be_had_is_one_sentence(model: nn.Module, renderer: Renderer, asked: dict[str, Any]) -> None:
    asked["raises"] = ConnectionError("Couldn't reach 'gsm8k' on the Hub\nand more")
    with pytest.raises(DataError, match=r"^lm-evaluation-harness cannot run gsm8k: Couldn't reach 'gsm8k' on the Hub$"):
        harness_results(model, renderer, ["gsm8k"], max_length=99)


def test_without_the_library_it_says_how_to_get_it(
    model: nn.Module, renderer: Renderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harness, "find_spec", lambda name: None)
    with pytest.raises(
        SettingsError, match=r"^--lm-eval needs lm-evaluation-harness: pip install 'handpick\[lm-eval\]'$"
    ):
        harness_results(model, renderer, ["gsm8k"], max_length=99)
