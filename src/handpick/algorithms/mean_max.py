"""Mean-max: the mean over each subtask's queries, the maximum over subtasks, the largest first.

Source: LESS, Xia et al. ICML 2024, arXiv 2402.04333, section 4.

Shapes: Q queries, N candidates, B picks.
"""

import numpy as np
from numpy.typing import NDArray

from handpick.algorithms.ordering import first_columns, largest_similarity, nearest_query
from handpick.algorithms.protocol import Picks, Request, Similarity


def mean_max(request: Request) -> Picks:
    """Rank by the best subtask's mean similarity; without labels all queries are one subtask.

    A pick's query is the most similar one within the subtask that won, the first of equals.
    """
    similarity_QN = request.similarity
    members = _queries_by_subtask(request.subtasks, len(similarity_QN))

    score_N = _mean(similarity_QN, members[0])
    winner_N = np.zeros(score_N.size, dtype=np.int32)
    for subtask, queries in enumerate(members[1:], start=1):
        mean_N = _mean(similarity_QN, queries)
        winner_N[mean_N > score_N] = subtask
        np.maximum(score_N, mean_N, out=score_N)

    columns_B = first_columns(score_N, largest_similarity(similarity_QN), request.budget)
    queries_B = np.empty(columns_B.size, dtype=np.int64)
    for subtask, queries in enumerate(members):
        won_B = winner_N[columns_B] == subtask
        queries_B[won_B] = nearest_query(similarity_QN, columns_B[won_B], queries)
    return Picks(columns_B, score_N[columns_B].astype(np.float32), queries_B)


def _queries_by_subtask(subtasks: tuple[str, ...] | None, n_queries: int) -> list[list[int]]:
    """The rows of each subtask, subtasks in order of first appearance."""
    members: dict[str, list[int]] = {}
    for query, subtask in enumerate(subtasks or [""] * n_queries):
        members.setdefault(subtask, []).append(query)
    return list(members.values())


def _mean(similarity_QN: Similarity, queries: list[int]) -> NDArray[np.float64]:
    """Mean over ``queries``, float64 (N,).

    Summed row after row in float64: ``np.mean`` changes its order of summation with the memory layout,
    and with it the last bits and the ties.
    """
    sum_N = np.zeros(similarity_QN.shape[1], dtype=np.float64)
    for query in queries:
        sum_N += similarity_QN[query]
    return sum_N / len(queries)
