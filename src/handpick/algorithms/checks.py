"""The checks at the door: what passes them, every algorithm can trust.

Shapes: Q queries, N candidates.
"""

import operator
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from handpick.algorithms.matrix import Matrix
from handpick.algorithms.protocol import Kernel, Request, SharedSimilarity, Similarity, Values, inner_products
from handpick.algorithms.settings import AlgorithmSettings
from handpick.errors import SettingsError, SimilarityError

if TYPE_CHECKING:
    import torch

# Values looked at together: the mask of finite values then takes 1 MiB, whatever N is.
_BLOCK = 1 << 20


def validate_request(
    similarity_QN: "NDArray[Any] | torch.Tensor | Similarity",
    budget: int,
    subtasks: Sequence[str] | None = None,
    seed: int = 0,
    balanced: bool = False,
    candidates: Callable[[NDArray[np.int64]], NDArray[np.float32]] | None = None,
    kernel: Kernel = inner_products,
    settings: AlgorithmSettings | None = None,
) -> Request:
    """Validate what was asked for, and return a request that algorithms can trust.

    An array is looked at now; one that is computed as it is read, as it is read.

    Raises:
        SimilarityError: not a Q × N array of floats with Q, N ≥ 1, or a value in it is not finite.
        SettingsError: ``budget`` is no whole number from 1 to N, ``subtasks`` has not one label a
            query, or names none where they are to be balanced, or ``seed`` is negative.
    """
    similarity = _Finite(similarity_QN) if hasattr(similarity_QN, "blocks") else _validate_matrix(similarity_QN)
    n_queries, n_candidates = similarity.shape
    checked_budget = _validate_budget(budget, n_candidates)
    if subtasks is not None and len(subtasks) != n_queries:
        raise SettingsError(
            f"there are {len(subtasks)} subtask labels for {n_queries} queries; give one label a query, or none at all"
        )
    if balanced and not any(subtasks or ()):
        raise SettingsError("there are no subtasks to balance: give one label a query")
    if seed < 0:
        raise SettingsError(f"the seed is {seed}; give 0 or more")
    labels = None if subtasks is None else tuple(subtasks)
    settings = settings or AlgorithmSettings()
    return Request(similarity, checked_budget, labels, seed, balanced, candidates, kernel, settings)


def _validate_matrix(similarity_QN: object) -> Matrix:
    array_QN = _to_numpy(similarity_QN)
    if array_QN.ndim != 2 or 0 in array_QN.shape:
        raise SimilarityError(
            f"the similarity has shape {array_QN.shape}; give queries × candidates, at least one of each"
        )
    if array_QN.dtype.kind != "f":
        raise SimilarityError(f"the similarity holds {array_QN.dtype}; give float16, float32 or float64")
    for query, row_N in enumerate(array_QN):
        for start in range(0, row_N.size, _BLOCK):
            _require_finite(row_N[start : start + _BLOCK], query, start)
    return Matrix(array_QN)


class _Finite:
    """A similarity, or a share of one, whose every block is looked at before anybody uses it."""

    def __init__(self, similarity: Any, first: int = 0) -> None:
        self._similarity: Similarity = similarity
        self._first = first  # its first column's number
        self.shape = self._similarity.shape

    def blocks(self) -> Iterator[tuple[int, Values]]:
        for start, block_QB in self._similarity.blocks():
            for query, row_B in enumerate(block_QB):
                _require_finite(row_B, query, self._first + start)
            yield start, block_QB

    def shares(self) -> list[tuple[int, "_Finite"]]:
        if not isinstance(self._similarity, SharedSimilarity):
            return [(0, self)]
        return [(first, _Finite(share, first)) for first, share in self._similarity.shares()]

    def columns(self, columns_C: NDArray[np.int64]) -> Values:
        return self._similarity.columns(columns_C)


def _to_numpy(similarity_QN: object) -> NDArray[Any]:
    """Return the same values as a NumPy array, without a copy where the type and the device allow it."""
    # A tensor can only have come from a torch that is already imported; nobody else waits for its import.
    torch: Any = sys.modules.get("torch")
    if torch is not None and isinstance(similarity_QN, torch.Tensor):
        tensor_QN: Any = similarity_QN
        if tensor_QN.dtype == torch.bfloat16:  # NumPy has no such type
            tensor_QN = tensor_QN.float()
        return np.asarray(tensor_QN.detach().cpu())
    return np.asarray(similarity_QN)


def _validate_budget(budget: object, n_candidates: int) -> int:
    if not isinstance(budget, SupportsIndex):
        raise SettingsError(f"the budget is {budget!r}; give a whole number of examples, from 1 to {n_candidates}")
    count = operator.index(budget)
    if not 1 <= count <= n_candidates:
        raise SettingsError(
            f"the budget is {count} and there are {n_candidates} candidates; give from 1 to {n_candidates}"
        )
    return count


def _require_finite(row_B: Values, query: int, start: int) -> None:
    finite_B = np.isfinite(row_B)
    if not finite_B.all():
        column = int(np.argmin(finite_B))
        raise SimilarityError(
            f"the similarity of query {query} (row) and candidate {start + column} (column) is {row_B[column]}; "
            "recompute it, or leave that query or candidate out"
        )
