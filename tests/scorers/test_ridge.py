"""The ridge against numpy's dense solution, and its held-out predictions against fitting without each landmark."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import spearmanr

from handpick.errors import DataError
from handpick.scorers import ridge as module
from handpick.scorers.held_out import measure_held_out, rank_correlations
from handpick.scorers.ridge import FittedRidge, fit_ridge, median_distance, ridge_bytes

Floats = NDArray[np.float64]


def dense_kernel(a_ND: Floats, b_MD: Floats, sigma: float) -> Floats:
    """exp(−‖x − y‖² / 2σ²) as it is written."""
    return np.exp(-(np.linalg.norm(a_ND[:, None] - b_MD[None], axis=2) ** 2) / (2 * sigma**2))


def dense_ridge(landmarks_LD: Floats, targets_LQ: Floats, rows_ND: Floats, ridge: float = 0.01) -> Floats:
    """RBF(E, E_L) K⁻¹ p_L with K += ridge · mean(diag) · I, as it is written; (N, Q)."""
    distances_LL = np.linalg.norm(landmarks_LD[:, None] - landmarks_LD[None], axis=2)
    sigma = float(np.median(distances_LL[np.triu_indices(len(landmarks_LD), 1)]))
    kernel_LL = dense_kernel(landmarks_LD, landmarks_LD, sigma)
    kernel_LL += ridge * np.mean(np.diag(kernel_LL)) * np.eye(len(landmarks_LD))
    return dense_kernel(rows_ND, landmarks_LD, sigma) @ np.linalg.inv(kernel_LL) @ targets_LQ


def unit_rows(n: int, dim: int, seed: int) -> NDArray[np.float32]:
    rows = np.random.default_rng(seed).normal(size=(n, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def fit(n: int, dim: int, queries: int, seed: int, ridge: float = 0.01) -> tuple[FittedRidge, Floats, Floats]:
    features_LD = unit_rows(n, dim, seed)
    targets_LQ = np.random.default_rng([seed, 1]).normal(size=(n, queries)).astype(np.float32)
    return fit_ridge(features_LD, targets_LQ, ridge), features_LD.astype(np.float64), targets_LQ.astype(np.float64)


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(2, 60), dim=st.integers(2, 20), queries=st.integers(1, 5), rows=st.integers(1, 30),
    columns=st.sampled_from([1, 7, 1024]), seed=st.integers(0, 999),
)  # fmt: skip
def test_equals_the_dense_solution(n: int, dim: int, queries: int, rows: int, columns: int, seed: int) -> None:
    """Whatever pieces the kernel is made in."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "_COLUMNS", columns)
        fitted, features_LD, targets_LQ = fit(n, dim, queries, seed)
    rows_ND = unit_rows(rows, dim, seed + 1)
    want_NQ = dense_ridge(features_LD, targets_LQ, rows_ND.astype(np.float64))
    np.testing.assert_allclose(fitted.ridge.predict(rows_ND), want_NQ, rtol=1e-7, atol=1e-8)


@settings(max_examples=20, deadline=None)
@given(
    n=st.integers(3, 25), queries=st.integers(1, 4), ridge=st.sampled_from([1e-3, 0.01, 1.0]), seed=st.integers(0, 99)
)  # fmt: skip
def test_held_out_is_what_the_others_alone_foretell(n: int, queries: int, ridge: float, seed: int) -> None:
    """Refitted without each landmark, at the width of all."""
    fitted, features_LD, targets_LQ = fit(n, 6, queries, seed, ridge)
    sigma = fitted.ridge.sigma
    for i in range(n):
        others = np.delete(np.arange(n), i)
        kernel = dense_kernel(features_LD[others], features_LD[others], sigma) + ridge * np.eye(n - 1)
        to_others = dense_kernel(features_LD[i : i + 1], features_LD[others], sigma)
        want_Q = (to_others @ np.linalg.solve(kernel, targets_LQ[others]))[0]
        np.testing.assert_allclose(fitted.left_out_LQ[i], want_Q, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("seed", range(5))
def test_the_deviation_is_the_processes(seed: int) -> None:
    """√(1 + λ − k K⁻¹ kᵀ), and every query's scale makes its held-out residuals of variance 1."""
    fitted, features_LD, targets_LQ = fit(30, 5, 3, seed)
    rows_ND = unit_rows(11, 5, seed + 100)
    kernel_LL = dense_kernel(features_LD, features_LD, fitted.ridge.sigma) + 0.01 * np.eye(30)
    precision_LL = np.linalg.inv(kernel_LL)
    to_rows_NL = dense_kernel(rows_ND.astype(np.float64), features_LD, fitted.ridge.sigma)
    want_N = np.sqrt(1.01 - np.einsum("ni,ij,nj->n", to_rows_NL, precision_LL, to_rows_NL))
    np.testing.assert_allclose(fitted.deviation(rows_ND), want_N, rtol=1e-6)
    residual_LQ = (targets_LQ - fitted.left_out_LQ) * np.sqrt(np.diag(precision_LL))[:, None]
    np.testing.assert_allclose(np.mean((residual_LQ / fitted.scale_Q) ** 2, axis=0), 1, rtol=1e-9)


def test_with_hardly_any_ridge_the_landmarks_are_what_they_are() -> None:
    """So a pool whose every example is a landmark has its exact similarity."""
    fitted, features_LD, targets_LQ = fit(50, 12, 4, 0, ridge=1e-10)
    np.testing.assert_allclose(fitted.ridge.predict(features_LD), targets_LQ, atol=1e-6)


def test_far_from_all_landmarks_nothing_is_foretold_and_all_is_uncertain() -> None:
    fitted, _, _ = fit(20, 4, 2, 0)
    far_1D = np.full((1, 4), 1e3)
    assert not fitted.ridge.predict(far_1D).any()
    np.testing.assert_allclose(fitted.deviation(far_1D), np.sqrt(1.01))


def test_the_median_of_many_is_of_some_evenly_spaced(monkeypatch: pytest.MonkeyPatch) -> None:
    features_LD = unit_rows(40, 3, 0).astype(np.float64)
    monkeypatch.setattr(module, "_MEDIAN_OF", 14)
    some = features_LD[::3]
    distances = [np.linalg.norm(some[i] - some[j]) for i in range(14) for j in range(i)]
    assert median_distance(features_LD) == pytest.approx(np.median(distances))


def test_landmarks_that_are_all_alike_are_refused() -> None:
    features_LD = np.concatenate([np.tile(unit_rows(1, 5, 0), (9, 1)), unit_rows(2, 5, 1)])
    with pytest.raises(DataError, match=r"most landmarks have the very same features.*other --landmark-features"):
        fit_ridge(features_LD, np.ones((11, 1), np.float32))


def test_one_landmark_is_refused() -> None:
    with pytest.raises(DataError, match="fewer than two landmarks have a gradient"):
        fit_ridge(unit_rows(1, 5, 0), np.ones((1, 1), np.float32))


def test_the_largest_kernel_takes_two_gigabytes() -> None:
    assert ridge_bytes(16_384) == 2_147_483_648


@settings(max_examples=40, deadline=None)
@given(n=st.integers(3, 30), seed=st.integers(0, 999), ties=st.booleans())
def test_rank_correlation_is_spearmans(n: int, seed: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    exact_LQ, foretold_LQ = rng.normal(size=(2, n, 3))
    if ties:
        exact_LQ, foretold_LQ = np.round(exact_LQ), np.round(foretold_LQ)
    found_Q = rank_correlations(exact_LQ, foretold_LQ)
    for query in range(3):
        if np.ptp(exact_LQ[:, query]) == 0:
            assert np.isnan(found_Q[query])
        elif np.ptp(foretold_LQ[:, query]) == 0:
            assert found_Q[query] == 0
        else:
            assert found_Q[query] == pytest.approx(spearmanr(exact_LQ[:, query], foretold_LQ[:, query]).statistic)


def test_what_is_said_of_what_was_held_out() -> None:
    exact_LQ = np.array([[0.0, 0, 1], [1, 1, 1], [2, 2, 1], [3, 3, 1]])
    left_out_LQ = np.array([[0.0, 3, 0], [1, 2, 0], [2, 1, 0], [4, 0, 0]])
    found = measure_held_out(["good", "bad", "flat"], exact_LQ, left_out_LQ)
    np.testing.assert_allclose(found.r2_Q, [1 - 1 / 5, 1 - 20 / 5, np.nan])
    np.testing.assert_allclose(found.rank_correlation_Q, [1, -1, np.nan])
    assert found.is_poor
    assert found.sentence() == (
        "held-out landmarks are foretold with R² -1.10 and rank correlation 0.00 (medians over 2 of 3 queries), worst "
        "for the query 'bad': -3.00 and -1.00"
    )
    assert found.to_json()["queries"]["flat"] == {"r2": None, "rank_correlation": None}  # type: ignore[index]
    assert not measure_held_out(["good"], exact_LQ[:, :1], left_out_LQ[:, :1]).is_poor
    nothing = measure_held_out(["flat"], exact_LQ[:, 2:], left_out_LQ[:, 2:])
    assert nothing.is_poor
    assert "nothing can be said" in nothing.sentence()
    assert nothing.to_json()["r2"] is None
