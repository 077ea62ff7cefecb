"""The one order all algorithms share, and the small readings of a similarity they build on.

A candidate stands before another if its score is larger; at equal scores, if its largest similarity to
any query is larger; at equal largest similarities too, if its index is smaller (methods.md, section 5).
That is a total order, so a selection never depends on how a sort treats ties.

Shapes: Q queries, N candidates, B picks, C columns asked for.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handpick.algorithms.protocol import Similarity


def largest_similarity(similarity_QN: Similarity) -> Similarity:
    """Each candidate's largest similarity to any query, (N,), in the similarity's own type."""
    return np.asarray(np.max(similarity_QN, axis=0))


def first_columns(scores_N: Similarity, largest_N: Similarity, count: int) -> NDArray[np.int64]:
    """The first ``count`` columns in the shared order, int64 (C,), exactly those of a full sort.

    Costs O(N + C log C), also where nearly all scores tie, as those of a sparse similarity do.
    """
    above, level = _split_at(scores_N, count)
    missing = count - above.size
    level_above, level_level = _split_at(largest_N[level], missing)
    by_index = level[level_level][: missing - level_above.size]
    columns_C = np.concatenate([above, level[level_above], by_index])
    # The last key is the first to count.
    order_C = np.lexsort((columns_C, -largest_N[columns_C], -scores_N[columns_C]))
    return columns_C[order_C]


def nearest_query(similarity_QN: Similarity, columns_B: NDArray[np.int64], queries: Sequence[int]) -> NDArray[np.int64]:
    """Which of ``queries`` each column is most similar to, int64 (B,); the first of them where several tie."""
    nearest_B = np.full(columns_B.size, queries[0], dtype=np.int64)
    largest_B = similarity_QN[queries[0], columns_B]
    for query in queries[1:]:
        row_B = similarity_QN[query, columns_B]
        nearer_B = row_B > largest_B
        nearest_B[nearer_B] = query
        largest_B[nearer_B] = row_B[nearer_B]
    return nearest_B


def _split_at(values: NDArray[np.floating[Any]], count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions above the ``count``-th largest value, and positions level with it, both ascending."""
    cut = np.partition(values, values.size - count)[values.size - count]
    return np.flatnonzero(values > cut), np.flatnonzero(values == cut)
