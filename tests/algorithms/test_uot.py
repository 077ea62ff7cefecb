"""Unbalanced optimal transport against the paper's formula in loops, and against POT."""

import math
import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from handpick.algorithms import sinkhorn
from handpick.algorithms.checks import validate_request
from handpick.algorithms.matrix import Matrix
from handpick.algorithms.protocol import Picks, Request, Values
from handpick.algorithms.settings import AlgorithmSettings
from handpick.algorithms.sinkhorn import transport
from handpick.algorithms.uot import uot


def log_sum_exp(values: list[float]) -> float:
    largest = max(values)
    return largest + math.log(sum(math.exp(value - largest) for value in values))


def log_plan_by_loops(
    matrix: NDArray[np.floating], mass: list[float], epsilon: float, relaxation: float, steps: int = 15
) -> list[list[float]]:
    """Rows, then columns, scaled in turn: u = a / Kv, v = (b / Kᵀu)^(ρ/(ρ+ε)), K = exp(-c/ε) a b."""
    n_queries, n_candidates = matrix.shape
    queries, candidates = range(n_queries), range(n_candidates)
    b = 1 / n_candidates
    kernel = [[(float(matrix[q, n]) - 1) / 2 / epsilon + math.log(mass[q] * b) for n in candidates] for q in queries]
    u, v = [0.0] * n_queries, [0.0] * n_candidates
    for _ in range(steps):
        u = [math.log(mass[q]) - log_sum_exp([kernel[q][n] + v[n] for n in candidates]) for q in queries]
        sums = [log_sum_exp([kernel[q][n] + u[q] for q in queries]) for n in candidates]
        v = [relaxation / (relaxation + epsilon) * (math.log(b) - total) for total in sums]
    return [[u[q] + kernel[q][n] + v[n] for n in candidates] for q in queries]


def uot_by_loops(matrix: NDArray[np.floating]) -> list[tuple[int, float, list[int]]]:
    """Columns in order, with their masses and who may count as the query that sends the most; ties as everywhere.

    That is one query, the first of equals, but where two nearly equal ones lie on either side of a rounded place.
    """
    n_queries, n_candidates = matrix.shape
    plan = log_plan_by_loops(matrix, [1 / n_queries] * n_queries, 0.01, 1e-4)
    # masses that differ by no more than the order of summation are the same
    received = [round(log_sum_exp([row[n] for row in plan]), 8) for n in range(n_candidates)]
    largest = [max(float(row[n]) for row in matrix) for n in range(n_candidates)]
    order = sorted(range(n_candidates), key=lambda n: (-received[n], -largest[n], n))
    senders = []
    for n in order:
        most = max(row[n] for row in plan)
        near = [q for q in range(n_queries) if most - plan[q][n] < 2e-8]
        senders.append(near[:1] if all(most - plan[q][n] < 1e-11 for q in near) else near)
    return [(n, math.exp(received[n]), q) for n, q in zip(order, senders, strict=True)]


def choose(matrix: Values, budget: int | None = None, **options: object) -> Picks:
    return uot(Request(Matrix(matrix), budget or matrix.shape[1], settings=AlgorithmSettings(**options)))


def masses(matrix: Values, **options: object) -> NDArray[np.float64]:
    """By column."""
    picks = choose(matrix, **options)
    mass = np.empty(matrix.shape[1])
    mass[picks.columns] = picks.scores
    return mass


def cosines(n_queries: int, n_candidates: int, dim: int = 8, seed: int = 0) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((n_queries + n_candidates, dim))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows[:n_queries] @ rows[n_queries:].T


shapes = st.tuples(st.integers(1, 5), st.integers(1, 9))
tied_matrices = hnp.arrays(
    st.sampled_from([np.float16, np.float32, np.float64]), shapes, elements=st.integers(-2, 2).map(float)
)
# Steps of 1/16: two masses are either the same or clearly not.
fine_matrices = hnp.arrays(np.float32, shapes, elements=st.integers(-16, 16).map(lambda i: i / 16))


@settings(max_examples=50, deadline=None)
@given(matrix=st.one_of(tied_matrices, fine_matrices))
def test_it_is_what_the_loops_compute(matrix: Values) -> None:
    picks = choose(matrix)
    columns, scores, senders = (list(each) for each in zip(*uot_by_loops(matrix), strict=True))
    assert picks.columns.tolist() == columns
    assert picks.scores == pytest.approx(scores, rel=1e-6, abs=1e-37)
    assert all(query in may for query, may in zip(picks.queries.tolist(), senders, strict=True))
    assert (picks.columns.dtype, picks.scores.dtype, picks.queries.dtype) == (np.int64, np.float32, np.int64)


def test_one_query_gives_its_mass_by_the_closed_form() -> None:
    """With one query a column's sum K·u is in proportion to exp(S/2ε), and its mass to that to the power ε/(ε+ρ)."""
    matrix = np.array([[0.3, 0.31, 0.29, 0.25]])
    weight = np.exp(matrix[0] / 0.02 * 0.01 / (0.01 + 1e-4))
    assert masses(matrix) == pytest.approx(weight / weight.sum(), rel=1e-6)


@pytest.mark.parametrize(("epsilon", "relaxation"), [(0.01, 1e-4), (0.05, 1e-4), (0.05, 0.02), (1.0, 1.0), (0.1, 0.5)])
def test_it_is_what_pot_computes(epsilon: float, relaxation: float) -> None:
    unbalanced = pytest.importorskip("ot").unbalanced
    matrix = cosines(6, 300)
    plan = unbalanced.sinkhorn_unbalanced(
        np.full(6, 1 / 6), np.full(300, 1 / 300), (1 - matrix) / 2, epsilon, (np.inf, relaxation), reg_type="kl",
        stopThr=1e-13, numItermax=100_000,
    )  # fmt: skip
    ours = masses(matrix, uot_epsilon=epsilon, uot_relaxation=relaxation)
    assert ours == pytest.approx(plan.sum(axis=0), rel=1e-6, abs=1e-37)
    picks = choose(matrix, 40, uot_epsilon=epsilon, uot_relaxation=relaxation)
    assert picks.columns.tolist() == np.argsort(-plan.sum(axis=0))[:40].tolist()
    assert picks.queries.tolist() == np.argmax(plan, axis=0)[picks.columns].tolist()


@pytest.mark.parametrize("relaxation", [1e-4, 0.02, np.inf])
def test_the_plan_has_the_marginals_it_should(relaxation: float) -> None:
    matrix, mass_Q = cosines(4, 50), np.array([0.4, 0.3, 0.2, 0.1])
    cost = (1 - matrix) / 2
    plan = transport(
        Matrix(matrix), lambda s: (1 - s) / 2, mass_Q, epsilon=0.05, relaxation=relaxation, tolerance=1e-9
    )  # fmt: skip
    plan_QN = mass_Q[:, None] / 50 * np.exp(plan.row_Q[:, None] + plan.column_N - cost / 0.05)
    assert plan_QN.sum(axis=1) == pytest.approx(mass_Q, rel=1e-8)
    assert plan_QN.sum(axis=0) == pytest.approx(np.exp(plan.log_mass_N), rel=1e-12)
    if relaxation == np.inf:
        assert plan_QN.sum(axis=0) == pytest.approx(np.full(50, 1 / 50), rel=1e-12)
    else:  # what a column is paid for its mass is the derivative of ρ KL at it
        assert np.log(plan_QN.sum(axis=0) * 50) == pytest.approx(-0.05 / relaxation * plan.column_N, abs=1e-9)


@pytest.mark.parametrize("relaxation", [1e-4, 0.02, 0.5])
def test_a_transport_ends_as_near_its_limit_as_it_promises(relaxation: float) -> None:
    matrix, mass_Q = Matrix(cosines(6, 80)), np.full(6, 1 / 6)

    def log_masses(tolerance: float) -> NDArray[np.float64]:
        options = {"epsilon": 0.05, "relaxation": relaxation, "tolerance": tolerance}
        return transport(matrix, lambda s: (1 - s) / 2, mass_Q, **options).log_mass_N

    limit = log_masses(1e-13)
    for tolerance in (1e-2, 1e-4, 1e-6):
        error = np.abs(log_masses(tolerance) - limit).max()
        assert tolerance / 1e6 < error <= tolerance  # nor does it go on for nothing


def test_costs_far_beyond_what_an_exponential_holds() -> None:
    """At this ε every exp(-c/ε) but those of the best columns is 0 in float64, and so are nearly all masses."""
    matrix, mass_Q = cosines(5, 60), np.full(5, 1 / 5)
    ours = transport(
        Matrix(matrix), lambda s: (1 - s) / 2, mass_Q, epsilon=1e-4, relaxation=1e-6, tolerance=1e-9
    ).log_mass_N  # fmt: skip
    plan = log_plan_by_loops(matrix, mass_Q.tolist(), 1e-4, 1e-6)
    assert ours == pytest.approx([log_sum_exp([row[n] for row in plan]) for n in range(60)], abs=1e-6)
    assert np.median(ours) < -1000
    assert sorted(choose(matrix, uot_epsilon=1e-4, uot_relaxation=1e-6).columns) == list(range(60))


def test_masses_that_float32_cannot_hold_are_still_ordered() -> None:
    matrix = np.array([[1.0, -1.0, -0.99, -0.98, -0.97]]) * 2
    picks = choose(matrix)
    assert picks.columns.tolist() == [0, 4, 3, 2, 1]
    assert picks.scores.tolist() == [1, 0, 0, 0, 0]


@settings(max_examples=40, deadline=None)
@given(matrix=fine_matrices)
def test_all_mass_is_sent_and_smaller_budgets_are_heads(matrix: Values) -> None:
    whole = choose(matrix)
    assert sorted(whole.columns) == list(range(matrix.shape[1]))
    assert whole.scores.sum() == pytest.approx(1, rel=1e-5)
    assert (np.diff(whole.scores) <= 0).all()
    for budget in range(1, matrix.shape[1]):
        head = choose(matrix, budget)
        assert head.columns.tolist() == whole.columns[:budget].tolist()
        assert head.scores.tolist() == whole.scores[:budget].tolist()
        assert head.queries.tolist() == whole.queries[:budget].tolist()


def test_permuting_candidates_or_queries_only_relabels() -> None:
    matrix, rng = cosines(5, 200), np.random.default_rng(1)
    new_n, new_q = rng.permutation(200), rng.permutation(5)
    picks, permuted = choose(matrix, 60), choose(matrix[np.ix_(new_q, new_n)], 60)
    assert new_n[permuted.columns].tolist() == picks.columns.tolist()
    assert new_q[permuted.queries].tolist() == picks.queries.tolist()


def test_a_query_set_given_twice_changes_nothing() -> None:
    matrix = cosines(3, 50)
    assert masses(np.vstack([matrix, matrix])) == pytest.approx(masses(matrix), rel=1e-6, abs=1e-37)


def test_a_constant_added_to_a_query_changes_nothing() -> None:
    """All of its mass has to go, so only how a query's similarities differ from each other counts."""
    matrix = cosines(3, 50)
    moved = matrix - [[0.0], [0.5], [3.0]]
    assert choose(moved).columns.tolist() == choose(matrix).columns.tolist()
    assert masses(moved) == pytest.approx(masses(matrix), rel=1e-6, abs=1e-37)


def test_equal_candidates_get_equal_mass_and_go_by_index() -> None:
    matrix = np.tile(cosines(7, 5), 3)
    picks = choose(matrix)
    assert (picks.columns % 5).tolist() == np.repeat(picks.columns[::3] % 5, 3).tolist()
    assert (np.diff(picks.columns.reshape(5, 3), axis=1) == 5).all()


def test_balanced_counts_every_subtask_the_same() -> None:
    matrix = cosines(5, 40)
    labels = ["a", "a", "a", "a", "b"]
    balanced = uot(validate_request(matrix, 40, labels, balanced=True))
    four_times = matrix[[0, 1, 2, 3, 4, 4, 4, 4]]
    assert balanced.columns.tolist() == choose(four_times).columns.tolist()
    assert balanced.columns.tolist() != choose(matrix).columns.tolist()
    assert set(balanced.queries) == {0, 1, 2, 3, 4}


class Streamed:
    """The same matrix, a few columns at a time, each block in the memory of the one before; counts its passes."""

    def __init__(self, matrix: Values, step: int) -> None:
        self.matrix, self.step, self.passes = matrix, step, 0
        self.shape = matrix.shape

    def blocks(self) -> Iterator[tuple[int, Values]]:
        self.passes += 1
        buffer = np.empty((self.shape[0], self.step), dtype=self.matrix.dtype)
        for start in range(0, self.shape[1], self.step):
            block = self.matrix[:, start : start + self.step]
            buffer[:, : block.shape[1]] = block
            yield start, buffer[:, : block.shape[1]]

    def columns(self, columns: NDArray[np.int64]) -> Values:
        return self.matrix[:, columns]


@pytest.mark.parametrize("step", [1, 7, 500])
def test_how_it_is_streamed_changes_nothing_and_a_handful_of_passes_is_enough(step: int) -> None:
    matrix = cosines(6, 500).astype(np.float32)
    streamed = Streamed(matrix, step)
    picks, expected = uot(Request(streamed, 500)), choose(matrix)
    assert picks.columns.tolist() == expected.columns.tolist()
    assert picks.queries.tolist() == expected.queries.tolist()
    assert picks.scores == pytest.approx(expected.scores, rel=1e-6)
    assert streamed.passes <= 10


def test_kinds_of_array_with_the_same_values_give_the_same_bits() -> None:
    halves = cosines(5, 300).astype(np.float16)
    expected = choose(halves)
    for same in (halves.astype(np.float32), halves.astype(np.float64), np.asfortranarray(halves)):
        assert choose(same).columns.tolist() == expected.columns.tolist()
        assert choose(same).scores.tolist() == expected.scores.tolist()


def test_a_transport_that_does_not_settle_says_so_once_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(sinkhorn, "log", said.append)
    monkeypatch.setattr(sinkhorn, "_MOST_PASSES", 3)
    picks = choose(cosines(5, 30), uot_relaxation=10.0)
    assert sorted(picks.columns) == list(range(30))
    assert len(said) == 1
    assert said[0].startswith("optimal transport: after 3 passes a row scaling still moves by")


def test_it_holds_no_copy_of_the_similarity() -> None:
    matrix = cosines(64, 40_000).astype(np.float32)
    tracemalloc.start()
    choose(matrix, 500)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < matrix.nbytes * 1.2  # blocks of 2 MB in float64, at most four of them; a copy of all would be 20 MB
