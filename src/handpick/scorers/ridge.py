"""Kernel ridge regression: similarities that are known of some examples, foretold of all from cheap features.

A = (RBF(E_L, E_L) + λ·I)⁻¹ P, and p(x) = RBF(x, E_L) A, with RBF(x, y) = exp(−‖x − y‖² / 2σ²) and σ the median distance
of the landmarks. λ is in the kernel's mean diagonal, which is 1. Source: Influence Distillation, Nikdan et al. NeurIPS
2025, arXiv 2505.19051, and its released code (``infdist/utils/rbf.py``, ``distil.py``). Held-out predictions and
variances are those of the Gaussian process with this kernel and noise λ: Rasmussen and Williams 2006, sections 2.2 and
5.4.2. All of it is float64: K may have a condition of L / λ.

Legend: L landmarks, D features, Q queries, B rows of a block.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky  # type: ignore[import-untyped]
from scipy.linalg.lapack import dtrtri  # type: ignore[import-untyped]

from handpick.errors import DataError
from handpick.work_memory import take_work_memory

RIDGE = 0.01
_MEDIAN_OF = 4_096  # landmarks whose distances are looked at, at most
_COLUMNS = 1_024  # of the kernel that are made at a time

Doubles = NDArray[np.float64]
Rows = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class Ridge:
    """What foretells: the landmarks' features (L, D), σ, and the coefficients (L, Q)."""

    features_LD: Doubles
    sigma: float
    coefficients_LQ: Doubles

    def kernel(self, rows_BD: Rows) -> Doubles:
        """Return RBF(x, E_L) of some rows, float64 (B, L)."""
        return rbf(rows_BD, self.features_LD, self.sigma)

    def predict(self, rows_BD: Rows) -> Doubles:
        """Return the similarities that are foretold of some rows, float64 (B, Q)."""
        foretold_BQ: Doubles = self.kernel(rows_BD) @ self.coefficients_LQ
        return foretold_BQ


@dataclass(frozen=True, eq=False)
class FittedRidge:
    """A ridge, and how far it is to be believed.

    ``left_out_LQ``: what is foretold of each landmark by all others. ``scale_Q``: what the process's standard deviation
    is multiplied by for each query, so that the held-out residuals have the size that it says. ``root_LL`` is W with
    WᵀW = K⁻¹, lower triangular.
    """

    ridge: Ridge
    left_out_LQ: Doubles
    scale_Q: Doubles
    root_LL: Doubles
    noise: float

    def deviation(self, rows_BD: Rows) -> Doubles:
        """Return the process's standard deviation of some rows' similarities, (B,), for ``scale_Q`` = 1.

        The noise is part of it: an exact similarity is no smooth function of cheap features.
        """
        explained_B = np.square(self.ridge.kernel(rows_BD) @ self.root_LL.T).sum(axis=1)
        deviation_B: Doubles = np.sqrt(np.maximum(1 + self.noise - explained_B, 0))
        return deviation_B


def rbf(rows_BD: Rows, features_LD: Doubles, sigma: float) -> Doubles:
    """Return exp(−‖x − y‖² / 2σ²), float64 (B, L)."""
    kernel_BL = _squared_distances(rows_BD, features_LD)
    kernel_BL /= -2 * sigma**2
    return np.exp(kernel_BL, out=kernel_BL)


def median_distance(features_LD: Doubles) -> float:
    """Return the median distance of two landmarks, over all pairs; of many landmarks, over 4,096 evenly spaced.

    Raises:
        DataError: it is 0, or there are no two.
    """
    n = len(features_LD)
    if n < 2:
        raise DataError("fewer than two landmarks have a gradient: give more --landmarks")
    some_MD = features_LD[np.linspace(0, n - 1, min(n, _MEDIAN_OF)).round().astype(np.int64)]
    squares_MM = _squared_distances(some_MD, some_MD)
    median = float(np.median(np.sqrt(squares_MM[np.triu_indices(len(some_MD), 1)])))
    if median < 1e-6:  # what is left of equal rows is rounding
        raise DataError(
            "most landmarks have the very same features, which tell no candidate from another: choose other "
            "--landmark-features"
        )
    return median


def fit_ridge(features_LD: Rows, targets_LQ: Rows, ridge: float = RIDGE) -> FittedRidge:
    """Fit the ridge of all queries at once, and hold every landmark out once, in closed form.

    With α = K⁻¹ p, the residual of a landmark that is foretold by all others is α_i / (K⁻¹)_ii, and its variance
    1 / (K⁻¹)_ii. Takes about 8·L² bytes: the kernel, its factor and the factor's inverse share one matrix.

    Args:
        features_LD: of the landmarks, at least two.
        targets_LQ: their similarities to the queries.
        ridge: λ.

    Raises:
        DataError: as ``median_distance``.
        OSError: there is no memory to work in.
    """
    take_work_memory()
    wide_LD = np.asarray(features_LD, dtype=np.float64)
    wide_LQ = np.asarray(targets_LQ, dtype=np.float64)
    sigma, n = median_distance(wide_LD), len(wide_LD)
    kernel_LL = np.empty((n, n), order="F")  # as LAPACK takes it, so that nothing is copied
    for start in range(0, n, _COLUMNS):
        kernel_LL[:, start : start + _COLUMNS] = rbf(wide_LD[start : start + _COLUMNS], wide_LD, sigma).T
    kernel_LL[np.diag_indices(n)] = 1 + ridge
    factor_LL = cholesky(kernel_LL, lower=True, overwrite_a=True, check_finite=False)
    coefficients_LQ = cho_solve((factor_LL, True), wide_LQ, check_finite=False)
    root_LL, _ = dtrtri(factor_LL, lower=1, overwrite_c=1)
    precision_L1 = np.einsum("ij,ij->j", root_LL, root_LL)[:, None]
    return FittedRidge(
        Ridge(wide_LD, sigma, coefficients_LQ),
        wide_LQ - coefficients_LQ / precision_L1,
        np.sqrt(np.mean(coefficients_LQ**2 / precision_L1, axis=0)),
        root_LL,
        ridge,
    )


def ridge_bytes(n_landmarks: int) -> int:
    """Return what ``fit_ridge`` holds of the kernel."""
    return 8 * n_landmarks**2


def _squared_distances(rows_BD: Rows, features_LD: Doubles) -> Doubles:
    wide_BD = np.asarray(rows_BD, dtype=np.float64)
    squares_BL: Doubles = wide_BD @ features_LD.T
    squares_BL *= -2
    squares_BL += np.einsum("bd,bd->b", wide_BD, wide_BD)[:, None]
    squares_BL += np.einsum("ld,ld->l", features_LD, features_LD)
    return np.maximum(squares_BL, 0, out=squares_BL)
