"""What a prefilter leaves, against ten lines of numpy on the whole similarity.

Shapes: Q queries, N candidates.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from handpick.algorithms.matrix import Matrix
from handpick.errors import SettingsError
from handpick.scorers.cut import best_columns, list_depths

Values = NDArray[np.floating[Any]]


class Blocks:
    """A similarity that is read a few columns at a time."""

    def __init__(self, similarity_QN: Values, step: int) -> None:
        self._similarity_QN = similarity_QN
        self._step = step
        self.shape = (similarity_QN.shape[0], similarity_QN.shape[1])

    def blocks(self) -> Iterator[tuple[int, Values]]:
        for start in range(0, self.shape[1], self._step):
            yield start, self._similarity_QN[:, start : start + self._step].copy()

    def columns(self, columns_C: NDArray[np.int64]) -> Values:
        return self._similarity_QN[:, columns_C]


def cut_whole(similarity_QN: Values, n: int) -> tuple[list[int], list[int]]:
    """The columns that are left, and how deep each list goes, from every list in full."""
    n_queries, n_candidates = similarity_QN.shape
    largest_N = similarity_QN.max(axis=0)
    lists = [
        sorted(range(n_candidates), key=lambda c: (-similarity_QN[q, c], -largest_N[c], c)) for q in range(n_queries)
    ]
    left: list[int] = []
    for place in range(n_candidates):
        for own in lists:
            if own[place] not in left and len(left) < n:
                left.append(own[place])
    missed = [next((p for p in range(n_candidates) if own[p] not in left), n_candidates) for own in lists]
    return sorted(left), missed


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_lists_are_those_of_the_whole_similarity(seed: int, dtype: type[np.floating[Any]]) -> None:
    rng = np.random.default_rng(seed)
    n_queries, n_candidates = int(rng.integers(1, 8)), int(rng.integers(1, 60))
    common_N = rng.standard_normal(n_candidates) * (seed % 3)  # queries that agree not at all, somewhat, much
    similarity_QN = (rng.standard_normal((n_queries, n_candidates)) + common_N).astype(dtype)
    if seed % 2:
        similarity_QN = np.round(similarity_QN)  # ties
    for n in {1, n_candidates, int(rng.integers(1, n_candidates + 1))}:
        left, depths = cut_whole(similarity_QN, n)
        for similarity in (Matrix(similarity_QN), Blocks(similarity_QN, 7)):
            assert best_columns(similarity, n).tolist() == left
            left_N = np.isin(np.arange(n_candidates), left)
            assert list_depths(similarity, left_N).tolist() == depths


@pytest.mark.parametrize("n", [1, 5, 40])
def test_queries_that_are_all_the_same_and_candidates_that_are(n: int) -> None:
    same_QN = np.repeat(np.random.default_rng(0).standard_normal((1, 40)), 9, axis=0)
    assert best_columns(Matrix(same_QN), n).tolist() == sorted(np.argsort(-same_QN[0])[:n].tolist())
    level_QN = np.zeros((3, 40), np.float32)
    assert best_columns(Matrix(level_QN), n).tolist() == list(range(n))
    assert list_depths(Matrix(level_QN), np.arange(40) < n).tolist() == [n] * 3


def test_a_query_that_nothing_is_like_keeps_its_best() -> None:
    """Which a global top would not leave."""
    similarity_QN = np.random.default_rng(0).random((4, 100), dtype=np.float32)
    similarity_QN[3] /= 1000
    left = best_columns(Matrix(similarity_QN), 20)
    assert set(np.argsort(-similarity_QN[3])[:5].tolist()) <= set(left.tolist())


def test_lists_that_do_not_fit_in_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handpick.scorers.cut.available_bytes", lambda: 10_000)
    with pytest.raises(SettingsError, match=r"lists of 4 queries with 50 places each .* a smaller --prefilter-share"):
        best_columns(Matrix(np.zeros((4, 200), np.float32)), 100)
