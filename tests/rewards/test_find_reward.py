import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from handpick.errors import SettingsError
from handpick.judge import JudgeSettings
from handpick.rewards import REWARDS, find_reward, is_reward, reward_fingerprint
from handpick.rewards.choice import Choice
from handpick.rewards.exact_match import ExactMatch
from handpick.rewards.ifeval import IFEval
from handpick.rewards.rouge import RougeL
from handpick.rewards.squad import SquadEM, SquadF1


@pytest.mark.parametrize(
    ("spec", "reward"),
    [
        ("exact-match", ExactMatch("text")),
        ("exact-match:last-number", ExactMatch("last-number")),
        ("choice", Choice()),
        ("squad-em", SquadEM()),
        ("rouge-l", RougeL()),
    ],
)
def test_a_reward_is_found_by_its_text(spec: str, reward: object) -> None:
    assert find_reward(spec) == reward
    assert reward_fingerprint(spec) == {"reward": spec}


@pytest.mark.parametrize(
    ("spec", "reward"), [("squad-f1", SquadF1()), ("squad-f1:zh", SquadF1("zh")), ("ifeval", IFEval())]
)
def test_scores_by_an_older_rule_are_told_apart(spec: str, reward: object) -> None:
    assert find_reward(spec) == reward
    assert reward_fingerprint(spec) == {"reward": spec, "rule": 2}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("exact-mach", r"no reward 'exact-mach' \(did you mean 'exact-match'\?\); choose one of exact-match, choice, "),
        ("squadf1:zh", r"no reward 'squadf1' \(did you mean 'squad-f1'\?\)"),
        ("something", r"no reward 'something'; choose one of .*judge, or a function of your own as my_rewards.py:pol"),
        ("", "no reward ''; choose one of"),
        ("exact-match:first", "no extractor 'first'; choose one of text, last-number, hash, boxed, choice, true-false"),
        ("exact-match:", "nothing follows the colon of 'exact-match:': write exact-match, or exact-match:EXTRACTOR"),
        ("rouge-l:2", "the reward rouge-l takes nothing behind a colon, but 'rouge-l:2' has '2' there"),
        ("model", "the reward model needs a name behind a colon: model:PATH"),
        ("model:", "the reward model needs a name behind a colon: model:PATH"),
        ("judge:gpt-4o", "the reward judge:gpt-4o needs a folder to keep verdicts in: give it as `cache`"),
    ],
)
def test_what_is_no_reward_is_an_error(spec: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        find_reward(spec)


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("rouge-l", True), ("squad-f1:zh", True), ("judge:m", True), ("mine.py:brief", True), ("a.module:brief", True),
        ("json:loads", True), ("gpt-5-mini", False), ("llama3.1:8b", False), ("mistral:7b", False),
        ("org/model-7b", False),
    ],
)  # fmt: skip
def test_a_text_that_names_a_reward_is_told_from_a_models_name(text: str, is_one: bool) -> None:
    assert is_reward(text) == is_one


def test_the_fingerprint_of_no_reward_is_an_error() -> None:
    with pytest.raises(SettingsError, match="no reward 'something'"):
        reward_fingerprint("something")


class Recorded:
    def __init__(self, *positional: Any, **named: Any) -> None:
        self.given = (positional, named)

    from_values = classmethod(lambda cls, values: cls(**values))


def stand_in(monkeypatch: pytest.MonkeyPatch, module: str, name: str) -> None:
    stand = ModuleType(module)
    setattr(stand, name, Recorded)
    monkeypatch.setitem(sys.modules, module, stand)


def test_unit_tests_are_told_what_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, "handpick.rewards.unit_tests", "UnitTests")
    reward: Any = find_reward("unit-tests", allow_code_execution=True)
    assert reward.given == ((), {"allow_code_execution": True, "allow_weak_sandbox": False})


def test_the_judge_is_told_its_model_settings_and_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stand_in(monkeypatch, "handpick.rewards.judge", "JudgeReward")
    reward: Any = find_reward("judge:org/model:8b", judge={"url": "http://localhost"}, cache=tmp_path)
    settings, cache = reward.given[0]
    assert settings == JudgeSettings(url="http://localhost", model="org/model:8b")
    assert cache == tmp_path


def test_the_fingerprint_of_a_judge_is_what_decides_its_verdicts(tmp_path: Path) -> None:
    prompt = tmp_path / "prompt.txt"
    prompt.write_text("Grade it: {answer}")
    judge = {"url": "http://localhost", "max_calls": 10, "prompt": str(prompt)}
    mark = reward_fingerprint("judge:m", judge=judge)
    assert mark == reward_fingerprint("judge:m", judge={**judge, "max_calls": 99})
    assert mark == reward_fingerprint("judge:m", judge={**judge, "url": None})  # the same model on another server
    assert mark != reward_fingerprint("judge:m", judge={**judge, "temperature": 1})
    assert mark != reward_fingerprint("judge:n", judge=judge)
    prompt.write_text("Grade it kindly: {answer}")
    assert mark != reward_fingerprint("judge:m", judge=judge)
    assert reward_fingerprint("judge:m", judge={"url": None, "prompt": None}) == reward_fingerprint("judge:m")


def test_each_line_of_the_table_says_what_it_is() -> None:
    assert all(entry.summary for entry in REWARDS.values())


def test_the_room_is_light() -> None:
    heavy = ("torch", "transformers", "rouge_score", "nltk", "openai")
    code = f"import sys, handpick.rewards; print(*[name for name in {heavy!r} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []
