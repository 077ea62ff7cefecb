"""The candidates most similar to each query, exactly, in one pass over a similarity that need not fit in memory. Ours.

Where several workers share the pass, each has lists of its share of the columns, and the first of all lists together
are the lists of the whole: whatever is among the first L of all columns is among the first L of its share.

Shapes: Q queries, N candidates, B columns of a block, L places of a list, H values that may enter a list.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from handpick.algorithms.protocol import ColumnBlocks, SharedSimilarity, Similarity, Values
from handpick.algorithms.tie_rule import sort_columns, stand_before


@dataclass(frozen=True, eq=False)
class Nearest:
    """A list per query, best first in the shared order (tie_rule.py), all of one length.

    ``columns`` int64 (Q, L), ``scores`` (Q, L) in the similarity's own type, float16 widened; ``largest`` (Q, L), the
    largest similarity of the column to any query.
    """

    columns: NDArray[np.int64]
    scores: Values
    largest: Values


def nearest_columns(similarity: Similarity, length: int, without_N: NDArray[np.bool_] | None = None) -> Nearest:
    """Return the first ``length`` columns of every query, fewer where there are no more.

    Holds at most about 4·Q·L values with their columns a worker, whatever N is: what is as good as the worst of a list
    goes to a heap of newcomers, and when that is as large as the lists, lists and newcomers are sorted together. A
    worst place is then twice as far down the pool, so this happens about log2(N / L) times.

    Args:
        similarity: read once; by several threads where it has shares.
        length: from 1 on.
        without_N: columns to leave out.
    """
    shares = similarity.shares() if isinstance(similarity, SharedSimilarity) else [(0, similarity)]
    if len(shares) == 1:
        return _nearest_of(similarity, 0, length, without_N)
    with ThreadPoolExecutor(len(shares)) as workers:
        lists = workers.map(lambda share: _nearest_of(share[1], share[0], length, without_N), shares)
        return merge_nearest(list(lists), length)


def merge_nearest(lists: Sequence[Nearest], length: int) -> Nearest:
    """Return the first ``length`` columns of every query, of the lists of all columns' shares.

    Args:
        lists: of each share, ``length`` places or all the columns that it has.
        length: from 1 on.
    """
    if len(lists) == 1:
        return lists[0]
    columns_QM, scores_QM, largest_QM = (
        np.concatenate([getattr(each, name) for each in lists], axis=1) for name in ("columns", "scores", "largest")
    )
    n_queries, n_places = columns_QM.shape
    queries_M = np.repeat(np.arange(n_queries), n_places)
    order_M = sort_columns(columns_QM.ravel(), largest_QM.ravel(), scores_QM.ravel(), queries_M)
    first_QL = order_M.reshape(n_queries, n_places)[:, :length]
    return Nearest(columns_QM.ravel()[first_QL], scores_QM.ravel()[first_QL], largest_QM.ravel()[first_QL])


def _nearest_of(share: ColumnBlocks, first: int, length: int, without_N: NDArray[np.bool_] | None) -> Nearest:
    """Return the lists of some columns, of which the first has the number ``first``."""
    n_queries, n_columns = share.shape
    left_out = 0 if without_N is None else int(np.count_nonzero(without_N[first : first + n_columns]))
    best = _Lists(n_queries, min(length, n_columns - left_out))
    if best.length:
        for start, block_QB in share.blocks():
            here = slice(first + start, first + start + block_QB.shape[1])
            best.update(block_QB, here.start, None if without_N is None else without_N[here])
    return best.to_nearest()


class _Lists:
    """The best so far of every query, and the newcomers."""

    def __init__(self, n_queries: int, length: int) -> None:
        self._n_queries = n_queries
        self.length = length
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
        for query in np.flatnonzero(np.count_nonzero(enters_QB, axis=1) > self.length):
            # more than a list: those that the block itself leaves no place for need not be sorted
            own_E = values_QB[query, enters_QB[query]]
            enters_QB[query] &= values_QB[query] >= np.partition(own_E, -self.length)[-self.length]
        query_H, column_H = np.nonzero(enters_QB)
        self._parts.append((query_H, column_H + start, values_QB[query_H, column_H], largest_B[column_H]))
        self._n_new += query_H.size
        if self._n_new >= self._n_queries * self.length:
            self._sort()

    def _sort(self) -> None:
        query_H, column_H, score_H, largest_H = (np.concatenate(each) for each in zip(*self._parts, strict=True))
        order_H = sort_columns(column_H, largest_H, score_H, query_H)
        first_Q = np.searchsorted(query_H[order_H], np.arange(self._n_queries))
        place_H = np.arange(order_H.size) - first_Q[query_H[order_H]]
        kept = order_H[place_H < self.length]
        self._parts = [(query_H[kept], column_H[kept], score_H[kept], largest_H[kept])]
        self._n_new = 0
        last = kept[place_H[place_H < self.length] == self.length - 1]
        self._worst_Q = np.full(self._n_queries, -np.inf, dtype=score_H.dtype)
        self._worst_Q[query_H[last]] = score_H[last]
        self._worst_largest_Q = np.full(self._n_queries, -np.inf, dtype=score_H.dtype)
        self._worst_largest_Q[query_H[last]] = largest_H[last]

    def to_nearest(self) -> Nearest:
        shape = (self._n_queries, self.length)
        if not self.length:
            return Nearest(np.empty(shape, np.int64), np.empty(shape, np.float32), np.empty(shape, np.float32))
        self._sort()
        _, column_H, score_H, largest_H = self._parts[0]
        return Nearest(column_H.reshape(shape), score_H.reshape(shape), largest_H.reshape(shape))
