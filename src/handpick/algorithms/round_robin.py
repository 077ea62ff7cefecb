"""Round-robin: queries take turns in order, each takes its most similar candidate not yet taken.

Source: TIS, Nayak et al. ICML 2026, arXiv 2602.14696. Reading from top lists instead of scanning a row
a pick is ours; the picks are the same.

Shapes: Q queries, N candidates, B picks, L places of a list.
"""

import math
from itertools import islice

import numpy as np

from handpick.algorithms.nearest import Nearest, nearest_columns
from handpick.algorithms.protocol import Picks, Request
from handpick.algorithms.queries import query_mass, take_turns


def round_robin(request: Request) -> Picks:
    """Let every query take its best in turn; a pick's score is its similarity to the query that took it.

    One pass over the similarity gives each query a list of twice its share of the budget. A query whose list the
    others have emptied causes another pass, which gives all queries new lists, twice as long, of what is left: O(log Q)
    passes however much the queries agree, and mostly one, against a scan of a row per pick. Beside the similarity it
    holds N flags and lists of about 2·B places in all, up to Q·B where all queries are the same.
    """
    similarity, budget = request.similarity, request.budget
    n_queries, n_candidates = similarity.shape
    taken_N = np.zeros(n_candidates, dtype=np.bool_)
    length = 2 * math.ceil(budget * query_mass(request).max())
    nearest = nearest_columns(similarity, min(length, budget))
    next_Q = [0] * n_queries

    columns_B = np.empty(budget, dtype=np.int64)
    scores_B = np.empty(budget, dtype=np.float32)
    queries_B = np.fromiter(islice(take_turns(request), budget), np.int64, budget)
    for turn, query in enumerate(queries_B.tolist()):
        place = _next_untaken(nearest, query, next_Q[query], taken_N)
        if place is None:
            length *= 2
            # A list as long as the turns still to come outlasts them.
            nearest = nearest_columns(similarity, min(length, budget - turn), without_N=taken_N)
            next_Q = [0] * n_queries
            place = 0
        columns_B[turn] = nearest.columns[query, place]
        scores_B[turn] = nearest.scores[query, place]
        taken_N[columns_B[turn]] = True
        next_Q[query] = place + 1
    return Picks(columns_B, scores_B, queries_B)


def _next_untaken(nearest: Nearest, query: int, place: int, taken_N: np.ndarray) -> int | None:
    """Return the first place of a query's list, from ``place`` on, whose column is not taken.

    None where there is none.
    """
    columns_L = nearest.columns[query]
    while place < len(columns_L):
        if not taken_N[columns_L[place]]:
            return place
        place += 1
    return None
