"""A representation of somebody's own that gives scores itself: one file, and one line in the table (test_table.py)."""

import numpy as np
from numpy.typing import NDArray

from handpick.scorers.direct_scorer import DirectScorer


class Recency(DirectScorer):
    """The later a record stands in the pool, the better."""

    def scores(self, rows_N: NDArray[np.int64]) -> NDArray[np.float32]:
        return rows_N.astype(np.float32)
