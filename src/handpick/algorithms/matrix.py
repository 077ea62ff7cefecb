"""A similarity that is an array, in memory or mapped from a file.

Shapes: Q queries, N candidates, B columns of a block, C columns asked for.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from handpick.algorithms.protocol import Values

_BLOCK = 1 << 18  # values of a block: few enough to stay in a CPU's cache from one use to the next


class Matrix:
    """An array (Q, N) of any float type, read and never copied whole."""

    def __init__(self, similarity_QN: Values) -> None:
        self._similarity_QN = similarity_QN

    @property
    def shape(self) -> tuple[int, int]:
        n_queries, n_candidates = self._similarity_QN.shape
        return n_queries, n_candidates

    def blocks(self) -> Iterator[tuple[int, Values]]:
        n_queries, n_candidates = self.shape
        step = max(1, _BLOCK // n_queries)
        for start in range(0, n_candidates, step):
            yield start, self._similarity_QN[:, start : start + step]

    def columns(self, columns_C: NDArray[np.int64]) -> Values:
        return np.asarray(self._similarity_QN[:, columns_C])
