"""A judge's scores as a reward, where some are missing, too."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from handpick.errors import DataError, JudgeError, SettingsError
from handpick.judge import JudgeSettings
from handpick.rewards.judge import JudgeReward
from handpick.rewards.protocol import Reward, score, score_or_none
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


def called(reward: Reward, completions: dict[str, list[str]]) -> list[float | None]:
    """The scores of several completions a prompt."""
    pairs = [(prompt, completion) for prompt, several in completions.items() for completion in several]
    prompts = [[{"role": "user", "content": prompt}] for prompt, _ in pairs]
    return score_or_none(
        reward, prompts, [completion for _, completion in pairs], [{}] * len(pairs), ["id"] * len(pairs)
    )


def test_scores_are_mapped_to_0_and_1(make: Callable[..., JudgeReward], tmp_path: Path) -> None:
    reward = make()
    assert reward.name == "judge:m"
    completions = [wants(1), wants(10), wants(5.5), "well: " + wants(4)]
    assert called(reward, {"p": completions}) == [0, 1, 0.5, pytest.approx(1 / 3)]
    assert (tmp_path / "judge.jsonl").exists()


def test_a_completion_without_a_score_has_none(make: Callable[..., JudgeReward]) -> None:
    """It had the mean of the others, or the middle of the scale."""
    reward = make()
    assert called(reward, {"p": [wants(1), "?", wants(10), wants(10)], "q": [wants(1)], "r": ["??"]}) == [
        0, None, 1, 1, 0, None,
    ]  # fmt: skip
    assert (reward.scored, reward.missing) == (6, 2)
    assert called(reward, {"s": ["???", "????"]}) == [None, None]


@pytest.mark.parametrize(
    "reply",
    [
        "", "   ", "A fine answer, I would say eight.", "7/10", "**8**", "8", "I'm sorry, I cannot grade this.",
        '{"score": 11}', '{"score": 0}', '{"score": -1}', '{"score": NaN}', '{"score": Infinity}', '{"score": "7/10"}',
        '{"score": null}', '{"score": true}', '{"score": [7]}', '{"score": {}}', '{"score": "high"}',
        '{"score": "1_0"}', '{"grade": 7}', '{"score": 7', "[7]", '<think>perhaps {"score": 3}, but',
        '<think>{"score": 3}</think>I cannot say.',
    ],
)  # fmt: skip
def test_what_is_no_score_on_the_scale_is_none(make: Callable[..., JudgeReward], server: Server, reply: str) -> None:
    server.respond = lambda prompt, _: says(reply)
    assert called(make(), {"p": ["a"]}) == [None]
    assert len(server.asked) == 2  # and again, with a reminder


def test_a_judge_that_does_not_answer_gives_none_and_is_asked_again_by_the_next_run(
    make: Callable[..., JudgeReward], server: Server
) -> None:
    server.respond = lambda prompt, before: says(wants(10), delay=0 if before > 1 else 5)
    assert called(make(timeout_s=0.1), {"p": ["a"]}) == [None]
    server.released.set()
    assert called(make(timeout_s=0.2), {"p": ["a"]}) == [1]  # the time-out is no part of a question
    n = len(server.asked)
    assert called(make(timeout_s=7, retries=0), {"p": ["a"]}) == [1]
    assert len(server.asked) == n
    assert called(make(seed=7), {"p": ["a"]}) == [1]
    assert (len(server.asked), server.asked[-1].body["seed"]) == (n + 1, 7)


def test_none_is_no_number_for_who_needs_one(make: Callable[..., JudgeReward]) -> None:
    with pytest.raises(SettingsError, match="the reward judge:m gave None to the record id; a score must be a finite"):
        score(make(), [[{"role": "user", "content": "p"}]], ["?"], [{}], ["id"])


def test_too_many_without_a_score_end_the_run(make: Callable[..., JudgeReward]) -> None:
    reward = make()
    called(reward, {"p": [f"? {i}" for i in range(9)]})
    called(reward, {"q": [wants(3)] * 90})
    assert len(called(reward, {"r": ["?"]})) == 1  # 10 of 100
    with pytest.raises(
        JudgeError, match=r"the judge m gave no score to 12 of 102 completions; look into its answers, .*judge.jsonl"
    ):
        called(reward, {"s": ["??", "???"]})


def test_a_prompt_file_with_references(make: Callable[..., JudgeReward], tmp_path: Path, server: Server) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("{prompt} {answer} {reference} {low} {high}", encoding="utf-8")
    reward, prompts = make(prompt=str(path)), [[{"role": "user", "content": "p"}]]
    assert reward(prompts, [wants(10)], [{"answer": "forty-two"}]) == [1]
    assert "[begin reference answer " in server.asked[0].prompt
    assert "\nforty-two\n" in server.asked[0].prompt
    with pytest.raises(DataError, match="no reference answer: none in"):
        reward(prompts, [wants(10)], [{}])


def test_the_prompt_file_is_looked_at_before_anything_else(make: Callable[..., JudgeReward], tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("{prompt}", encoding="utf-8")
    with pytest.raises(SettingsError, match=r"mine.txt lacks {answer} and {low} and {high}"):
        make(prompt=str(tmp_path / "mine.txt"))
