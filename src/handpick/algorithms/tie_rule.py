"""The one order all algorithms share, and the small readings of a similarity they build on.

A candidate stands before another if its score is larger; at equal scores, if its largest similarity to
any query is larger; at equal largest similarities too, if its index is smaller. Ours: the papers name no rule.
That is a total order, so a selection never depends on how a sort treats ties.

Shapes: Q queries, N candidates, C columns asked for.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from handpick.algorithms.protocol import Similarity, Values


def largest_similarity(similarity: Similarity) -> tuple[Values, NDArray[np.int32]]:
    """Return each candidate's largest similarity to any query, (N,), and the first query that has it; one pass."""
    n_candidates = similarity.shape[1]
    largest_N: Values = np.empty(0)
    nearest_N = np.empty(n_candidates, dtype=np.int32)
    for start, block_QB in similarity.blocks():
        if start == 0:
            largest_N = np.empty(n_candidates, dtype=block_QB.dtype)
        here = slice(start, start + block_QB.shape[1])
        nearest_N[here] = np.argmax(block_QB, axis=0)
        largest_N[here] = np.max(block_QB, axis=0)
    return largest_N, nearest_N


def first_columns(scores_N: Values, largest_N: Values, count: int) -> NDArray[np.int64]:
    """Return the first ``count`` columns in the shared order, int64 (C,), exactly those of a full sort.

    Costs O(N + C log C), also where nearly all scores tie, as those of a sparse similarity do.
    """
    above, level = _split_at(scores_N, count)
    missing = count - above.size
    level_above, level_level = _split_at(largest_N[level], missing)
    by_index = level[level_level][: missing - level_above.size]
    columns_C = np.concatenate([above, level[level_above], by_index])
    return columns_C[sort_columns(columns_C, largest_N[columns_C], scores_N[columns_C])]


def sort_columns(
    columns_C: NDArray[np.int64], largest_C: Values, scores_C: Values, queries_C: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """Return the places of columns in the shared order, int64 (C,); with ``queries_C``, query by query."""
    keys = (columns_C, -largest_C, -scores_C)  # the last key is the first to count
    return np.lexsort(keys if queries_C is None else (*keys, queries_C))


def stand_before(values_QB: Values, largest_B: Values, last_Q: Values, last_largest_Q: Values) -> NDArray[np.bool_]:
    """Return which columns of a block stand before the last place of each query's list, bool (Q, B).

    Columns come in order, so at equal values those that are in the list stay.

    Args:
        values_QB: similarities of the block.
        largest_B: the largest of each column.
        last_Q: the similarity of the last place of every list.
        last_largest_Q: and the largest similarity of its column to any query.
    """
    before_QB: NDArray[np.bool_] = values_QB > last_Q[:, None]
    level_Q, level_B = np.nonzero(values_QB == last_Q[:, None])
    before_QB[level_Q, level_B] = largest_B[level_B] > last_largest_Q[level_Q]
    return before_QB


def _split_at(values: NDArray[np.floating[Any]], count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return positions above the ``count``-th largest value, and positions level with it, both ascending."""
    cut = np.partition(values, values.size - count)[values.size - count]
    return np.flatnonzero(values > cut), np.flatnonzero(values == cut)
