"""A similarity that a ridge foretells of all candidates (ridge.py), and exact columns in it.

Shapes: Q queries, N candidates, L landmarks, B columns of a block, C columns asked for, E exact columns.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from handpick.algorithms import Similarity
from handpick.algorithms.protocol import Values
from handpick.progress import progress
from handpick.scorers.ridge import Doubles, FittedRidge, Ridge
from handpick.store import FeatureStore
from handpick.store.codec import Floats

_VALUES = 1 << 23  # of the kernel between candidates and landmarks that are held at a time


class SpreadSimilarity:
    """What a ridge foretells of candidates, from their unit rows in a store, computed whenever it is read.

    Args:
        store: the cheap features, of one checkpoint.
        rows_N: the store's rows that are candidates, ascending.
        ridge: of all queries.
    """

    def __init__(self, store: FeatureStore, rows_N: NDArray[np.int64], ridge: Ridge) -> None:
        self._store = store
        self._rows_N = rows_N
        self._ridge = ridge

    @property
    def shape(self) -> tuple[int, int]:
        return self._ridge.coefficients_LQ.shape[1], len(self._rows_N)

    def blocks(self) -> Iterator[tuple[int, Values]]:
        """Yield blocks as ``algorithms.Similarity`` does; never candidates × landmarks whole."""
        with progress(f"spread over {len(self._rows_N):,} examples", total=len(self._rows_N)) as advance:
            for start, rows_BD in feature_blocks(self._store, self._rows_N, len(self._ridge.features_LD)):
                yield start, np.ascontiguousarray(self._ridge.predict(rows_BD).T, dtype=np.float32)
                advance(len(rows_BD))

    def columns(self, columns_C: NDArray[np.int64]) -> Values:
        """Return columns as ``algorithms.Similarity`` does; from single rows of the store."""
        rows, similarity_QC = self._store.on_disk(0), np.empty((self.shape[0], len(columns_C)), np.float32)
        step = _rows_at_a_time(len(self._ridge.features_LD))
        for start in range(0, len(columns_C), step):
            some = slice(start, start + step)
            similarity_QC[:, some] = self._ridge.predict(rows[self._rows_N[columns_C[some]]]).T
        return similarity_QC


class ExactColumns:
    """A similarity with some of its columns replaced.

    Args:
        similarity: of which the others are taken.
        columns_E: those that are replaced, ascending.
        exact_QE: what stands there instead.
    """

    def __init__(self, similarity: Similarity, columns_E: NDArray[np.int64], exact_QE: Floats) -> None:
        self._similarity = similarity
        self._columns_E = columns_E
        self._exact_QE = exact_QE

    @property
    def shape(self) -> tuple[int, int]:
        return self._similarity.shape

    def blocks(self) -> Iterator[tuple[int, Values]]:
        """Yield blocks as ``algorithms.Similarity`` does."""
        for start, block_QB in self._similarity.blocks():
            first, last = np.searchsorted(self._columns_E, [start, start + block_QB.shape[1]]).tolist()
            if first < last:
                block_QB = block_QB.copy()
                block_QB[:, self._columns_E[first:last] - start] = self._exact_QE[:, first:last]
            yield start, block_QB

    def columns(self, columns_C: NDArray[np.int64]) -> Values:
        """Return columns as ``algorithms.Similarity`` does."""
        similarity_QC = self._similarity.columns(columns_C)
        place_C = np.searchsorted(self._columns_E, columns_C)
        is_exact_C = np.isin(columns_C, self._columns_E)
        similarity_QC[:, is_exact_C] = self._exact_QE[:, place_C[is_exact_C]]
        return similarity_QC


def feature_blocks(store: FeatureStore, rows_N: NDArray[np.int64], n_landmarks: int) -> Iterator[tuple[int, Floats]]:
    """Yield candidates' unit rows in order, few enough for a block of the kernel: the first one's number, (B, D)."""
    step, first = _rows_at_a_time(n_landmarks), 0
    for start, block_BD in store.blocks(0):
        until = int(np.searchsorted(rows_N, start + len(block_BD)))
        for some in range(first, until, step):
            here = rows_N[some : min(some + step, until)] - start
            yield some, block_BD[here]
        first = until


def deviations(store: FeatureStore, rows_N: NDArray[np.int64], fitted: FittedRidge) -> Doubles:
    """Return the standard deviation of what is foretold of every candidate, (N,), before each query's scale."""
    deviation_N = np.empty(len(rows_N))
    with progress(f"doubt about {len(rows_N):,} examples", total=len(rows_N)) as advance:
        for start, rows_BD in feature_blocks(store, rows_N, len(fitted.ridge.features_LD)):
            deviation_N[start : start + len(rows_BD)] = fitted.deviation(rows_BD)
            advance(len(rows_BD))
    return deviation_N


def _rows_at_a_time(n_landmarks: int) -> int:
    return max(1, _VALUES // n_landmarks)
