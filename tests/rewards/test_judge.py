"""A judge's scores as a reward, where some are missing, too."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from handpick.errors import DataError, JudgeError, SettingsError
from handpick.judge import JudgeSettings
from handpick.rewards.judge import JudgeReward
from handpick.rewards.protocol import Reward, score
from tests.judge.server import Server, running, says


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A judge that gives the score an answer asks for."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with running() as server:
        server.respond = lambda prompt, _: says(prompt.split("[begin answer ")[1].split("\n")[1])
        yield server


@pytest.fixture
def make(server: Server, tmp_path: Path) -> Callable[..., JudgeReward]:
    def make(**values: Any) -> JudgeReward:
        given = {"model": "m", "url": server.url, "key_env": "NOT_SET_ANYWHERE", "backoff_s": 0, "retries": 1}
        return JudgeReward(JudgeSettings(**given | values), tmp_path)

    return make


def wants(score: float) -> str:
    return json.dumps({"score": score})


def called(reward: Reward, completions: dict[str, list[str]]) -> list[float]:
    """The scores of several completions a prompt."""
    pairs = [(prompt, completion) for prompt, several in completions.items() for completion in several]
    prompts = [[{"role": "user", "content": prompt}] for prompt, _ in pairs]
    return score(reward, prompts, [completion for _, completion in pairs], [{}] * len(pairs), ["id"] * len(pairs))


def test_scores_are_mapped_to_0_and_1(make: Callable[..., JudgeReward], tmp_path: Path) -> None:
    reward = make()
    assert reward.name == "judge:m"
    completions = [wants(1), wants(10), wants(5.5), "well: " + wants(4)]
    assert called(reward, {"p": completions}) == [0, 1, 0.5, pytest.approx(1 / 3)]
    assert (tmp_path / "judge.jsonl").exists()


def test_a_completion_without_a_score_takes_the_mean_of_the_others(make: Callable[..., JudgeReward]) -> None:
    reward = make()
    assert called(reward, {"p": [wants(1), "?", wants(10), wants(10)], "q": [wants(1)], "r": ["??"]}) == [
        0, pytest.approx(2 / 3), 1, 1, 0, 0.5,
    ]  # fmt: skip
    assert (reward.scored, reward.missing) == (6, 2)
    assert called(reward, {"s": ["???", "????"]}) == [0.5, 0.5]


def test_too_many_without_a_score_end_the_run(make: Callable[..., JudgeReward]) -> None:
    reward = make()
    called(reward, {"p": [f"? {i}" for i in range(9)]})
    called(reward, {"q": [wants(3)] * 90})
    assert len(called(reward, {"r": ["?"]})) == 1  # 10 of 100
    with pytest.raises(JudgeError, match="the judge m gave no score to 12 of 102 completions; look into its answers"):
        called(reward, {"s": ["??", "???"]})


def test_a_prompt_file_with_references(make: Callable[..., JudgeReward], tmp_path: Path, server: Server) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("{prompt} {answer} {reference} {low} {high}", encoding="utf-8")
    reward, prompts = make(prompt=str(path)), [[{"role": "user", "content": "p"}]]
    assert reward(prompts, [wants(10)], [{"answer": "forty-two"}]) == [1]
    assert "[begin reference answer " in server.asked[0].prompt
    assert "\nforty-two\n" in server.asked[0].prompt
    with pytest.raises(DataError, match="no reference answer in"):
        reward(prompts, [wants(10)], [{}])


def test_the_prompt_file_is_looked_at_before_anything_else(make: Callable[..., JudgeReward], tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("{prompt}", encoding="utf-8")
    with pytest.raises(SettingsError, match=r"mine.txt lacks {answer} and {low} and {high}"):
        make(prompt=str(tmp_path / "mine.txt"))
