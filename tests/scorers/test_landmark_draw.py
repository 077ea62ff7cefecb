"""Which candidates become landmarks, and which are looked at again: against plain loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from handpick.algorithms.matrix import Matrix
from handpick.scorers import landmark_draw
from handpick.scorers.cut import best_columns
from handpick.scorers.landmark_draw import draw_from_clusters, draw_uniformly
from handpick.scorers.refinement import UpperBounds

Floats = NDArray[np.float32]


def groups(sizes: list[int], seed: int = 0, dim: int = 6) -> tuple[Floats, NDArray[np.int64]]:
    """Unit rows near as many far centres, shuffled, and whose each is."""
    rng = np.random.default_rng(seed)
    centres = np.eye(dim)[: len(sizes)]
    of_N = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    rows_ND = centres[of_N] + 0.01 * rng.normal(size=(len(of_N), dim))
    return (rows_ND / np.linalg.norm(rows_ND, axis=1, keepdims=True)).astype(np.float32), of_N


@settings(max_examples=40, deadline=None)
@given(n=st.integers(2, 200), share=st.floats(0.01, 0.99), seed=st.integers(0, 99))
def test_a_uniform_draw_is_seeded_and_fewer_are_a_part_of_more(n: int, share: float, seed: int) -> None:
    count = max(1, int(n * share))
    drawn = draw_uniformly(n, count, seed)
    assert len(set(drawn.tolist())) == count
    assert (np.diff(drawn) > 0).all()
    assert drawn.min() >= 0
    assert drawn.max() < n
    assert set(drawn_again := draw_uniformly(n, max(1, count // 2), seed).tolist()) <= set(drawn.tolist())
    assert len(drawn_again) == max(1, count // 2)


def test_another_seed_draws_others() -> None:
    assert len({tuple(draw_uniformly(1_000, 10, seed).tolist()) for seed in range(20)}) == 20


@settings(max_examples=40, deadline=None)
@given(n=st.integers(3, 120), count=st.integers(1, 40), distinct=st.integers(1, 60), seed=st.integers(0, 99))
def test_clusters_give_as_many_landmarks_as_asked_for(n: int, count: int, distinct: int, seed: int) -> None:
    """Also where there are fewer different rows than clusters."""
    count = min(count, n - 1)
    rng = np.random.default_rng(seed)
    rows_ND = rng.normal(size=(distinct, 5)).astype(np.float32)[rng.integers(0, distinct, n)]
    drawn = draw_from_clusters(rows_ND.__getitem__, n, count, seed)
    assert len(set(drawn.tolist())) == count
    assert (np.diff(drawn) > 0).all()
    assert 0 <= drawn.min() <= drawn.max() < n
    assert drawn.tolist() == draw_from_clusters(rows_ND.__getitem__, n, count, seed).tolist()


def test_a_landmark_is_the_nearest_to_the_mean_of_its_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lloyd's algorithm as it is written, in a loop, from the same rows, whatever is compared at a time.

    Of 16 candidates a cluster at most, all are looked at.
    """
    rng = np.random.default_rng(3)
    rows_ND = rng.normal(size=(80, 4)).astype(np.float32)
    order = landmark_draw.generator(7, "landmarks").permutation(80)
    centres = rows_ND[order[:5]].astype(np.float64)
    for _ in range(10):
        nearest = [int(np.argmin([np.linalg.norm(row - centre) for centre in centres])) for row in rows_ND]
        centres = np.array([rows_ND[np.array(nearest) == k].mean(axis=0) for k in range(5)])
    distance_NK = np.linalg.norm(rows_ND[:, None] - centres[None], axis=2)
    nearest_N = distance_NK.argmin(axis=1)
    want = sorted(min(np.flatnonzero(nearest_N == k), key=lambda n: distance_NK[n, k]) for k in range(5))
    for compared in (1, 35, 1 << 24):
        monkeypatch.setattr(landmark_draw, "_COMPARED", compared)
        assert draw_from_clusters(rows_ND.__getitem__, 80, 5, 7).tolist() == want


def test_clusters_find_what_a_draw_would_miss() -> None:
    """Two rows of 402 stand by themselves."""
    rows_ND, of_N = groups([200, 200, 1, 1])
    hits = [set(of_N[draw_from_clusters(rows_ND.__getitem__, 402, 40, seed)].tolist()) for seed in range(3)]
    assert hits == [{0, 1, 2, 3}] * 3


@settings(max_examples=60, deadline=None)
@given(
    queries=st.integers(1, 6), n=st.integers(1, 40), wanted=st.integers(1, 45), alike=st.booleans(),
    left_out=st.integers(0, 10), seed=st.integers(0, 999),
)  # fmt: skip
def test_the_first_of_all_lists(queries: int, n: int, wanted: int, alike: bool, left_out: int, seed: int) -> None:
    """Depth by depth, query by query, in a loop."""
    rng = np.random.default_rng(seed)
    similarity_QN = rng.normal(size=(queries, n)).astype(np.float32)
    if alike:
        similarity_QN[:] = similarity_QN[0] + 1e-3 * similarity_QN
    without_N = np.zeros(n, np.bool_)
    without_N[rng.permutation(n)[: min(left_out, n - 1)]] = True
    lists = [[c for c in np.argsort(-row_N).tolist() if not without_N[c]] for row_N in similarity_QN]
    want: list[int] = []
    for depth in range(len(lists[0])):
        for own in lists:
            if own[depth] not in want and len(want) < wanted:
                want.append(own[depth])
    found = best_columns(Matrix(similarity_QN), wanted, without_N)
    assert found.tolist() == sorted(want)


def test_an_upper_bound_is_the_mean_and_a_deviation() -> None:
    rng = np.random.default_rng(0)
    mean_QN, scale_Q, deviation_N = rng.normal(size=(3, 10)).astype(np.float32), rng.random(3), rng.random(10)
    bounds = UpperBounds(Matrix(mean_QN), scale_Q, deviation_N)
    want_QN = mean_QN + np.outer(scale_Q, deviation_N)
    ((_, whole_QN),) = bounds.blocks()
    np.testing.assert_allclose(whole_QN, want_QN, rtol=1e-6)
    np.testing.assert_allclose(bounds.columns(np.array([7, 0])), want_QN[:, [7, 0]], rtol=1e-6)
