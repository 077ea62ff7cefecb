"""Which candidates a closer look is worth: those that could still stand high in a query's list. Ours.

A candidate's upper bound for a query is what is foretold of it plus one standard deviation (ridge.py). The queries'
lists by upper bound are cut as a prefilter's (cut.py).

Shapes: Q queries, N candidates, B columns of a block, C columns asked for.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from handpick.algorithms import Similarity
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
