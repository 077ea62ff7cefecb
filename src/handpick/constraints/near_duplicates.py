"""Near-duplicates: columns whose features are more alike than they may be.

Shapes: C columns of a block, K accepted of an earlier block, E features.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from handpick.algorithms.protocol import Kernel, inner_products
from handpick.errors import SettingsError

Candidates = Callable[[NDArray[np.int64]], NDArray[np.float32]]  # features of some columns, (C, E)


class NearDuplicate(NamedTuple):
    """A column that was passed over, the accepted one nearest to it, and their cosine."""

    column: int
    kept: int
    cosine: float


def check_cosine(candidates: Candidates | None, max_cosine: float | None) -> tuple[Candidates | None, float]:
    """Return what to compare by and how near is too near; no features where nothing is compared.

    Raises:
        SettingsError: the cosine is none, or there are no features to tell it by.
    """
    if max_cosine is None:
        return None, 1.0
    if not -1 <= max_cosine <= 1:
        raise SettingsError(f"the largest cosine is {max_cosine}; give a number from -1 to 1, such as 0.95")
    if candidates is None:
        raise SettingsError("near-duplicates are told by features, and this method has none: leave max_cosine out")
    return candidates, max_cosine


class AcceptedFeatures:
    """The unit features of what has been accepted, a block's at a time; with no features nothing is near anything.

    Args:
        candidates: features of some columns.
        max_cosine: how near is too near.
        kernel: makes cosines of unit features; it must grow with the length of either side, as inner products do.
    """

    def __init__(self, candidates: Candidates | None, max_cosine: float, kernel: Kernel = inner_products) -> None:
        self._candidates = candidates
        self._kernel = kernel
        self._max_cosine = max_cosine
        self._kept: list[tuple[NDArray[np.int64], NDArray[np.float32]]] = []
        self._open: list[ComparedBlock] = []  # one a target

    def compare_block(self, columns_C: NDArray[np.int64]) -> "ComparedBlock":
        """Return some columns, compared with all that was accepted, and with what will be until they are kept."""
        if self._candidates is None or not columns_C.size:
            return ComparedBlock(columns_C, np.zeros((columns_C.size, 0), np.float32), self._max_cosine)
        block = ComparedBlock(columns_C, _unit_rows(self._candidates(columns_C)), self._max_cosine, self._kernel)
        for columns_K, features_KE in [*self._kept, *(other.accepted for other in self._open)]:
            if columns_K.size:
                block.compare(columns_K, features_KE)
        self._open.append(block)
        return block

    def accept(self, block: "ComparedBlock", place: int) -> None:
        """Count a column of a block as accepted, which may be the nearest to others of any block not kept yet."""
        block.accept(place)
        for other in self._open:
            if other is not block:
                other.compare(block.columns_C[[place]], block.features_CE[[place]])

    def keep(self, block: "ComparedBlock") -> None:
        """Hold the features of what was accepted of a block, and of no other of it."""
        if block in self._open:
            self._open.remove(block)
            if block.accepted_C.any():
                self._kept.append(block.accepted)


class ComparedBlock:
    """A block of columns and, of each, the accepted one nearest to it so far."""

    def __init__(
        self,
        columns_C: NDArray[np.int64],
        features_CE: NDArray[np.float32],
        max_cosine: float,
        kernel: Kernel = inner_products,
    ) -> None:
        self.columns_C = columns_C
        self.features_CE = features_CE
        self.accepted_C = np.zeros(columns_C.size, dtype=np.bool_)
        self._max_cosine = max_cosine
        self._kernel = kernel
        self._within_CC = np.clip(kernel(features_CE, features_CE), -1, 1)
        self._cosine_C = np.full(columns_C.size, -np.inf, dtype=np.float32)
        self._nearest_C = np.full(columns_C.size, -1, dtype=np.int64)

    @property
    def accepted(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """What was accepted of the block, with its features."""
        return self.columns_C[self.accepted_C], self.features_CE[self.accepted_C]

    def compare(self, columns_K: NDArray[np.int64], features_KE: NDArray[np.float32]) -> None:
        """Look for nearer ones among some accepted columns."""
        cosine_CK = np.clip(self._kernel(self.features_CE, features_KE), -1, 1)
        place_C = np.argmax(cosine_CK, axis=1)
        self._take_nearer(cosine_CK[np.arange(place_C.size), place_C], columns_K[place_C])

    def accept(self, place: int) -> None:
        """Count a column of the block as accepted, which may be the nearest to those after it."""
        self.accepted_C[place] = True
        self._take_nearer(self._within_CC[:, place], self.columns_C[place])

    def find_near_duplicate(self, place: int) -> NearDuplicate | None:
        """Return the accepted column that one of the block is too near to; None where there is none."""
        cosine = float(self._cosine_C[place])
        if cosine <= self._max_cosine:
            return None
        return NearDuplicate(int(self.columns_C[place]), int(self._nearest_C[place]), cosine)

    def _take_nearer(self, cosine_C: NDArray[np.float32], columns: NDArray[np.int64] | np.int64) -> None:
        nearer_C = cosine_C > self._cosine_C
        self._cosine_C = np.where(nearer_C, cosine_C, self._cosine_C)
        self._nearest_C = np.where(nearer_C, columns, self._nearest_C)


def _unit_rows(features_CE: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the rows at unit norm; a zero row stays one."""
    norm_C = np.sqrt(np.square(features_CE, dtype=np.float64).sum(axis=1))
    norm_C[norm_C == 0] = 1
    unit_CE: NDArray[np.float32] = (features_CE / norm_C[:, None]).astype(np.float32)
    return unit_CE
