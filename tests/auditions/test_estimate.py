"""Gains over random draws: against a plain computation, and whether their intervals hold what they say."""

import math
from statistics import fmean, variance

import numpy as np
import pytest
from scipy import stats

from handpick.auditions.estimate import Floats, Judges, can_move, gain_over_other, gain_over_random

J, D, Q = 4, 3, 12


def draw_values(
    seed: int, effect: float = 0.0, n: int = Q, draws: int = D, spread: float = 0.3
) -> tuple[Floats, Floats]:
    """Losses of a candidate's four models, each judged by half, and of the random draws; it is ``effect`` better."""
    rng = np.random.default_rng(seed)
    hard_Q = rng.normal(2, 1, n)
    draw_DQ = hard_Q + rng.normal(0, 0.02, (draws, 1)) + rng.normal(0, spread / 2, (draws, n))
    own_JQ = np.full((J, n), np.nan)
    suits_Q = rng.normal(0, spread, n)
    for repeat in range(J // 2):
        side_Q = rng.permutation(n) % 2
        for side in range(2):
            loss_Q = hard_Q - effect + suits_Q + rng.normal(0, 0.02) + rng.normal(0, spread / 2, n)
            own_JQ[2 * repeat + side] = np.where(side_Q == side, loss_Q, np.nan)
    return own_JQ, draw_DQ


def alone(n: int = Q) -> Judges:
    return Judges(np.zeros(n, dtype=np.int64), np.arange(n))


@pytest.mark.parametrize("seed", range(5))
def test_a_gain_is_what_a_plain_computation_says(seed: int) -> None:
    own_JQ, draw_DQ = draw_values(seed)
    found = gain_over_random(own_JQ, draw_DQ, alone(), -1, 0.9)
    own = [fmean(value for value in column if not math.isnan(value)) for column in own_JQ.T.tolist()]
    gains = [fmean(column) - value for value, column in zip(own, draw_DQ.T.tolist(), strict=True)]
    of_queries = variance(gains) / Q
    of_models = variance([fmean(row) for row in draw_DQ.tolist()]) * (1 / J + 1 / D)
    degrees = (of_queries + of_models) ** 2 / (of_queries**2 / (Q - 1) + of_models**2 / (D - 1))
    half = stats.t.ppf(0.95, degrees) * math.sqrt(of_queries + of_models)
    assert found.mean == pytest.approx(fmean(gains), rel=1e-12)
    assert (found.low, found.high) == pytest.approx((fmean(gains) - half, fmean(gains) + half), rel=1e-9)


def test_every_target_counts_the_same() -> None:
    own_JQ, draw_DQ = draw_values(0)
    judges = Judges(np.array([0] * 9 + [1] * 3), np.arange(Q))
    parts = [
        gain_over_random(own_JQ[:, part], draw_DQ[:, part], alone(size), -1, 0.9)
        for part, size in ((slice(0, 9), 9), (slice(9, None), 3))
    ]
    found = gain_over_random(own_JQ, draw_DQ, judges, -1, 0.9)
    assert found.mean == pytest.approx(fmean(part.mean for part in parts))
    assert judges.weight_Q.sum() == pytest.approx(1)


def test_of_several_targets_each_has_its_own_degrees_of_freedom() -> None:
    """Eight uneven queries beside five hundred even ones: the interval is about as wide as eight allow."""
    own_JQ, _ = draw_values(0, n=508)
    own_JQ[:, 8:] = np.where(np.isnan(own_JQ[:, 8:]), np.nan, 1.5)
    draw_DQ = np.full((D, 508), 2.0)
    judges = Judges(np.array([0] * 8 + [1] * 500), np.arange(508))
    found = gain_over_random(own_JQ, draw_DQ, judges, -1, 0.95)
    own_Q = np.nanmean(own_JQ[:, :8], axis=0)
    half = stats.t.ppf(0.975, 7) * math.sqrt(variance(own_Q.tolist()) / 8) / 2
    assert found.high - found.mean == pytest.approx(half, rel=1e-9)


def test_of_several_targets_a_candidate_has_a_model_each_in_which_nothing_cancels_out() -> None:
    """Draws that are better at one target by what they are worse at the other: their mean stays, a candidate's not."""
    judges = Judges(np.array([0] * 6 + [1] * 6), np.arange(Q))
    side_Q = np.where(judges.target_Q == 0, 1.0, -1.0)
    draw_DQ = 2 + np.array([[-0.1], [0.0], [0.1]]) * side_Q
    own_JQ = np.full((2, Q), 1.9)
    found = gain_over_random(own_JQ, draw_DQ, judges, -1, 0.95)
    of_own = 0.1**2 * (1 / 4 + 1 / 4)  # each target's variance, by the square of its weight
    assert found.mean == pytest.approx(0.1)
    assert found.high - found.mean == pytest.approx(stats.t.ppf(0.975, 2) * math.sqrt(of_own / 2), rel=1e-9)
    assert not found.is_clear


def test_queries_that_repeat_each_other_say_no_more_than_one() -> None:
    own_JQ, draw_DQ = draw_values(1)
    once = gain_over_random(own_JQ, draw_DQ, alone(), -1, 0.95)
    twice = Judges(np.zeros(2 * Q, dtype=np.int64), np.tile(np.arange(Q), 2))
    found = gain_over_random(np.tile(own_JQ, 2), np.tile(draw_DQ, 2), twice, -1, 0.95)
    assert (found.mean, found.low, found.high) == pytest.approx((once.mean, once.low, once.high))


def test_the_sign_says_what_is_better() -> None:
    own_JQ, draw_DQ = draw_values(2, effect=0.5)
    as_loss = gain_over_random(own_JQ, draw_DQ, alone(), -1, 0.95)
    as_score = gain_over_random(-own_JQ, -draw_DQ, alone(), 1, 0.95)
    assert as_loss.mean > 0.2
    assert as_loss.mean == pytest.approx(as_score.mean)
    assert as_loss.low == pytest.approx(as_score.low)


def test_two_candidates_are_compared_on_the_same_queries() -> None:
    own_JQ, draw_DQ = draw_values(3)
    against_itself = gain_over_other(own_JQ, own_JQ, draw_DQ, alone(), -1, 0.95)
    assert against_itself.mean == 0
    assert not against_itself.is_clear
    better = gain_over_other(own_JQ - 1, own_JQ, draw_DQ, alone(), -1, 0.95)
    assert better.mean == pytest.approx(1)
    assert better.is_clear


def test_one_group_of_queries_tells_nothing_of_the_next() -> None:
    own_JQ, draw_DQ = draw_values(4, effect=1)
    found = gain_over_random(
        own_JQ, draw_DQ, Judges(np.zeros(Q, dtype=np.int64), np.zeros(Q, dtype=np.int64)), -1, 0.95
    )
    assert (found.low, found.high) == (-math.inf, math.inf)
    assert not found.is_clear


def test_without_any_spread_the_interval_has_no_width() -> None:
    value_JQ, draw_DQ = np.ones((2, Q)), np.full((2, Q), 2.0)
    found = gain_over_random(value_JQ, draw_DQ, alone(), -1, 0.95)
    assert (found.mean, found.low, found.high) == (1, 1, 1)


@pytest.mark.parametrize(("effect", "n"), [(0.0, 64), (0.1, 64), (0.0, 10)])
def test_the_interval_holds_the_truth_as_often_as_it_says(effect: float, n: int) -> None:
    found = [gain_over_random(*draw_values(seed, effect, n, draws=4), alone(n), -1, 0.95) for seed in range(400)]
    held = fmean(each.low <= effect <= each.high for each in found)
    assert held >= 0.93  # 95% less two standard errors of 400
    if effect == 0:
        assert fmean(each.is_clear for each in found) <= 0.045  # 2.5% plus as much


@pytest.mark.filterwarnings("error")
def test_where_no_model_was_judged_no_metric_moves() -> None:
    nothing_JQ = np.full((2, 3), np.nan)
    assert not can_move([nothing_JQ, nothing_JQ])


@pytest.mark.parametrize(("moves", "last"), [(False, 1.0), (True, 0.0)])
def test_a_metric_moves_if_two_models_differ_on_a_query(moves: bool, last: float) -> None:
    own_JQ = np.array([[1.0, np.nan], [np.nan, 0.0]])
    assert can_move([own_JQ, np.array([[1.0, 0.0], [last, 0.0]])]) is moves


@pytest.mark.filterwarnings("error")
def test_a_query_that_no_model_was_judged_on_moves_nothing_and_warns_of_nothing() -> None:
    rows = np.array([[1.0, np.nan, 3.0], [np.nan, np.nan, 3.0]])
    assert not can_move([rows])
    assert can_move([rows, np.array([[1.5, np.nan, np.nan]])])
