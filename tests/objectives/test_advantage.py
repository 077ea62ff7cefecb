"""Advantages and NICE's variants, by their definitions and by what must always hold."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handpick.objectives.advantage import BEST, advantages, select_samples

REWARDS = st.lists(st.floats(-10, 10), min_size=1, max_size=30).map(np.array)


@pytest.mark.parametrize(
    ("kind", "want"),
    [
        ("raw", [1.0, 0.0, 3.0, 0.0]),
        ("centered", [0.0, -1.0, 2.0, -1.0]),
        ("rloo", [1 - 3 / 3, 0 - 4 / 3, 3 - 1 / 3, 0 - 4 / 3]),
        ("group_norm", [0.0, -1 / 1.5**0.5, 2 / 1.5**0.5, -1 / 1.5**0.5]),
    ],
)
def test_by_hand(kind: str, want: list[float]) -> None:
    np.testing.assert_allclose(advantages(np.array([1.0, 0.0, 3.0, 0.0]), kind), want, atol=1e-12)  # type: ignore[arg-type]


@given(REWARDS)
def test_rloo_compares_each_with_the_others(reward_K: np.ndarray) -> None:
    got = advantages(reward_K, "rloo")
    for k in range(len(reward_K)):
        others = np.delete(reward_K, k)
        want = reward_K[k] - others.mean() if len(others) else 0.0
        assert abs(got[k] - want) < 1e-9


@given(REWARDS, st.sampled_from(["centered", "rloo", "group_norm"]))
def test_a_baseline_leaves_a_sum_of_zero(reward_K: np.ndarray, kind: str) -> None:
    assert abs(advantages(reward_K, kind).sum()) < 1e-6 * max(1, len(reward_K))  # type: ignore[arg-type]


@given(st.floats(-1e6, 1e6), st.integers(1, 30), st.sampled_from(["centered", "rloo", "group_norm"]))
def test_rewards_that_are_alike_give_exactly_nothing(reward: float, n: int, kind: str) -> None:
    assert not advantages(np.full(n, reward), kind).any()  # type: ignore[arg-type]


def test_variants() -> None:
    reward_K = np.array([0.5, -1.0, 0.0, 2.0, 1.0])
    assert select_samples(reward_K, [], None) == [0, 1, 2, 3, 4]
    assert select_samples(reward_K, ["rejection"], None) == [0, 3, 4]
    assert select_samples(reward_K, ["hard_rejection"], 1.0) == [3, 4]
    assert select_samples(reward_K, ["hard_rejection"], None) == [0, 1, 2, 3, 4]  # nothing to compare with
    assert select_samples(reward_K, ["rejection", "hard_rejection"], -2.0) == [0, 3, 4]
    assert select_samples(reward_K - 10, ["rejection", "worst_case_protect"], None) == []


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40))
def test_topk_keeps_the_best_and_the_earlier_of_equals(rewards: list[int]) -> None:
    reward_K = np.array(rewards, dtype=float)
    kept = select_samples(reward_K, ["topk"], None)
    want = sorted(sorted(range(len(rewards)), key=lambda k: (-rewards[k], k))[:BEST])
    assert kept == want
