"""How features are stored: one entry of ``CODECS`` a storage type, apart from the type they are computed in.

Legend: N rows, D features a row.

Every stored tensor has the row as its first axis, so that a few rows can be read without the rest.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Tensors = dict[str, npt.NDArray[Any]]

Storage = Literal["float32", "float16"]


@dataclass(frozen=True, slots=True)
class Codec:
    """Between unit rows in float32 and the tensors that stand for them in a file.

    ``encode`` takes ``unit_ND``; ``decode`` takes what it gave and D, which packed types do not carry,
    and returns new memory.
    """

    encode: Callable[[Floats], Tensors]
    decode: Callable[[Tensors, int], Floats]


def _float_codec(dtype: type[np.floating[Any]]) -> Codec:
    return Codec(
        encode=lambda unit_ND: {"features": unit_ND.astype(dtype)},
        decode=lambda tensors, dim: np.array(tensors["features"], np.float32).reshape(-1, dim),
    )


CODECS: Mapping[Storage, Codec] = {
    "float32": _float_codec(np.float32),
    "float16": _float_codec(np.float16),
}


def row_norms(features_ND: Floats) -> Floats:
    """Euclidean norms, float32 (N,); not finite exactly where a row holds a value or has a norm that is not."""
    with np.errstate(over="ignore"):  # a norm past float32 becomes infinite, which the caller looks for
        # Summed in float64: squares of float32 gradients leave float32's range at both ends.
        squares_N: npt.NDArray[np.float64] = np.einsum("nd,nd->n", features_ND, features_ND, dtype=np.float64)
        return np.sqrt(squares_N).astype(np.float32)


def unit_rows(features_ND: Floats, norms_N: Floats) -> Floats:
    """Rows divided by their norms; zeros where the norm is 0, NaN where it is not finite."""
    unit_ND = np.zeros_like(features_ND)
    finite_N1 = np.isfinite(norms_N)[:, None]
    np.divide(features_ND, norms_N[:, None], out=unit_ND, where=(norms_N[:, None] > 0) & finite_N1)
    unit_ND[~finite_N1[:, 0]] = np.nan
    return unit_ND


def encode(features_ND: Floats, norms_N: Floats, storage: Storage) -> Tensors:
    """The tensors to store, ``norms`` among them; a row with norm 0 is stored as zeros."""
    return {**CODECS[storage].encode(unit_rows(features_ND, norms_N)), "norms": norms_N}


def decode(tensors: Tensors, storage: Storage, dim: int, *, normalized: bool) -> Floats:
    """Stored rows as float32 (N, D) in new memory, at unit norm or at the norm they came with."""
    rows_ND = CODECS[storage].decode(tensors, dim)
    if not normalized:
        rows_ND *= tensors["norms"][:, None]
    return rows_ND
