"""Mass that queries give to the candidates nearest them: the lists it goes down, its sum, and the order it makes.

Shared by knn-uniform and knn-kde, which differ only in how a query divides its mass. Source: TSDS, Liu et al. NeurIPS
2024, arXiv 2410.11303. One pass, a weight for every query, and the order of candidates without mass are ours.

Shapes: Q queries, N candidates, B columns of a block or picks, L places of a list, M candidates with mass.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from handpick.algorithms.nearest import nearest_columns
from handpick.algorithms.protocol import Picks, Similarity, Values
from handpick.algorithms.tie_rule import first_columns


@dataclass(frozen=True, eq=False)
class Neighbourhood:
    """Each query's nearest candidates, and each candidate's nearest query.

    ``columns`` int64 (Q, L) and ``distance`` float64 (Q, L), 1 - similarity, nearest first. ``largest`` (N,) is a
    candidate's largest similarity to any query, ``query`` int64 (N,) the first query that has it.
    """

    columns: NDArray[np.int64]
    distance: NDArray[np.float64]
    largest: Values
    query: NDArray[np.int64]


def neighbourhood(similarity: Similarity, length: int) -> Neighbourhood:
    """Find each query's ``length`` nearest candidates, fewer where there are no more candidates.

    Reads the similarity once.
    """
    overheard = _MaximumRecorder(similarity)
    nearest = nearest_columns(overheard, length)
    distance_QL = 1 - nearest.scores.astype(np.float64)
    return Neighbourhood(nearest.columns, distance_QL, overheard.largest_N, overheard.query_N)


class _MaximumRecorder:
    """A similarity that keeps each column's largest value while somebody else reads it: saves a second pass."""

    def __init__(self, similarity: Similarity) -> None:
        self._similarity = similarity
        self.shape = similarity.shape
        self.largest_N: Values = np.empty(self.shape[1])  # float64 holds the values of any float type
        self.query_N = np.empty(self.shape[1], dtype=np.int64)

    def blocks(self) -> Iterator[tuple[int, Values]]:
        for start, block_QB in self._similarity.blocks():
            here = slice(start, start + block_QB.shape[1])
            self.largest_N[here] = np.max(block_QB, axis=0)
            self.query_N[here] = np.argmax(block_QB, axis=0)
            yield start, block_QB

    def columns(self, columns_C: NDArray[np.int64]) -> Values:
        return self._similarity.columns(columns_C)


@dataclass(frozen=True, eq=False)
class Mass:
    """Candidates with mass: ``columns`` int64 (M,) ascending, ``total`` float64 (M,), above 0.

    ``queries`` int64 (M,): who gave most of it, the first of equals.
    """

    columns: NDArray[np.int64]
    total: NDArray[np.float64]
    queries: NDArray[np.int64]


def sum_mass(columns_QL: NDArray[np.int64], mass_QL: NDArray[np.float64]) -> Mass:
    """Add up each candidate's mass from all queries.

    A candidate's parts are added from the largest to the smallest, so that equal parts give equal sums whichever
    queries they come from: rounding decides no tie.
    """
    query_P, place_P = np.nonzero(mass_QL)
    column_P, part_P = columns_QL[query_P, place_P], mass_QL[query_P, place_P]
    # The last key is the first to count.
    order_P = np.lexsort((query_P, -part_P, column_P))
    columns_M, first_M, owner_P = np.unique(column_P[order_P], return_index=True, return_inverse=True)
    total_M = np.bincount(owner_P, weights=part_P[order_P])
    return Mass(columns_M, total_M.astype(np.float64, copy=False), query_P[order_P][first_M])


def picks_by_mass(mass: Mass, near: Neighbourhood, budget: int) -> Picks:
    """Order by mass, the largest first; at equal mass, none among it, by largest similarity, then smaller index.

    A pick's query is the one that gave it most, or the nearest where none gave any.
    """
    total_N = np.zeros(near.largest.size)
    total_N[mass.columns] = mass.total
    query_N = near.query.copy()
    query_N[mass.columns] = mass.queries
    columns_B = first_columns(total_N, near.largest, budget)
    return Picks(columns_B, total_N[columns_B].astype(np.float32), query_N[columns_B])
