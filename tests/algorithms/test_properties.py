"""What holds for every algorithm, whatever it ranks on."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from handpick.algorithms import ALGORITHMS, AlgorithmSettings, pick, rank
from handpick.algorithms.tie_rule import first_columns

# Algorithms that compare candidates with each other need features of them, and have tests of their own for that; here
# nothing is compared.
NO_FEATURES = AlgorithmSettings(kde_width=0)

every_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS)
deterministic_on_values = pytest.mark.parametrize(
    "algorithm", [name for name in ALGORITHMS if name not in ("random", "importance")]
)

matrices = hnp.arrays(
    np.float32, st.tuples(st.integers(1, 5), st.integers(1, 12)), elements=st.integers(-2, 2).map(float)
)


def untied(n_queries: int = 5, n_candidates: int = 40) -> NDArray[np.float32]:
    return np.random.default_rng(3).standard_normal((n_queries, n_candidates)).astype(np.float32)


@every_algorithm
@settings(max_examples=60, deadline=None)
@given(matrix=matrices)
def test_the_whole_pool_is_a_permutation_and_smaller_budgets_are_its_heads(
    algorithm: str, matrix: NDArray[np.float32]
) -> None:
    n_candidates = matrix.shape[1]
    whole = rank(matrix, n_candidates, algorithm, settings=NO_FEATURES)
    assert sorted(whole) == list(range(n_candidates))
    for budget in range(1, n_candidates):
        assert rank(matrix, budget, algorithm, settings=NO_FEATURES).tolist() == whole[:budget].tolist()


@deterministic_on_values
def test_permuting_candidates_only_relabels_them(algorithm: str) -> None:
    matrix = untied()
    new_to_old = np.random.default_rng(4).permutation(matrix.shape[1])
    permuted = rank(matrix[:, new_to_old], 17, algorithm, subtasks=list("aabbc"), settings=NO_FEATURES)
    expected = rank(matrix, 17, algorithm, subtasks=list("aabbc"), settings=NO_FEATURES)
    assert new_to_old[permuted].tolist() == expected.tolist()


def test_a_query_given_twice_changes_nothing_for_doubly_greedy_and_takes_two_turns_in_round_robin() -> None:
    matrix = untied(n_queries=2)
    doubled = matrix[[0, 0, 1]]
    assert rank(doubled, 9, "doubly-greedy").tolist() == rank(matrix, 9, "doubly-greedy").tolist()
    best_of_first = np.argsort(-matrix[0])
    picks = pick(doubled, 3, "round-robin")
    assert picks.columns[:2].tolist() == best_of_first[:2].tolist()
    assert picks.queries.tolist() == [0, 1, 2]


def test_a_subtask_given_twice_changes_nothing_for_mean_max() -> None:
    matrix = untied(n_queries=3)
    once = rank(matrix, 9, "mean-max", subtasks=["a", "a", "b"])
    twice = rank(matrix[[0, 1, 2, 2]], 9, "mean-max", subtasks=["a", "a", "b", "b"])
    assert twice.tolist() == once.tolist()


def test_mean_max_without_labels_is_one_subtask() -> None:
    matrix = untied()
    assert rank(matrix, 9, "mean-max").tolist() == rank(matrix, 9, "mean-max", subtasks=["all"] * 5).tolist()


def test_mean_max_does_not_depend_on_the_memory_layout() -> None:
    matrix = untied(n_queries=1000, n_candidates=2)  # of one column both layouts are the same
    other_way = np.asfortranarray(matrix)
    assert not other_way.flags.c_contiguous
    assert pick(other_way, 2, "mean-max").scores.tolist() == pick(matrix, 2, "mean-max").scores.tolist()


def test_random_depends_on_the_seed_alone() -> None:
    first = rank(untied(), 40, "random", seed=1)
    assert rank(-untied(), 40, "random", seed=1).tolist() == first.tolist()
    assert rank(untied(), 40, "random", seed=2).tolist() != first.tolist()
    picks = pick(untied(), 3, "random")
    assert picks.queries.tolist() == [-1, -1, -1]
    assert picks.scores.tolist() == [0, 0, 0]


def test_random_draws_every_candidate_equally_often() -> None:
    counts = np.bincount([rank(untied(1, 8), 1, "random", seed=seed)[0] for seed in range(1600)], minlength=8)
    assert counts.min() > 150  # 200 expected, standard deviation 13
    assert counts.max() < 250


def test_random_never_changes() -> None:
    """Studies name their draws by seed; a new NumPy must not redraw them."""
    assert rank(untied(1, 10), 5, "random", seed=0).tolist() == [1, 5, 8, 2, 9]


@every_algorithm
def test_the_kind_of_array_does_not_matter(algorithm: str, tmp_path: Path) -> None:
    halves = untied().astype(np.float16)
    np.save(tmp_path / "similarity.npy", halves)
    expected = pick(halves, 11, algorithm, settings=NO_FEATURES)
    for same in (
        halves.astype(np.float32),
        halves.astype(np.float64),
        np.asfortranarray(halves),
        np.load(tmp_path / "similarity.npy", mmap_mode="r"),
        torch.from_numpy(halves),
        torch.from_numpy(halves).float().requires_grad_(),
    ):
        picks = pick(same, 11, algorithm, settings=NO_FEATURES)
        assert picks.columns.tolist() == expected.columns.tolist()
        assert picks.scores.tolist() == expected.scores.tolist()
        assert picks.queries.tolist() == expected.queries.tolist()


def test_bfloat16_tensors_are_read() -> None:
    tensor = torch.from_numpy(untied()).bfloat16()
    assert rank(tensor, 11).tolist() == rank(tensor.float(), 11).tolist()


def test_float64_is_compared_at_its_own_precision() -> None:
    matrix = np.array([[1.0, 1.0 + 1e-12, 1.0 - 1e-12]])
    for algorithm in ("mean-max", "doubly-greedy", "round-robin"):
        assert rank(matrix, 3, algorithm).tolist() == [1, 0, 2]


def test_an_input_is_never_written_to() -> None:
    matrix = untied()
    matrix.flags.writeable = False
    for algorithm in ALGORITHMS:
        rank(matrix, 40, algorithm, settings=NO_FEATURES)


@settings(max_examples=200, deadline=None)
@given(data=st.data(), n=st.integers(1, 30))
def test_first_columns_equals_a_full_sort(data: st.DataObject, n: int) -> None:
    few = hnp.arrays(np.float32, n, elements=st.integers(0, 2).map(float))
    scores, largest = data.draw(few), data.draw(few)
    expected = sorted(range(n), key=lambda i: (-scores[i], -largest[i], i))
    for count in range(1, n + 1):
        assert first_columns(scores, largest, count).tolist() == expected[:count]
