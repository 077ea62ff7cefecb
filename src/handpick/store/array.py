"""Features of a store as an array that stays on disk.

Legend: N rows, D features per row.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from handpick.store.codec import Floats
from handpick.store.rows import Rows


class FeatureArray:
    """Float32 (N, D) of one checkpoint; only the rows asked for are read.

    Index it with a row number (gives (D,)), a slice or an array of row numbers (give (rows, D)); negative
    numbers count from the end. ``numpy.asarray`` reads it whole.
    """

    dtype = np.dtype(np.float32)
    ndim = 2

    def __init__(self, rows: Rows, checkpoint: int, *, normalized: bool) -> None:
        self.shape = (len(rows), rows.manifest.dim)
        self._rows = rows
        self._checkpoint = checkpoint
        self._normalized = normalized

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: int | np.integer[Any] | slice | npt.NDArray[np.integer[Any]] | list[int]) -> Floats:
        """Read rows into new memory.

        Raises:
            IndexError: a row number is out of range, or the index is none of the kinds above.
            StoreError: a shard is damaged.
        """
        if isinstance(key, slice):
            return self._gather(np.arange(*key.indices(len(self))))
        numbers = np.asarray(key)
        if numbers.ndim > 1 or (numbers.size and numbers.dtype.kind not in "iu"):
            raise IndexError("a feature array takes one index: a row number, a slice, or an array of row numbers")
        wanted = np.atleast_1d(numbers).astype(np.intp)
        if np.any((wanted < -len(self)) | (wanted >= len(self))):
            raise IndexError(f"a row number is out of range; the feature array has {len(self)} rows")
        features = self._gather(np.where(wanted < 0, wanted + len(self), wanted))
        return features if numbers.ndim else features[0]

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        if copy is False:
            raise ValueError("a feature array lies on disk and can only be copied into memory")
        features_ND = np.empty(self.shape, np.float32)
        for start, block in self._rows.blocks(self._checkpoint, normalized=self._normalized):
            features_ND[start : start + len(block)] = block
        return features_ND if dtype is None else features_ND.astype(dtype, copy=False)

    def _gather(self, wanted: npt.NDArray[np.intp]) -> Floats:
        """Read rows in the order of ``wanted``; each shard that holds some of them is opened once."""
        features = np.empty((len(wanted), self.shape[1]), np.float32)
        order = np.argsort(wanted, kind="stable")
        ordered = wanted[order]
        bounds = np.searchsorted(ordered, self._rows.starts)
        for index in np.flatnonzero(np.diff(bounds)):
            here = slice(bounds[index], bounds[index + 1])
            pick = ordered[here] - self._rows.starts[index]
            features[order[here]] = self._rows.read(self._checkpoint, int(index), pick, normalized=self._normalized)
        return features
