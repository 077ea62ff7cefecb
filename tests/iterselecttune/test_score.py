"""Q, and R kept up as hard examples come, against the whole matrix; the filling of a budget against a double loop."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handpick.iterselecttune import score as module
from handpick.iterselecttune.filling import fill_budget
from handpick.iterselecttune.score import NearestHard, quality, top_places


def unit(n: int, seed: int, d: int = 6) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((n, d))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("cuts", [[0, 9], [0, 1, 2, 9], [0, 0, 5, 9]])
def test_the_nearest_hard_example_is_that_of_the_whole_matrix(cuts: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ROWS", 7)
    monkeypatch.setattr(module, "_HARD", 4)
    rows, hard = unit(23, 0), unit(9, 1)
    nearest = NearestHard(rows)
    for start, stop in pairwise(cuts):
        nearest.add(hard[start:stop], np.arange(100 + start, 100 + stop))
    whole = rows @ hard.T
    np.testing.assert_allclose(nearest.cosine_N, whole.max(axis=1), rtol=1e-6)
    assert (nearest.nearest_N == 100 + whole.argmax(axis=1)).all()


def test_without_a_hard_example_nothing_is_like_one() -> None:
    nearest = NearestHard(unit(5, 0))
    assert (nearest.cosine_N == 0).all()
    assert (nearest.nearest_N == -1).all()


def test_a_cosine_below_zero_is_still_the_largest() -> None:
    rows = np.array([[1, 0]], dtype=np.float32)
    nearest = NearestHard(rows)
    nearest.add(-rows, np.array([3]))
    assert nearest.cosine_N.tolist() == [-1]
    assert nearest.nearest_N.tolist() == [3]


def test_of_equally_near_ones_the_first_counts() -> None:
    rows = unit(4, 0)
    nearest = NearestHard(rows)
    nearest.add(rows[[0]], np.array([8]))
    nearest.add(rows[[0]], np.array([9]))
    assert nearest.nearest_N[0] == 8


def test_quality_is_the_weighted_sum() -> None:
    m, r = np.array([0.2, 1.0], np.float32), np.array([0.5, -1.0], np.float32)
    np.testing.assert_allclose(quality(m, r, 0.6), [0.6 * 0.2 + 0.4 * 0.5, 0.6 - 0.4], rtol=1e-6)
    assert (quality(m, r, 1) == m).all()
    assert (quality(m, r, 0) == r).all()


def test_of_equal_ones_the_first_is_better() -> None:
    assert top_places(np.array([0.1, 0.5, 0.5, 0.7], np.float32), 3).tolist() == [3, 1, 2]
    assert top_places(np.array([0.1], np.float32), 3).tolist() == [0]


def by_hand(
    hardness: np.ndarray, rows: np.ndarray, hard: list[int], out: list[int], alpha: float, n: int, batch: int
) -> list[tuple[int, float, int]]:
    """The same as the paper has it, with no thought for time."""
    known, taken = list(hard), []
    while len(taken) < n:
        scored = []
        for row in range(len(rows)):
            if row in known or row in out:
                continue
            cosines = [float(rows[row] @ rows[h]) for h in known]
            nearest = max(range(len(known)), key=cosines.__getitem__)
            scored.append((-(alpha * float(hardness[row]) + (1 - alpha) * cosines[nearest]), row, known[nearest]))
        if not scored:
            break
        chosen = sorted(scored)[:batch]
        taken += [(row, -q, nearest) for q, row, nearest in chosen]
        known += [row for _, row, _ in chosen]
    return taken[:n]


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 50), alpha=st.sampled_from([0, 0.3, 0.6, 1]), n=st.integers(1, 25), batch=st.integers(1, 9))
def test_a_budget_is_filled_as_by_hand(seed: int, alpha: float, n: int, batch: int) -> None:
    rows, hardness = unit(20, seed), np.random.default_rng(seed).random(20).astype(np.float32)
    hard, out = [3, 11], [0, 7]
    found = fill_budget(hardness, rows, np.array(hard), np.array(out), alpha=alpha, n=n, batch=batch)
    want = by_hand(hardness, rows, hard, out, alpha, n, batch)
    assert [(each.row, each.nearest) for each in found] == [(row, nearest) for row, _, nearest in want]
    np.testing.assert_allclose([each.score for each in found], [q for _, q, _ in want], atol=1e-6)
    shorter = fill_budget(hardness, rows, np.array(hard), np.array(out), alpha=alpha, n=max(1, n // 2), batch=batch)
    assert shorter == found[: len(shorter)]


def test_nothing_to_fill() -> None:
    rows = unit(4, 0)
    assert fill_budget(np.ones(4, np.float32), rows, np.array([0]), np.array([], int), alpha=1, n=0, batch=2) == []
