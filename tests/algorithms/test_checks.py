"""The door: what is refused, and in which words."""

from typing import Any

import numpy as np
import pytest
import torch

from handpick.algorithms import ALGORITHMS, pick, rank
from handpick.algorithms import checks as door
from handpick.errors import SettingsError, SimilarityError

GOOD = np.ones((2, 3), dtype=np.float32)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_first_value_that_is_not_finite_is_named(
    algorithm: str, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "_BLOCK", 4)
    matrix = np.zeros((3, 10), dtype=np.float32)
    matrix[1, 7] = value
    matrix[2, 0] = np.nan
    with pytest.raises(SimilarityError, match=rf"query 1 \(row\) and candidate 7 \(column\) is {value}"):
        rank(matrix, 2, algorithm)


def test_a_tensor_is_checked_too() -> None:
    with pytest.raises(SimilarityError, match=r"query 0 .* candidate 1"):
        rank(torch.tensor([[0.0, float("nan")]]), 1)


@pytest.mark.parametrize("shape", [(3,), (0, 3), (3, 0), (1, 2, 3)])
def test_anything_but_queries_by_candidates_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(SimilarityError, match="queries × candidates"):
        rank(np.zeros(shape, dtype=np.float32), 1)


@pytest.mark.parametrize("dtype", [np.int64, np.bool_, np.complex64, object])
def test_anything_but_floats_is_refused(dtype: Any) -> None:
    with pytest.raises(SimilarityError, match="give float16, float32 or float64"):
        rank(np.ones((2, 3), dtype=dtype), 1)


@pytest.mark.parametrize("budget", [0, -1, 4])
def test_a_budget_out_of_range_is_named_beside_the_number_of_candidates(budget: int) -> None:
    with pytest.raises(SettingsError, match=f"budget is {budget} and there are 3 candidates"):
        rank(GOOD, budget)


@pytest.mark.parametrize("budget", ["2", 1.0, None])
def test_a_budget_that_is_no_whole_number_is_refused(budget: Any) -> None:
    with pytest.raises(SettingsError, match="give a whole number of examples, from 1 to 3"):
        rank(GOOD, budget)


def test_numpy_integers_are_budgets() -> None:
    assert len(rank(GOOD, np.int32(2))) == 2  # type: ignore[arg-type]


def test_subtasks_must_label_every_query() -> None:
    with pytest.raises(SettingsError, match="3 subtask labels for 2 queries"):
        rank(GOOD, 1, "mean-max", subtasks=["a", "b", "c"])


@pytest.mark.parametrize("subtasks", [None, ["", ""]])
def test_subtasks_that_are_to_be_balanced_must_have_names(subtasks: list[str] | None) -> None:
    with pytest.raises(SettingsError, match="there are no subtasks to balance: give one label a query"):
        rank(GOOD, 1, "round-robin", subtasks=subtasks, balanced=True)


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(SettingsError, match="seed is -1"):
        rank(GOOD, 1, "random", seed=-1)


def test_an_unknown_algorithm_is_answered_with_the_known_ones() -> None:
    with pytest.raises(SettingsError, match=r"'round_robin' \(did you mean 'round-robin'\?\)") as caught:
        pick(GOOD, 1, "round_robin")
    assert all(name in str(caught.value) for name in ALGORITHMS)
    with pytest.raises(SettingsError, match="no algorithm 'xyz'; choose one of"):
        pick(GOOD, 1, "xyz")
