"""Doubly greedy: the largest similarity to any query, the largest first.

Source: TIS, Nayak et al. ICML 2026, arXiv 2602.14696.
"""

import numpy as np

from handpick.algorithms.ordering import first_columns, largest_similarity, nearest_query
from handpick.algorithms.protocol import Picks, Request


def doubly_greedy(request: Request) -> Picks:
    """Rank by the maximum over queries; a pick's query is the one that has it, the first of equals."""
    similarity_QN = request.similarity
    largest_N = largest_similarity(similarity_QN)
    columns_B = first_columns(largest_N, largest_N, request.budget)
    queries_B = nearest_query(similarity_QN, columns_B, range(len(similarity_QN)))
    return Picks(columns_B, largest_N[columns_B].astype(np.float32), queries_B)
