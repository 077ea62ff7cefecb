"""Mean-max: the mean over each subtask's queries, the maximum over subtasks, the largest first.

Source: LESS, Xia et al. ICML 2024, arXiv 2402.04333, section 4.

Shapes: Q queries, N candidates, B picks, K columns of a block.
"""

import numpy as np
from numpy.typing import NDArray

from handpick.algorithms.protocol import Picks, Request, Values
from handpick.algorithms.queries import members_of
from handpick.algorithms.tie_rule import first_columns


def mean_max(request: Request) -> Picks:
    """Rank by the best subtask's mean similarity; without labels all queries are one subtask.

    A pick's query is the most similar one within the subtask that won, the first of equals. Reads the similarity once
    and holds three vectors of length N.
    """
    n_queries, n_candidates = request.similarity.shape
    members = members_of(request.subtasks, n_queries)
    score_N = np.empty(n_candidates)
    largest_N: Values = np.empty(n_candidates)  # float64 holds the values of any float type
    query_N = np.empty(n_candidates, dtype=np.int32)
    for start, block_QK in request.similarity.blocks():
        here = slice(start, start + block_QK.shape[1])
        score_N[here], query_N[here] = _best_subtask(block_QK, members)
        largest_N[here] = np.max(block_QK, axis=0)
    columns_B = first_columns(score_N, largest_N, request.budget)
    return Picks(columns_B, score_N[columns_B].astype(np.float32), query_N[columns_B].astype(np.int64))


def _best_subtask(block_QK: Values, members: list[list[int]]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the largest mean over a subtask's queries, float64 (K,), and the query of that subtask that is nearest."""
    score_K = np.full(block_QK.shape[1], -np.inf)
    query_K = np.zeros(block_QK.shape[1], dtype=np.int64)
    for queries in members:
        mean_K = _mean(block_QK, queries)
        better_K = np.flatnonzero(mean_K > score_K)
        score_K[better_K] = mean_K[better_K]
        query_K[better_K] = np.array(queries)[np.argmax(block_QK[np.ix_(np.array(queries), better_K)], axis=0)]
    return score_K, query_K


def _mean(block_QK: Values, queries: list[int]) -> NDArray[np.float64]:
    """Return the mean over ``queries``, float64 (K,).

    Summed row after row in float64: ``np.mean`` changes its order of summation with the memory layout,
    and with it the last bits and the ties.
    """
    sum_K = np.zeros(block_QK.shape[1], dtype=np.float64)
    for query in queries:
        sum_K += block_QK[query]
    return sum_K / len(queries)
