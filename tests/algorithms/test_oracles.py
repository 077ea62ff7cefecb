"""Every algorithm against the plainest reading of its definition: loops over Python numbers."""

import functools
import operator
import tracemalloc
from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from handpick.algorithms import pick
from handpick.algorithms.matrix import Matrix
from handpick.algorithms.nearest import nearest_columns

Pick = tuple[int, float, int]  # column, score, query
Oracle = Callable[[NDArray[np.floating], int, list[str]], list[Pick]]


def in_order(scores: list[float], largest: list[float]) -> list[int]:
    return sorted(range(len(scores)), key=lambda n: (-scores[n], -largest[n], n))


def largest_of_columns(matrix: NDArray[np.floating]) -> list[float]:
    return [max(float(row[n]) for row in matrix) for n in range(matrix.shape[1])]


def nearest(matrix: NDArray[np.floating], column: int, queries: list[int]) -> int:
    return max(queries, key=lambda q: (matrix[q, column], -q))


def mean_max_by_loops(matrix: NDArray[np.floating], budget: int, subtasks: list[str]) -> list[Pick]:
    scores, winners = [], []
    for n in range(matrix.shape[1]):
        means = {}
        for subtask in dict.fromkeys(subtasks):
            values = [float(matrix[q, n]) for q, own in enumerate(subtasks) if own == subtask]
            means[subtask] = functools.reduce(operator.add, values, 0.0) / len(values)
        winner = max(means, key=lambda subtask: means[subtask])
        scores.append(means[winner])
        winners.append([q for q, own in enumerate(subtasks) if own == winner])
    columns = in_order(scores, largest_of_columns(matrix))[:budget]
    return [(n, scores[n], nearest(matrix, n, winners[n])) for n in columns]


def doubly_greedy_by_loops(matrix: NDArray[np.floating], budget: int, subtasks: list[str]) -> list[Pick]:
    largest = largest_of_columns(matrix)
    everyone = list(range(len(matrix)))
    return [(n, largest[n], nearest(matrix, n, everyone)) for n in in_order(largest, largest)[:budget]]


def round_robin_by_loops(matrix: NDArray[np.floating], budget: int, subtasks: list[str]) -> list[Pick]:
    largest = largest_of_columns(matrix)
    picks: list[Pick] = []
    taken: set[int] = set()
    for turn in range(budget):
        query = turn % len(matrix)
        order = in_order([float(value) for value in matrix[query]], largest)
        column = next(n for n in order if n not in taken)
        taken.add(column)
        picks.append((column, float(matrix[query, column]), query))
    return picks


ORACLES: dict[str, Oracle] = {
    "mean-max": mean_max_by_loops,
    "doubly-greedy": doubly_greedy_by_loops,
    "round-robin": round_robin_by_loops,
}

shapes = st.tuples(st.integers(1, 6), st.integers(1, 14))
# Few distinct values, so that ties abound, at the edge of every top list and in the mean.
tied_matrices = hnp.arrays(
    st.sampled_from([np.float16, np.float32, np.float64]), shapes, elements=st.integers(-2, 2).map(float)
)
float_matrices = hnp.arrays(np.float32, shapes, elements=st.floats(-1, 1, width=32))


@st.composite
def cases(draw: st.DrawFn) -> tuple[NDArray[np.floating], int, list[str]]:
    matrix = draw(st.one_of(tied_matrices, float_matrices))
    n_queries, n_candidates = matrix.shape
    budget = draw(st.integers(1, n_candidates))
    subtasks = draw(st.lists(st.sampled_from("abc"), min_size=n_queries, max_size=n_queries))
    return matrix, budget, subtasks


@pytest.mark.parametrize("algorithm", ORACLES)
@settings(max_examples=150, deadline=None)
@given(case=cases())
def test_equals_the_double_loop(algorithm: str, case: tuple[NDArray[np.floating], int, list[str]]) -> None:
    matrix, budget, subtasks = case
    expected = ORACLES[algorithm](matrix, budget, subtasks)
    picks = pick(matrix, budget, algorithm, subtasks=subtasks)
    assert picks.columns.tolist() == [column for column, _, _ in expected]
    assert picks.scores.tolist() == [np.float32(score) for _, score, _ in expected]
    assert picks.queries.tolist() == [query for _, _, query in expected]
    assert (picks.columns.dtype, picks.scores.dtype, picks.queries.dtype) == (np.int64, np.float32, np.int64)


@pytest.mark.parametrize("kind", ["spread", "few values", "same query throughout", "mostly zero"])
def test_round_robin_refills_its_lists_exactly(kind: str) -> None:
    """Large enough that lists run dry several times, and that ties straddle their ends."""
    generator = np.random.default_rng(5)
    matrix = {
        "spread": generator.standard_normal((7, 300)),
        "few values": generator.integers(0, 4, (7, 300)).astype(float),
        "same query throughout": np.tile(generator.standard_normal(300), (7, 1)),
        "mostly zero": generator.standard_normal((7, 300)) * (generator.random((7, 300)) < 0.05),
    }[kind].astype(np.float32)
    for budget in (1, 6, 50, 300):
        expected = [column for column, _, _ in round_robin_by_loops(matrix, budget, [])]
        assert pick(matrix, budget, "round-robin").columns.tolist() == expected


class InShares(Matrix):
    """A similarity that several workers read; a share may have no columns at all."""

    def __init__(self, similarity_QN: NDArray[np.floating], cuts: list[int]) -> None:
        super().__init__(similarity_QN)
        self._given = similarity_QN
        self._ends = [0, *sorted(cuts), similarity_QN.shape[1]]

    def blocks(self) -> Iterator[tuple[int, NDArray[np.floating]]]:
        raise AssertionError("it was read whole")

    def shares(self) -> list[tuple[int, Matrix]]:
        return [(start, Matrix(self._given[:, start:end])) for start, end in pairwise(self._ends)]


@settings(max_examples=150, deadline=None)
@given(matrix=st.one_of(tied_matrices, float_matrices), data=st.data())
def test_lists_merged_from_workers_shares_are_those_of_one(matrix: NDArray[np.floating], data: st.DataObject) -> None:
    """Ties across the cuts, columns left out, shares of fewer columns than a list; and the picks, with refills."""
    n = matrix.shape[1]
    shared = InShares(matrix, data.draw(st.lists(st.integers(0, n), min_size=1, max_size=4)))
    without = data.draw(st.none() | hnp.arrays(bool, n).filter(lambda flags: not flags.all()))
    length = data.draw(st.integers(1, n))
    one, merged = nearest_columns(Matrix(matrix), length, without), nearest_columns(shared, length, without)
    assert merged.columns.tolist() == one.columns.tolist()
    assert merged.scores.tolist() == one.scores.tolist()
    assert merged.largest.tolist() == one.largest.tolist()
    expected = [column for column, _, _ in round_robin_by_loops(matrix, length, [])]
    assert pick(shared, length, "round-robin").columns.tolist() == expected


class Streamed(Matrix):
    """A similarity that is read in passes of small blocks, and counts them."""

    def __init__(self, similarity_QN: NDArray[np.floating], width: int) -> None:
        super().__init__(similarity_QN)
        self._given = similarity_QN
        self._width = width
        self.passes = 0

    def blocks(self) -> Iterator[tuple[int, NDArray[np.floating]]]:
        self.passes += 1
        for start in range(0, self._given.shape[1], self._width):
            block = self._given[:, start : start + self._width].copy()
            yield start, block
            block[:] = np.nan  # whoever keeps a block keeps this


@pytest.mark.parametrize("algorithm", ORACLES)
@settings(max_examples=150, deadline=None)
@given(case=cases(), width=st.integers(1, 5))
def test_a_similarity_in_blocks_gives_the_same(
    algorithm: str, case: tuple[NDArray[np.floating], int, list[str]], width: int
) -> None:
    matrix, budget, subtasks = case
    expected = pick(matrix, budget, algorithm, subtasks=subtasks)
    picks = pick(Streamed(matrix, width), budget, algorithm, subtasks=subtasks)
    assert picks.columns.tolist() == expected.columns.tolist()
    assert picks.scores.tolist() == expected.scores.tolist()
    assert picks.queries.tolist() == expected.queries.tolist()


def test_round_robin_reads_the_similarity_a_few_times_only() -> None:
    """The worst case: all queries want the same, so each list of twice its share runs dry again and again."""
    matrix = np.tile(np.random.default_rng(0).standard_normal(4096).astype(np.float32), (16, 1))
    streamed = Streamed(matrix, 100)
    pick(streamed, 2048, "round-robin")
    assert 1 < streamed.passes <= 1 + np.log2(16)
    different = Streamed(np.random.default_rng(0).standard_normal((16, 4096)).astype(np.float32), 100)
    pick(different, 256, "round-robin")
    assert different.passes == 1


@settings(max_examples=150, deadline=None)
@given(matrix=st.one_of(tied_matrices, float_matrices), data=st.data())
def test_nearest_columns_are_the_head_of_a_full_sort(matrix: NDArray[np.floating], data: st.DataObject) -> None:
    n_candidates = matrix.shape[1]
    length = data.draw(st.integers(1, n_candidates))
    without = data.draw(hnp.arrays(np.bool_, n_candidates))
    without[data.draw(st.integers(0, n_candidates - 1))] = False
    nearest = nearest_columns(Streamed(matrix, data.draw(st.integers(1, 5))), length, without)
    largest = largest_of_columns(matrix)
    for query, row in enumerate(matrix):
        order = [n for n in in_order([float(value) for value in row], largest) if not without[n]]
        assert nearest.columns[query].tolist() == order[:length]
        assert nearest.scores[query].tolist() == [row[n] for n in order[:length]]


@pytest.mark.parametrize("algorithm", ["round-robin"])
def test_balanced_subtasks_take_turns(algorithm: str) -> None:
    matrix = np.random.default_rng(1).standard_normal((4, 60)).astype(np.float32)
    picks = pick(matrix, 12, algorithm, subtasks=["a", "a", "a", "b"], balanced=True)
    assert picks.queries.tolist() == [0, 3, 1, 3, 2, 3, 0, 3, 1, 3, 2, 3]
    each_has_one = pick(matrix, 12, algorithm, subtasks=["a", "b", "c", "d"], balanced=True)
    assert each_has_one.columns.tolist() == pick(matrix, 12, algorithm).columns.tolist()


def test_round_robin_does_not_copy_the_similarity() -> None:
    """Each query's top list lives on between its turns; a copy of its row must not."""
    matrix = np.random.default_rng(0).standard_normal((64, 20_000)).astype(np.float32)
    tracemalloc.start()
    pick(matrix, 500, "round-robin")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < matrix.nbytes / 4
