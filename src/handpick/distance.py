"""How far a subset is from the query set, whatever chose it.

TIS (Nayak et al. ICML 2026, arXiv 2602.14696) reads the selection algorithms as approximate minimisers of a distance
between the subset and the query set; here that distance is measured, in five ways. Both sets count every example the
same.

The distance of two examples is the chord ‖x − y‖ = sqrt(2(1 − S)) of their unit rows, from 0 to 2; over several
checkpoints it is the chord of the rows put side by side, times the roots of the checkpoints' weights. Not 1 − S: that
is half the square of the chord, which is no metric, and an energy distance made of it sees no more than the means.

Shapes: Q queries, B examples of the subset, R rows and C columns of any of the matrices.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from handpick.algorithms.matrix import Matrix
from handpick.algorithms.protocol import Kernel, inner_products
from handpick.algorithms.sinkhorn import transport
from handpick.errors import SettingsError, SimilarityError

Values = NDArray[np.floating[Any]]
Array = NDArray[np.float64]

_BLOCK = 1 << 20  # values of a block of rows
_BLOCKS = 16  # that are asked for at a time: a few rows of a product cost nearly as much as many
_ROUNDING = 0.01  # how far from cosines similarities may be: bfloat16 features round by 0.004

_EXACT = 40_000_000  # largest Q·B that is solved exactly, in some 2 GB and a minute or two
_PIVOTS = 10**9  # of the network simplex
_EPSILON = 0.01  # beyond: weight of the entropy, where distances go to 2; half of it needs three times the passes
_TOLERANCE = 1e-3  # and by what factor its row sums may be off


@dataclass(frozen=True)
class Distances:
    """Five distances between a subset and a query set; all are 0 where both are the same and none is negative.

    ``query_to_subset``: mean over queries of the distance to the nearest of the subset; is every query covered?
    ``subset_to_query``: mean over the subset of the distance to the nearest query; is anything far from the task?
    ``wasserstein``: the 1-Wasserstein distance, least mean distance over which the one is carried to the other.
    ``wasserstein_by``: "exact", or "sinkhorn" where Q·B is over 40 million: the entropic plan's, somewhat too large.
    ``mmd``: maximum mean discrepancy with the similarity itself as kernel: the distance between the two means.
    ``energy``: 2 E‖x − y‖ − E‖x − x'‖ − E‖y − y'‖ (Székely and Rizzo 2013), an example's pair with itself included;
    unlike ``mmd`` it is 0 for equal distributions only.
    """

    query_to_subset: float
    subset_to_query: float
    wasserstein: float
    wasserstein_by: Literal["exact", "sinkhorn"]
    mmd: float
    energy: float


class SimilarityRows(Protocol):
    """Similarities that are read some rows at a time: an array, a memory map, or ``Products``."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, rows: slice, /) -> Any: ...


class Products:
    """Similarities of rows to each other, (R, R), computed as they are read: R² values need not fit in memory.

    Args:
        rows_RE: features.
        kernel: makes similarities of two sets of them; their inner products, where nothing is said.
    """

    def __init__(self, rows_RE: NDArray[np.float32], kernel: Kernel = inner_products) -> None:
        self._rows_RE = rows_RE
        self._kernel = kernel
        self.shape = (len(rows_RE), len(rows_RE))

    def __getitem__(self, rows: slice, /) -> NDArray[np.float32]:
        return self._kernel(self._rows_RE[rows], self._rows_RE)


def distances(similarity_QB: Values, similarity_QQ: SimilarityRows, similarity_BB: SimilarityRows) -> Distances:
    """Measure a subset against the query set, from similarities of unit rows.

    All three may be memory maps, and the last two ``Products``; they are read a block at a time. Only an exact
    Wasserstein distance takes memory, some 50 bytes a value of ``similarity_QB``.

    Float32 similarities are good to 1e-7, so the distance of two examples that are the same reads up to 5e-4.

    Args:
        similarity_QB: queries × subset.
        similarity_QQ: queries × queries.
        similarity_BB: subset × subset.

    Raises:
        SimilarityError: shapes do not fit, a value is not finite or no cosine, or a diagonal is not 1.
        SettingsError: POT is not installed.
    """
    _require_shapes(similarity_QB, similarity_QQ, similarity_BB)
    cross = _Sums(similarity_QB, "the similarity of queries and subset")
    queries = _Sums(similarity_QQ, "the similarity of the queries to each other", own=True)
    subset = _Sums(similarity_BB, "the similarity of the subset to itself", own=True)
    wasserstein, by = _wasserstein(similarity_QB)
    return Distances(
        query_to_subset=float(_chord(cross.largest_R).mean()),
        subset_to_query=float(_chord(cross.largest_C).mean()),
        wasserstein=wasserstein,
        wasserstein_by=by,
        mmd=float(np.sqrt(max(0.0, queries.similarity - 2 * cross.similarity + subset.similarity))),
        energy=max(0.0, 2 * cross.chord - queries.chord - subset.chord),
    )


def _require_shapes(similarity_QB: Values, similarity_QQ: SimilarityRows, similarity_BB: SimilarityRows) -> None:
    if similarity_QB.ndim != 2 or 0 in similarity_QB.shape:
        raise SimilarityError(
            f"the similarity of queries and subset has shape {similarity_QB.shape}; give queries × subset, "
            "at least one of each"
        )
    n_queries, n_subset = similarity_QB.shape
    for what, matrix, n in (("queries", similarity_QQ, n_queries), ("subset", similarity_BB, n_subset)):
        if matrix.shape != (n, n):
            raise SimilarityError(
                f"the similarity of the {what} to each other has shape {matrix.shape} and should have {(n, n)}, "
                f"as queries × subset has {similarity_QB.shape}; give the similarities of the same examples"
            )


def _chord(similarity: Values) -> Array:
    chord: Array = np.sqrt(2 * np.clip(1 - similarity.astype(np.float64), 0, None))
    return chord


class _Sums:
    """What is needed of one matrix but for the Wasserstein distance, from one pass over its rows.

    ``similarity`` and ``chord`` are means over all pairs. With ``own`` the rows are the columns' examples: the
    diagonal must be 1, and its chord is 0 whatever rounding says.
    """

    def __init__(self, similarity_RC: SimilarityRows, what: str, own: bool = False) -> None:
        n_rows, n_columns = similarity_RC.shape
        self.largest_R = np.empty(n_rows)
        self.largest_C = np.full(n_columns, -np.inf)
        similarity = chord = 0.0
        for start, block in _row_blocks(similarity_RC):
            _require_cosines(block, start, what)
            chords = _chord(block)
            if own:
                here = np.arange(len(block))
                _require_ones(block[here, start + here], start, what)
                chords[here, start + here] = 0
            self.largest_R[start : start + len(block)] = block.max(axis=1)
            np.maximum(self.largest_C, block.max(axis=0), out=self.largest_C)
            similarity += block.sum()
            chord += chords.sum()
        self.similarity = similarity / (n_rows * n_columns)
        self.chord = chord / (n_rows * n_columns)


def _row_blocks(similarity_RC: SimilarityRows) -> Iterator[tuple[int, Array]]:
    n_rows, n_columns = similarity_RC.shape
    step = max(1, _BLOCK // n_columns)
    for first in range(0, n_rows, _BLOCKS * step):
        several = similarity_RC[first : min(first + _BLOCKS * step, n_rows)]
        for start in range(0, len(several), step):
            yield first + start, several[start : start + step].astype(np.float64)


def _require_cosines(block: Array, start: int, what: str) -> None:
    wrong = ~(np.abs(block) <= 1 + _ROUNDING)  # so that a NaN is wrong too
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise SimilarityError(
            f"{what} at row {start + row}, column {column} is {block[row, column]} and no cosine; distances need "
            "similarities of unit rows, recompute them"
        )


def _require_ones(diagonal: Array, start: int, what: str) -> None:
    wrong = np.abs(diagonal - 1) > _ROUNDING
    if wrong.any():
        row = int(np.argmax(wrong))
        raise SimilarityError(
            f"{what} at row {start + row} is {diagonal[row]} for an example and itself, and should be 1; distances "
            "need similarities of unit rows, in the same order both ways"
        )


def _wasserstein(similarity_QB: Values) -> tuple[float, Literal["exact", "sinkhorn"]]:
    if similarity_QB.size <= _EXACT:
        exact = _solve_by_simplex(similarity_QB)
        if exact is not None:
            return exact, "exact"
    return _solve_by_sinkhorn(similarity_QB), "sinkhorn"


def _solve_by_simplex(similarity_QB: Values) -> float | None:
    """Solve it as a linear program; None where the solver gives up."""
    try:
        from ot.lp import emd2  # type: ignore[import-untyped]
    except ImportError as error:
        raise SettingsError("the Wasserstein distance needs POT: pip install 'handpick[transport]'") from error
    n_queries, n_subset = similarity_QB.shape
    mass_Q, mass_B = np.full(n_queries, 1 / n_queries), np.full(n_subset, 1 / n_subset)
    value, log = emd2(mass_Q, mass_B, _chord(similarity_QB), numItermax=_PIVOTS, log=True)
    return float(value) if log["warning"] is None else None


def _solve_by_sinkhorn(similarity_QB: Values) -> float:
    """Compute the mean distance of the entropic plan; never holds more than a block of it."""
    n_queries = len(similarity_QB)
    matrix = Matrix(similarity_QB)
    plan = transport(
        matrix,
        _chord,
        np.full(n_queries, 1 / n_queries),
        epsilon=_EPSILON,
        relaxation=np.inf,
        tolerance=_TOLERANCE,
    )
    total = 0.0
    for start, block in matrix.blocks():
        chord = _chord(block)
        column_B = plan.column_N[start : start + block.shape[1]]
        total += (np.exp(plan.row_Q[:, None] + column_B - chord / _EPSILON) * chord).sum()
    return total / similarity_QB.size
