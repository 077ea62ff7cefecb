"""Doubly greedy: the largest similarity to any query, the largest first.

Source: TIS, Nayak et al. ICML 2026, arXiv 2602.14696.
"""

import numpy as np

from handpick.algorithms.protocol import Picks, Request
from handpick.algorithms.tie_rule import first_columns, largest_similarity


def doubly_greedy(request: Request) -> Picks:
    """Rank by the maximum over queries; a pick's query is the one that has it, the first of equals.

    Reads the similarity once and holds two vectors of length N.
    """
    largest_N, nearest_N = largest_similarity(request.similarity)
    columns_B = first_columns(largest_N, largest_N, request.budget)
    return Picks(columns_B, largest_N[columns_B].astype(np.float32), nearest_N[columns_B].astype(np.int64))
