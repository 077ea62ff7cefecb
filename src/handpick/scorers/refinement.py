"""Which candidates a closer look is worth: those that could still stand high in a query's list. Ours.

A candidate's upper bound for a query is what is foretold of it plus one standard deviation (ridge.py). Of the queries'
lists by upper bound, the longest beginnings are taken that are together no more than asked for: the union of the
queries' own lists, never a global top, so that round-robin finds its candidates.

Shapes: Q queries, N candidates, B columns of a block, C columns asked for.
"""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from handpick.algorithms import Similarity
from handpick.algorithms.nearest import nearest_columns
from handpick.algorithms.protocol import Values
from handpick.scorers.ridge import Doubles


class UpperBounds:
    """A similarity plus a deviation a candidate, in every query's own scale.

    Args:
        similarity: what is foretold.
        scale_Q: of each query.
        deviation_N: of each candidate.
    """

    def __init__(self, similarity: Similarity, scale_Q: Doubles, deviation_N: Doubles) -> None:
        self._similarity = similarity
        self._scale_Q1 = scale_Q[:, None].astype(np.float32)
        self._deviation_N = deviation_N.astype(np.float32)

    @property
    def shape(self) -> tuple[int, int]:
        return self._similarity.shape

    def blocks(self) -> Iterator[tuple[int, Values]]:
        """Yield blocks as ``algorithms.Similarity`` does."""
        for start, block_QB in self._similarity.blocks():
            yield start, block_QB + self._scale_Q1 * self._deviation_N[start : start + block_QB.shape[1]]

    def columns(self, columns_C: NDArray[np.int64]) -> Values:
        """Return columns as ``algorithms.Similarity`` does."""
        bounds_QC: Values = self._similarity.columns(columns_C) + self._scale_Q1 * self._deviation_N[columns_C]
        return bounds_QC


def first_of_all_lists(similarity: Similarity, n: int, without_N: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return ``n`` columns, ascending: the first of every query's list, then the second of each, until there are ``n``.

    Fewer where there are no more.

    Args:
        similarity: read once, and again with longer lists where the queries agree much.
        n: how many, at least 1.
        without_N: columns to leave out.
    """
    n_queries, n_left = similarity.shape[0], int(np.count_nonzero(~without_N))
    n = min(n, n_left)
    length = min(n, 2 * math.ceil(n / n_queries))
    while True:
        by_depth = nearest_columns(similarity, length, without_N).columns.T.reshape(-1)
        columns, first = np.unique(by_depth, return_index=True)
        if len(columns) >= n:
            return np.sort(columns[np.argsort(first)[:n]])
        length = min(n, 2 * length)
