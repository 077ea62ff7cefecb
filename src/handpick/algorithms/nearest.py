"""The candidates most similar to each query, exactly, in one pass over a similarity that need not fit in memory. Ours.

Shapes: Q queries, N candidates, B columns of a block, L places of a list, H values that may enter a list.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from handpick.algorithms.protocol import Similarity, Values
from handpick.algorithms.tie_rule import sort_columns, stand_before


@dataclass(frozen=True, eq=False)
class Nearest:
    """A list per query, best first in the shared order (tie_rule.py), all of one length.

    ``columns`` int64 (Q, L), ``scores`` (Q, L) in the similarity's own type, float16 widened.
    """

    columns: NDArray[np.int64]
    scores: Values


def nearest_columns(similarity: Similarity, length: int, without_N: NDArray[np.bool_] | None = None) -> Nearest:
    """Return the first ``length`` columns of every query, fewer where there are no more.

    Holds at most about 4·Q·L values with their columns, whatever N is: what is as good as the worst of a list goes
    to a heap of newcomers, and when that is as large as the lists, lists and newcomers are sorted together. A worst
    place is then twice as far down the pool, so this happens about log2(N / L) times.

    Args:
        similarity: read once.
        length: from 1 on.
        without_N: columns to leave out.
    """
    n_queries, n_candidates = similarity.shape
    n_left = n_candidates if without_N is None else int(n_candidates - np.count_nonzero(without_N))
    best = _Lists(n_queries, min(length, n_left))
    for start, block_QB in similarity.blocks():
        without_B = None if without_N is None else without_N[start : start + block_QB.shape[1]]
        best.update(block_QB, start, without_B)
    return best.to_nearest()


class _Lists:
    """The best so far of every query, and the newcomers."""

    def __init__(self, n_queries: int, length: int) -> None:
        self._n_queries = n_queries
        self._length = length
        self._parts: list[tuple[NDArray[np.int64], NDArray[np.int64], Values, Values]] = []
        self._n_new = 0
        # the last place of every full list: its score and its largest similarity to any query
        self._worst_Q: Values = np.full(n_queries, -np.inf, dtype=np.float32)
        self._worst_largest_Q: Values = np.full(n_queries, -np.inf, dtype=np.float32)

    def update(self, block_QB: Values, start: int, without_B: NDArray[np.bool_] | None) -> None:
        """Take in what may enter a list. Columns come in order, so at equal values those that are there stay."""
        values_QB = block_QB.astype(np.promote_types(block_QB.dtype, np.float32), copy=False)
        largest_B = values_QB.max(axis=0)
        enters_QB = stand_before(values_QB, largest_B, self._worst_Q, self._worst_largest_Q)
        if without_B is not None:
            enters_QB &= ~without_B
        for query in np.flatnonzero(np.count_nonzero(enters_QB, axis=1) > self._length):
            # more than a list: those that the block itself leaves no place for need not be sorted
            own_E = values_QB[query, enters_QB[query]]
            enters_QB[query] &= values_QB[query] >= np.partition(own_E, -self._length)[-self._length]
        query_H, column_H = np.nonzero(enters_QB)
        self._parts.append((query_H, column_H + start, values_QB[query_H, column_H], largest_B[column_H]))
        self._n_new += query_H.size
        if self._n_new >= self._n_queries * self._length:
            self._sort()

    def _sort(self) -> None:
        query_H, column_H, score_H, largest_H = (np.concatenate(each) for each in zip(*self._parts, strict=True))
        order_H = sort_columns(column_H, largest_H, score_H, query_H)
        first_Q = np.searchsorted(query_H[order_H], np.arange(self._n_queries))
        place_H = np.arange(order_H.size) - first_Q[query_H[order_H]]
        kept = order_H[place_H < self._length]
        self._parts = [(query_H[kept], column_H[kept], score_H[kept], largest_H[kept])]
        self._n_new = 0
        last = kept[place_H[place_H < self._length] == self._length - 1]
        self._worst_Q = np.full(self._n_queries, -np.inf, dtype=score_H.dtype)
        self._worst_Q[query_H[last]] = score_H[last]
        self._worst_largest_Q = np.full(self._n_queries, -np.inf, dtype=score_H.dtype)
        self._worst_largest_Q[query_H[last]] = largest_H[last]

    def to_nearest(self) -> Nearest:
        self._sort()
        _, column_H, score_H, _ = self._parts[0]
        shape = (self._n_queries, self._length)
        return Nearest(column_H.reshape(shape), score_H.reshape(shape))
