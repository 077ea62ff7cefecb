"""Importance sampling and facility location against loops, and what each promises of its own."""

import math
import sys
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from handpick.algorithms.checks import validate_request
from handpick.algorithms.doubly_greedy import doubly_greedy
from handpick.algorithms.facility_location import facility_location
from handpick.algorithms.importance import importance
from handpick.algorithms.matrix import Matrix
from handpick.algorithms.queries import query_mass
from handpick.algorithms.settings import AlgorithmSettings

module = sys.modules[facility_location.__module__]  # the package has the function by the same name

Pick = tuple[int, float, int]  # column, score, query

shapes = st.tuples(st.integers(1, 6), st.integers(1, 14))
# Few distinct values, so that ties abound; BM25 is mostly zeros.
tied_matrices = hnp.arrays(
    st.sampled_from([np.float16, np.float32, np.float64]), shapes, elements=st.integers(-2, 2).map(float)
)
sparse_matrices = hnp.arrays(np.float32, shapes, elements=st.sampled_from([0.0, 0.0, 0.0, 1.0, 2.5]))
float_matrices = hnp.arrays(np.float32, shapes, elements=st.floats(-1, 1, width=32))


@st.composite
def cases(draw: st.DrawFn) -> tuple[NDArray[np.floating], int, list[str], bool]:
    matrix = draw(st.one_of(tied_matrices, sparse_matrices, float_matrices))
    n_queries, n_candidates = matrix.shape
    subtasks = draw(st.lists(st.sampled_from("abc"), min_size=n_queries, max_size=n_queries))
    return matrix, draw(st.integers(1, n_candidates)), subtasks, draw(st.booleans())


class Streamed(Matrix):
    """A similarity that is read in small blocks, each overwritten by the next."""

    def __init__(self, similarity_QN: NDArray[np.floating], width: int = 3) -> None:
        super().__init__(similarity_QN)
        self._width = width
        self._given = similarity_QN
        self.passes = 0
        self.columns_read = 0

    def blocks(self) -> Iterator[tuple[int, NDArray[np.floating]]]:
        self.passes += 1
        for start in range(0, self._given.shape[1], self._width):
            block = self._given[:, start : start + self._width].copy()
            yield start, block
            block[:] = np.nan

    def columns(self, columns_C: NDArray[np.int64]) -> NDArray[np.floating]:
        self.columns_read += len(columns_C)
        return super().columns(columns_C)


def spread(n_queries: int, n_candidates: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((n_queries, n_candidates)).astype(np.float32)


def facility_location_by_loops(matrix: NDArray[np.floating], budget: int, mass: NDArray[np.float64]) -> list[Pick]:
    """Every gain of every candidate for every pick."""
    matrix = matrix.astype(np.float64)
    lowest = matrix.min(axis=1)
    left = list(range(matrix.shape[1]))
    picks: list[Pick] = []
    in_round: list[int] = []
    while len(picks) < budget:

        def gains(n: int, chosen: list[int]) -> NDArray[np.float64]:
            nearest = np.max(matrix[:, chosen], axis=1) if chosen else lowest
            return mass * np.maximum(matrix[:, n] - nearest, 0)

        best = min(left, key=lambda n: (-gains(n, in_round).sum(), -matrix[:, n].max(), n))
        own = gains(best, in_round)
        if own.sum() == 0 and in_round:
            in_round = []
            continue
        picks.append((best, own.sum(), int(np.argmax(own))))
        left.remove(best)
        in_round.append(best)
    return picks


@settings(max_examples=200, deadline=None)
@given(case=cases(), narrow=st.booleans(), streamed=st.booleans())
def test_facility_location_equals_computing_every_gain(
    case: tuple[NDArray[np.floating], int, list[str], bool], narrow: bool, streamed: bool
) -> None:
    matrix, budget, subtasks, balanced = case
    request = validate_request(Streamed(matrix) if streamed else matrix, budget, subtasks, balanced=balanced)
    expected = facility_location_by_loops(matrix, budget, query_mass(request))
    with pytest.MonkeyPatch.context() as patch:
        if narrow:  # so that heaps are fed again, and gains computed in several goes
            patch.setattr(module, "_TOGETHER", 2)
            patch.setattr(module, "_FED", 1)
            patch.setattr(module, "_DEARER", 1)
            patch.setattr(module, "_VALUES", 5)
        picks = facility_location(request)
    assert picks.columns.tolist() == [column for column, _, _ in expected]
    assert picks.scores.tolist() == [np.float32(score) for _, score, _ in expected]
    assert picks.queries.tolist() == [query for _, _, query in expected]
    assert (picks.columns.dtype, picks.scores.dtype, picks.queries.dtype) == (np.int64, np.float32, np.int64)


@pytest.mark.parametrize("dearer", [1, 32, 1000])
@pytest.mark.parametrize("kind", ["spread", "near the mean", "few values", "same query throughout"])
def test_facility_location_equals_computing_every_gain_on_a_larger_pool(
    kind: str, dearer: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_DEARER", dearer)
    matrix = {
        "spread": spread(13, 400),
        "near the mean": 0.1 * spread(13, 400) + spread(1, 400, seed=1),
        "few values": np.round(spread(13, 400)),
        "same query throughout": np.tile(spread(1, 400), (13, 1)),
    }[kind]
    picks = facility_location(validate_request(matrix, 40))
    expected = facility_location_by_loops(matrix, 40, np.full(13, 1 / 13))
    assert picks.columns.tolist() == [column for column, _, _ in expected]


@settings(max_examples=100, deadline=None)
@given(case=cases())
def test_smaller_budgets_are_heads_of_facility_location(
    case: tuple[NDArray[np.floating], int, list[str], bool],
) -> None:
    matrix, budget, _, _ = case
    n_candidates = matrix.shape[1]
    whole = facility_location(validate_request(matrix, n_candidates))
    assert sorted(whole.columns) == list(range(n_candidates))
    head = facility_location(validate_request(matrix, budget))
    assert head.columns.tolist() == whole.columns[:budget].tolist()
    assert head.scores.tolist() == whole.scores[:budget].tolist()


def test_scores_of_a_round_add_up_to_what_it_maximises() -> None:
    matrix = spread(5, 50)
    picks = facility_location(validate_request(matrix, 4))
    nearest = matrix[:, picks.columns].max(axis=1)
    assert picks.scores.sum() == pytest.approx((nearest - matrix.min(axis=1)).mean(), rel=1e-6)
    assert (np.diff(picks.scores) <= 0).all()


def test_facility_location_takes_complements_where_doubly_greedy_takes_the_same_again() -> None:
    matrix = np.array([[0.9, 0.89, 0.88, 0.0], [0.0, 0.0, 0.0, 0.5]], dtype=np.float32)
    request = validate_request(matrix, 2)
    assert facility_location(request).columns.tolist() == [0, 3]
    assert doubly_greedy(request).columns.tolist() == [0, 1]


def test_every_round_serves_every_query() -> None:
    """Each query has a group of its own; a round is one of each group, and no group runs ahead."""
    matrix = np.zeros((4, 40), dtype=np.float32)
    for query in range(4):
        matrix[query, query::4] = np.linspace(1, 0.5, 10) * (query + 1)
    picks = facility_location(validate_request(matrix, 40))
    for start in range(0, 40, 4):
        assert sorted(picks.queries[start : start + 4]) == [0, 1, 2, 3]


def test_balanced_subtasks_weigh_the_same() -> None:
    # two candidates: one serves the three queries of subtask a a little, one the single query of subtask b
    matrix = np.array([[0.5, 0.0], [0.5, 0.0], [0.5, 0.0], [0.0, 1.0]], dtype=np.float32)
    subtasks = ["a", "a", "a", "b"]
    assert facility_location(validate_request(matrix, 1, subtasks)).columns.tolist() == [0]
    assert facility_location(validate_request(matrix, 1, subtasks, balanced=True)).columns.tolist() == [1]


def test_facility_location_reads_few_passes_and_few_columns() -> None:
    streamed = Streamed(spread(50, 20_000), width=5000)
    facility_location(validate_request(streamed, 60))
    assert streamed.passes <= 20  # one a pick would be 60
    assert streamed.columns_read < 20 * 20_000 / 32


def test_one_query_alone_takes_no_rounds() -> None:
    streamed = Streamed(spread(1, 200))
    picks = facility_location(validate_request(streamed, 150))
    assert streamed.passes == 2
    assert picks.columns.tolist() == np.argsort(-streamed._given[0])[:150].tolist()


@settings(max_examples=60, deadline=None)
@given(data=st.data(), n_queries=st.integers(1, 300), n_columns=st.integers(1, 9))
def test_a_gain_does_not_depend_on_what_is_computed_beside_it(
    data: st.DataObject, n_queries: int, n_columns: int
) -> None:
    """To the last bit; were it otherwise, a bound could lie below the gain it bounds."""
    generator = np.random.default_rng(data.draw(st.integers(0, 1000)))
    values = generator.standard_normal((n_queries, n_columns)).astype(np.float32)
    mass, nearest = generator.random(n_queries), generator.standard_normal(n_queries)
    together = module._gains_by_query(values, mass, nearest).sum(axis=1)
    alone = [module._gains_by_query(values[:, [n]], mass, nearest).sum(axis=1)[0] for n in range(n_columns)]
    assert together.tolist() == alone


def importance_by_loops(matrix: NDArray[np.floating], budget: int, seed: int, temperature: float) -> list[Pick]:
    bits = np.random.PCG64(seed)
    largest, noisy = [], []
    for n in range(matrix.shape[1]):
        largest.append(max(float(value) for value in matrix[:, n]))
        uniform = (int(bits.random_raw()) // 2**12 + 0.5) / 2**52
        noisy.append(largest[n] / temperature - float(np.log(-np.log(uniform))))
    order = sorted(range(len(noisy)), key=lambda n: (-noisy[n], -largest[n], n))[:budget]
    return [(n, noisy[n], int(np.argmax(matrix[:, n]))) for n in order]


@settings(max_examples=150, deadline=None)
@given(case=cases(), seed=st.integers(0, 50), temperature=st.sampled_from([0.01, 0.5, 1.0, 20.0]))
def test_importance_equals_the_loop(
    case: tuple[NDArray[np.floating], int, list[str], bool], seed: int, temperature: float
) -> None:
    matrix, budget, _, _ = case
    chosen = AlgorithmSettings(importance_temperature=temperature)
    picks = importance(validate_request(Streamed(matrix), budget, seed=seed, settings=chosen))
    expected = importance_by_loops(matrix, budget, seed, temperature)
    assert picks.columns.tolist() == [column for column, _, _ in expected]
    assert picks.scores.tolist() == pytest.approx([score for _, score, _ in expected], rel=1e-6)
    assert picks.queries.tolist() == [query for _, _, query in expected]
    assert (picks.columns.dtype, picks.scores.dtype, picks.queries.dtype) == (np.int64, np.float32, np.int64)


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_importance_draws_by_the_softmax_and_then_by_the_softmax_of_the_rest(temperature: float) -> None:
    scores = np.array([[0.0, 1.0, -1.0, 0.5], [0.25, -3.0, -1.0, 0.75]], dtype=np.float32)
    chosen = AlgorithmSettings(importance_temperature=temperature)
    draws = 2500
    pairs = Counter(
        tuple(importance(validate_request(scores, 2, seed=seed, settings=chosen)).columns.tolist())
        for seed in range(draws)
    )
    weights = np.exp(scores.max(axis=0).astype(np.float64) / temperature)
    chances = {
        (a, b): weights[a] / weights.sum() * weights[b] / (weights.sum() - weights[a])
        for a in range(4)
        for b in range(4)
        if a != b
    }
    assert math.isclose(sum(chances.values()), 1)
    chi_square = sum((pairs[pair] - draws * chance) ** 2 / (draws * chance) for pair, chance in chances.items())
    assert chi_square < 31.3  # the 99.9th percentile at 11 degrees of freedom


def test_a_candidate_keeps_its_noise_when_the_pool_grows() -> None:
    grown = spread(2, 500)
    before = importance(validate_request(grown[:, :300], 300, seed=7))
    after = importance(validate_request(grown, 500, seed=7))
    assert before.columns.tolist() == [n for n in after.columns.tolist() if n < 300]


def test_importance_never_changes() -> None:
    """Studies name their draws by seed; a new NumPy must not redraw them."""
    flat = np.zeros((1, 10), dtype=np.float32)
    assert importance(validate_request(flat, 5, seed=0)).columns.tolist() == [9, 5, 4, 7, 0]


def test_a_low_temperature_leaves_no_chance() -> None:
    matrix = spread(3, 60)
    cold = importance(validate_request(matrix, 60, settings=AlgorithmSettings(importance_temperature=1e-9)))
    assert cold.columns.tolist() == doubly_greedy(validate_request(matrix, 60)).columns.tolist()


@pytest.mark.parametrize("bits", [0, 2**64 - 1])
def test_no_noise_is_infinite(bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class Extreme:
        def __init__(self, seed: int) -> None: ...

        def random_raw(self, count: int) -> NDArray[np.uint64]:
            return np.full(count, bits, dtype=np.uint64)

    monkeypatch.setattr(np.random, "PCG64", Extreme)
    picks = importance(validate_request(np.zeros((1, 2), dtype=np.float32), 2))
    assert np.isfinite(picks.scores).all()
