"""One model against another: what counts as a win, and how sure one can be of it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handpick.errors import DataError
from handpick.evaluation import estimate
from handpick.evaluation.versus import judge_by_rule, match
from handpick.judge import JudgeSettings, Verdict
from handpick.rewards.judge import JudgeReward
from tests.judge.server import running, says

sides = st.sampled_from(["a", "b", "tie", None])


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(sides, sides), min_size=1, max_size=20))
def test_the_winning_score_is_wins_less_losses_over_n_plus_one(pairs: list[tuple[Any, Any]]) -> None:
    """Points by the paper's words: both orders, or one and a tie, win; anything else that was said is a tie."""
    estimate._RESAMPLES, before = 100, estimate._RESAMPLES
    wins = sum(pair in [("a", "a"), ("a", "tie"), ("tie", "a")] for pair in pairs)
    losses = sum(pair in [("b", "b"), ("b", "tie"), ("tie", "b")] for pair in pairs)
    n = sum(None not in pair for pair in pairs)
    verdicts = [Verdict(*pair) for pair in pairs]
    try:
        if n == 0:
            with pytest.raises(DataError, match=r"^none of the \d+ prompts has a verdict in both orders"):
                match(verdicts, list(map(str, range(len(pairs)))))
            return
        found = match(verdicts, list(map(str, range(len(pairs)))))
    finally:
        estimate._RESAMPLES = before
    assert (found.wins, found.losses, found.ties, found.missing) == (wins, losses, n - wins - losses, len(pairs) - n)
    assert found.winning_score.value == pytest.approx((wins - losses) / n + 1)
    assert found.winning_score.n == n
    assert found.flipped == sum(set(pair) == {"a", "b"} for pair in pairs)
    if n > 1:
        assert 0 <= found.winning_score.low <= found.winning_score.high <= 2


def test_the_interval_narrows_with_more_prompts_and_not_with_repetitions() -> None:
    rng = np.random.default_rng(0)
    verdicts = [Verdict(side, side) for side in rng.choice(["a", "b"], 40, p=[0.7, 0.3])]
    one = match(verdicts, [str(i) for i in range(40)]).winning_score
    repeated = match(verdicts * 5, [str(i) for i in range(40)] * 5).winning_score
    more = match(verdicts * 5, [str(i) for i in range(200)]).winning_score
    assert (repeated.low, repeated.high) == pytest.approx((one.low, one.high))
    assert more.high - more.low < 0.6 * (one.high - one.low)


def test_a_rule_gives_the_win_to_the_higher_score() -> None:
    def length(prompts: Any, completions: Any, records: Any) -> list[int]:
        return [len(text) for text in completions]

    found = judge_by_rule(length, [[]] * 3, ["aa", "b", "cc"], ["a", "bb", "dd"], [{}] * 3, ["1", "2", "3"])
    assert [verdict.outcome for verdict in found] == ["a", "b", "tie"]


def test_an_answer_without_a_grade_neither_wins_nor_loses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The judge gives the grade that an answer asks for: 9, none, 2 to the one model and 5, 6, 5 to the other."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    answers_a = [json.dumps({"score": 9}), "no idea", json.dumps({"score": 2})]
    answers_b = [json.dumps({"score": score}) for score in (5, 6, 5)]
    prompts = [[{"role": "user", "content": f"p{i}"}] for i in range(3)]
    with running() as server:
        server.respond = lambda prompt, before: says(prompt.split("[begin answer ")[1].split("\n")[1])
        settings = JudgeSettings(model="m", url=server.url, key_env="NOT_SET_ANYWHERE", backoff_s=0, retries=0)
        verdicts = judge_by_rule(
            JudgeReward(settings, tmp_path), prompts, answers_a, answers_b, [{}] * 3, ["1", "2", "3"]
        )
    assert [verdict.outcome for verdict in verdicts] == ["a", None, "b"]
    found = match(verdicts, ["1", "2", "3"])
    assert (found.wins, found.ties, found.losses, found.missing) == (1, 0, 1, 1)
