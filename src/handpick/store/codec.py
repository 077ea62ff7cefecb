"""How features are stored: one entry of ``CODECS`` a storage type, apart from the type they are computed in.

Legend: N rows, D features a row, Q queries, P bytes of packed bits.

Every stored tensor has the row as its first axis, so that a few rows can be read without the rest.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Tensors = dict[str, npt.NDArray[Any]]

Storage = Literal["float32", "float16", "int8", "1bit"]

# Values that are widened at a time, to be multiplied while they are still in a CPU's cache.
_WIDENED = 1 << 20


@dataclass(frozen=True, slots=True)
class Codec:
    """Between unit rows in float32 and the tensors that stand for them in a file.

    ``encode`` takes ``unit_ND``; ``decode`` takes what it gave (with the norms) and D, which packed types do not
    carry, and returns new memory. A row of norm 0 is zeros again.
    """

    encode: Callable[[Floats], Tensors]
    decode: Callable[[Tensors, int], Floats]


def _float_codec(dtype: type[np.floating[Any]]) -> Codec:
    return Codec(
        encode=lambda unit_ND: {"features": unit_ND.astype(dtype)},
        decode=lambda tensors, dim: np.array(tensors["features"], np.float32).reshape(-1, dim),
    )


def _encode_int8(unit_ND: Floats) -> Tensors:
    """A scale a row: its largest magnitude becomes 127, so that an error is at most half of 1/127 of it."""
    scale_N = np.max(np.abs(unit_ND), axis=1, initial=0) / np.float32(127)
    divisor_N1 = np.where(scale_N > 0, scale_N, np.float32(1))[:, None]
    return {"features": np.rint(unit_ND / divisor_N1).astype(np.int8), "scales": scale_N.astype(np.float32)}


def _decode_int8(tensors: Tensors, dim: int) -> Floats:
    features_ND: Floats = tensors["features"].reshape(-1, dim).astype(np.float32)
    features_ND *= tensors["scales"][:, None]
    return features_ND


def _decode_signs(tensors: Tensors, dim: int) -> Floats:
    """±1/√D: a row of signs at unit norm."""
    bits_ND = np.unpackbits(tensors["signs"], axis=1, count=dim)
    height_N1 = np.where(tensors["norms"] > 0, np.float32(1 / np.sqrt(dim)), np.float32(0))[:, None]
    features_ND: Floats = bits_ND.astype(np.float32)
    features_ND -= np.float32(0.5)
    features_ND *= 2 * height_N1
    return features_ND


CODECS: Mapping[Storage, Codec] = {
    "float32": _float_codec(np.float32),
    "float16": _float_codec(np.float16),
    "int8": Codec(_encode_int8, _decode_int8),
    "1bit": Codec(lambda unit_ND: {"signs": np.packbits(unit_ND > 0, axis=1)}, _decode_signs),
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


def products(query_QD: Floats, tensors: Tensors, storage: Storage) -> Floats:
    """Inner products of queries and stored unit rows, float32 (Q, N); some rows are widened at a time."""
    dim = query_QD.shape[1]
    if storage == "float32":
        products_QN: Floats = query_QD @ tensors["features"].reshape(-1, dim).T
        return products_QN
    n_rows = len(tensors["norms"])
    products_QN = np.empty((len(query_QD), n_rows), np.float32)
    step = max(1, _WIDENED // dim)
    for start in range(0, n_rows, step):
        rows = slice(start, start + step)
        some = {name: tensor[rows] for name, tensor in tensors.items()}
        products_QN[:, rows] = query_QD @ CODECS[storage].decode(some, dim).T
    return products_QN
