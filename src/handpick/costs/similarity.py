"""What a similarity takes: some rows of numbers drawn at random are multiplied.

Legend: Q queries, K features, B rows.
"""

import numpy as np

from handpick.costs.probe import time_once
from handpick.store.codec import Storage, encode, products, row_norms

_ROWS = 1_024  # of the pool that are multiplied in the probe


def similarity_seconds(storage: Storage, n_queries: int, dim: int) -> float:
    """Measure seconds per row of the pool, of the similarity to all queries; the stored type widened as it is read."""
    rng = np.random.default_rng(0)
    n_rows = max(1, min(_ROWS, (1 << 26) // dim))
    rows_BK = rng.standard_normal((n_rows, dim), dtype=np.float32)
    tensors = encode(rows_BK, row_norms(rows_BK), storage)
    query_QK = rng.standard_normal((n_queries, dim), dtype=np.float32)
    return time_once(lambda: products(query_QK, tensors, storage)) / n_rows
