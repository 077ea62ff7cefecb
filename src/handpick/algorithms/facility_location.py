"""Facility location: every pick is the candidate that brings the queries' nearest chosen example closest to them.

It maximises f(S) = Σ_q m_q max_{n ∈ S} S[q, n], with m_q what query q counts, one candidate after another. For an
empty S the maximum is a query's smallest similarity to any candidate, so that no candidate makes f smaller; nothing
but the first score depends on it. A greedy f is within 1 − 1/e of the best there is.

Source: Nemhauser, Wolsey and Fisher, "An analysis of approximations for maximizing submodular set functions",
Mathematical Programming 1978; that a gain from earlier bounds one from later, so that few have to be computed anew, is
Minoux, "Accelerated greedy algorithms for maximizing submodular set functions", 1978. The rounds are ours.

Shapes: Q queries, N candidates, B picks, K columns of a block, C columns asked for.
"""

import heapq
from collections.abc import Generator, Iterator
from itertools import chain, islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from handpick.algorithms.protocol import Picks, Request, Similarity, Values
from handpick.algorithms.queries import query_mass
from handpick.algorithms.tie_rule import first_columns

Array = NDArray[np.float64]

_TOGETHER = 64  # gains computed anew at a time
_FED = 256  # columns that a round's heap starts with
_DEARER = 32  # a column computed anew by itself costs this many times its part of a pass
_VALUES = 1 << 18  # similarities looked at together


def facility_location(request: Request) -> Picks:
    """Take the largest gain of f, over and over; a pick's score is its gain, its query the one that gains most.

    f is at its largest once every query has its nearest candidate, often after about Q picks. A new round then starts
    with the candidates that are left, as if none had been taken. Going on by similarity instead would leave all of a
    large budget to the queries that are easiest to please; so every part of the order serves them all.

    Equal to computing every gain for every pick. Two passes at first and a few more every round, each of them at the
    cost of Q·N values; a round has about Q picks. Holds a few vectors of length N, and a heap of the columns that a
    pass left worth looking at.
    """
    similarity, budget = request.similarity, request.budget
    mass_Q = query_mass(request)
    largest_N, smallest_Q = _extremes(similarity)
    first_gain_N = _all_gains(similarity, mass_Q, smallest_Q)
    left_N = np.ones(similarity.shape[1], dtype=np.bool_)

    picked: list[_Pick] = []
    while len(picked) < budget:
        first = int(_top_columns(first_gain_N, largest_N, left_N, 1)[0])
        if first_gain_N[first] == 0 or len(mass_Q) == 1:  # from here on every round would be of one pick
            rest_C = _top_columns(first_gain_N, largest_N, left_N, budget - len(picked))
            picked += _first_gains(similarity, mass_Q, smallest_Q, rest_C)
            break
        opening = _first_gains(similarity, mass_Q, smallest_Q, np.array([first]))
        left_N[first] = False
        nearest_Q = similarity.columns(np.array([first]))[:, 0].astype(np.float64)
        following = _round(similarity, mass_Q, nearest_Q, largest_N, left_N)
        picked += islice(chain(opening, following), budget - len(picked))
    columns, gains, queries = zip(*picked, strict=True)
    return Picks(np.array(columns, np.int64), np.array(gains, np.float32), np.array(queries, np.int64))


class _Pick(NamedTuple):
    column: int
    gain: float
    query: int


class _Bound(NamedTuple):
    """A column's gain when ``chosen`` were in the round; since then it can only have become smaller.

    Compared as a tuple: the smaller one stands before in the shared order (ordering.py).
    """

    minus_gain: float
    minus_largest: float
    column: int
    chosen: int


def _round(
    similarity: Similarity, mass_Q: Array, nearest_Q: Array, largest_N: Values, left_N: NDArray[np.bool_]
) -> Iterator[_Pick]:
    """Yield the picks of a round after its first, until nothing gains.

    ``nearest_Q`` and ``left_N`` are kept up to date.
    """
    finished = False
    while not finished:
        finished = yield from _stretch(similarity, mass_Q, nearest_Q, largest_N, left_N)


def _stretch(
    similarity: Similarity, mass_Q: Array, nearest_Q: Array, largest_N: Values, left_N: NDArray[np.bool_]
) -> Generator[_Pick, None, bool]:
    """Yield the picks from one pass over all gains to where another is cheaper than going on; True: nothing gains."""
    start_N = _all_gains(similarity, mass_Q, nearest_Q)
    start_N[~left_N] = 0
    waiting = _by_gain(start_N, largest_N)
    heap: list[_Bound] = []
    worst = _Bound(-np.inf, 0, 0, 0)  # of those that came to the heap: all that wait stand behind it
    chosen = looked_at = 0
    while looked_at <= start_N.size // _DEARER:
        while not heap or heap[0] > worst:
            fed = next(waiting, None)
            if fed is None:
                break
            worst = fed[-1]
            for bound in fed:
                heapq.heappush(heap, bound)
        if not heap:
            return True
        if heap[0].chosen < chosen:
            stale = _pop_stale(heap, chosen)
            looked_at += len(stale)
            gain_CQ = _gains_by_query(similarity.columns(np.array(stale)), mass_Q, nearest_Q)
            for column, gain in zip(stale, gain_CQ.sum(axis=1).tolist(), strict=True):
                if gain > 0:
                    heapq.heappush(heap, _Bound(-gain, -float(largest_N[column]), column, chosen))
            continue
        best = heapq.heappop(heap)
        values_Q1 = similarity.columns(np.array([best.column]))
        query = int(np.argmax(_gains_by_query(values_Q1, mass_Q, nearest_Q)[0]))
        np.maximum(nearest_Q, values_Q1[:, 0], out=nearest_Q)
        left_N[best.column] = False
        chosen += 1
        yield _Pick(best.column, -best.minus_gain, query)
    return False


def _by_gain(gain_N: Array, largest_N: Values) -> Iterator[list[_Bound]]:
    """Yield all columns that gain, in the shared order, twice as many every time: mostly a few are enough."""
    waiting_N = gain_N > 0
    count = _FED
    while waiting_N.any():
        columns_C = _top_columns(gain_N, largest_N, waiting_N, count)
        yield [_Bound(-float(gain_N[n]), -float(largest_N[n]), n, 0) for n in columns_C.tolist()]
        waiting_N[columns_C] = False
        count *= 2


def _pop_stale(heap: list[_Bound], chosen: int) -> list[int]:
    """Take off the columns at the top whose gains are out of date, and return them."""
    stale: list[int] = []
    while heap and heap[0].chosen < chosen and len(stale) < _TOGETHER:
        stale.append(heapq.heappop(heap).column)
    return stale


def _top_columns(score_N: Array, largest_N: Values, among_N: NDArray[np.bool_], count: int) -> NDArray[np.int64]:
    """Return the first ``count`` columns of some, fewer where there are no more, in the shared order."""
    among_C = np.flatnonzero(among_N)
    return among_C[first_columns(score_N[among_C], largest_N[among_C], min(count, among_C.size))]


def _first_gains(similarity: Similarity, mass_Q: Array, smallest_Q: Array, columns_C: NDArray[np.int64]) -> list[_Pick]:
    """Return what each column gains as the first of a round."""
    picks: list[_Pick] = []
    step = max(1, _VALUES // mass_Q.size)
    for start in range(0, columns_C.size, step):
        some = columns_C[start : start + step]
        gain_CQ = _gains_by_query(similarity.columns(some), mass_Q, smallest_Q)
        rows = zip(some.tolist(), gain_CQ.sum(axis=1).tolist(), np.argmax(gain_CQ, axis=1).tolist(), strict=True)
        picks += [_Pick(*row) for row in rows]
    return picks


def _extremes(similarity: Similarity) -> tuple[Values, Array]:
    """Return each candidate's largest similarity, (N,), and each query's smallest, (Q,); one pass."""
    n_queries, n_candidates = similarity.shape
    largest_N: Values = np.empty(n_candidates)  # float64 holds the values of any float type
    smallest_Q = np.full(n_queries, np.inf)
    for start, block_QK in similarity.blocks():
        largest_N[start : start + block_QK.shape[1]] = block_QK.max(axis=0)
        np.minimum(smallest_Q, block_QK.min(axis=1), out=smallest_Q)
    return largest_N, smallest_Q


def _all_gains(similarity: Similarity, mass_Q: Array, nearest_Q: Array) -> Array:
    """Return what f gains by each candidate, (N,), where the queries' nearest are as near as given; one pass."""
    gain_N = np.empty(similarity.shape[1])
    step = max(1, _VALUES // mass_Q.size)
    for start, block_QK in similarity.blocks():
        for first in range(0, block_QK.shape[1], step):
            gain_CQ = _gains_by_query(block_QK[:, first : first + step], mass_Q, nearest_Q)
            gain_N[start + first : start + first + len(gain_CQ)] = gain_CQ.sum(axis=1)
    return gain_N


def _gains_by_query(values_QC: Values, mass_Q: Array, nearest_Q: Array) -> Array:
    """Return what each query gains by each column, float64 (C, Q).

    One column per row, so that NumPy adds up a column in the same order however many there are. A sum in a fixed order
    never grows when no term does, rounding and all: that is why gains bound later ones exactly.
    """
    gain_CQ: Array = values_QC.T.astype(np.float64, order="C")
    gain_CQ -= nearest_Q
    np.maximum(gain_CQ, 0, out=gain_CQ)
    gain_CQ *= mass_Q
    return gain_CQ
