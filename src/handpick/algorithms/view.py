"""A part of a similarity: some of its queries, some of its candidates.

Shapes: Q queries of the part, N candidates of the part, B columns of a block, C columns asked for.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from handpick.algorithms.protocol import Similarity, Values


class SimilarityView:
    """Rows and columns of a similarity, in the order given, read through it and not kept.

    Args:
        whole: what it is a part of.
        queries_Q: row numbers; None: all.
        columns_N: column numbers, ascending; None: all.
    """

    def __init__(
        self, whole: Similarity, queries_Q: NDArray[np.int64] | None = None, columns_N: NDArray[np.int64] | None = None
    ) -> None:
        self._whole = whole
        self._queries_Q = np.arange(whole.shape[0]) if queries_Q is None else queries_Q
        self._columns_N = columns_N

    @property
    def shape(self) -> tuple[int, int]:
        return len(self._queries_Q), self._whole.shape[1] if self._columns_N is None else len(self._columns_N)

    def blocks(self) -> Iterator[tuple[int, Values]]:
        first = 0
        for start, block_QB in self._whole.blocks():
            if self._columns_N is None:
                yield start, block_QB[self._queries_Q]
                continue
            until = int(np.searchsorted(self._columns_N, start + block_QB.shape[1]))
            if until > first:
                yield first, block_QB[np.ix_(self._queries_Q, self._columns_N[first:until] - start)]
            first = until

    def columns(self, columns_C: NDArray[np.int64]) -> Values:
        theirs_C = columns_C if self._columns_N is None else self._columns_N[columns_C]
        part_QC: Values = self._whole.columns(theirs_C)[self._queries_Q]
        return part_QC
