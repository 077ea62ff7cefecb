"""Round-robin: queries take turns in order, each takes its most similar candidate not yet taken.

Source: TIS, Nayak et al. ICML 2026, arXiv 2602.14696. Reading from top lists instead of scanning a row
a pick is ours; the picks are the same.

Shapes: Q queries, N candidates, B picks.
"""

import math
from collections.abc import Iterator
from itertools import cycle, islice

import numpy as np
from numpy.typing import NDArray

from handpick.algorithms.ordering import first_columns, largest_similarity
from handpick.algorithms.protocol import Picks, Request, Similarity


def round_robin(request: Request) -> Picks:
    """Let every query take its best in turn; a pick's score is its similarity to the query that took it.

    Each query reads its row once for a top list somewhat longer than its share of the budget, and again
    only when others have emptied that list. Lists double, so a row is read O(log Q) times however much
    the queries agree: O(Q·N·log Q) at worst, against O(B·N) of a scan a pick. Beside the similarity it
    holds a few vectors of length N and the lists: about 2 B entries, Q·B where all queries are the same.
    """
    similarity_QN, budget = request.similarity, request.budget
    n_queries, n_candidates = similarity_QN.shape
    largest_N = largest_similarity(similarity_QN)
    taken_N = np.zeros(n_candidates, dtype=np.bool_)
    share = math.ceil(budget / n_queries)
    best = [_best_untaken(row_N, largest_N, taken_N, 2 * share, budget) for row_N in similarity_QN]

    columns_B = np.empty(budget, dtype=np.int64)
    for turn, own_best in enumerate(islice(cycle(best), budget)):
        column = next(own_best)
        taken_N[column] = True
        columns_B[turn] = column
    queries_B = np.arange(budget, dtype=np.int64) % n_queries
    return Picks(columns_B, similarity_QN[queries_B, columns_B].astype(np.float32), queries_B)


def _best_untaken(
    row_N: Similarity, largest_N: Similarity, taken_N: NDArray[np.bool_], length: int, budget: int
) -> Iterator[int]:
    """One query's candidates, best first, without those that ``taken_N`` holds when their turn comes.

    Never ends of itself: the caller takes at most N candidates in all.
    """
    while True:
        # A list of ``budget`` untaken candidates outlasts every turn still to come.
        for column in _top_list(row_N, largest_N, taken_N, min(length, budget)):
            if not taken_N[column]:
                yield int(column)
        length *= 2


def _top_list(row_N: Similarity, largest_N: Similarity, taken_N: NDArray[np.bool_], length: int) -> NDArray[np.int64]:
    """The first ``length`` untaken columns of a row, int64; fewer where fewer are left.

    Apart from the generator on purpose: a suspended generator keeps its locals, here a copy of the row.
    """
    # float16 is widened, which changes no order and is faster to partition.
    score_N = row_N.astype(np.promote_types(row_N.dtype, np.float32))
    score_N[taken_N] = -np.inf
    n_untaken = taken_N.size - int(np.count_nonzero(taken_N))
    return first_columns(score_N, largest_N, min(length, n_untaken))
