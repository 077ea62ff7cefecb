"""How features are stored: one entry of ``CODECS`` a storage type, apart from the type they are computed in.

Legend: N rows, D features per row, Q queries, B rows that are widened together.

Every stored tensor has the row as its first axis, so that a few rows can be read without the rest. A row that is not
finite is stored as zeros with NaN for its norm, whatever it held: so it is known, and nothing else can be read of it.
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

# The bits of a float32 that widening a float16 may set: the sign, the lower five of the exponent, ten of the fraction.
_NOT_BETWEEN = np.int32(-0x70002000)


@dataclass(frozen=True, slots=True)
class Codec:
    """Between unit rows in float32 and the tensors that stand for them in a file.

    ``encode`` takes ``unit_ND``. A row is a factor times the values that ``widen`` writes, float32 (N, D), from what
    ``encode`` gave. ``factors`` gives those of all rows from these tensors, with the norms, and D, which packed types
    do not carry; None where all are 1. A row of norm 0 is zeros again.
    """

    encode: Callable[[Floats], Tensors]
    widen: Callable[[Tensors, Floats], None]
    factors: Callable[[Tensors, int], Floats | None]


def _widen_floats(tensors: Tensors, values_ND: Floats) -> None:
    np.copyto(values_ND, tensors["features"].reshape(values_ND.shape))


def _widen_halves(tensors: Tensors, values_ND: Floats) -> None:
    """Widen as NumPy's own conversion does, in a third of its time; of finite values, which all stored ones are."""
    bits_ND = values_ND.view(np.int32)
    np.copyto(bits_ND, tensors["features"].reshape(values_ND.shape).view(np.int16))
    bits_ND <<= 13  # exponent and fraction are where float32 has its own,
    bits_ND &= _NOT_BETWEEN  # but for the sign, which has filled the places between
    values_ND *= np.float32(2**112)  # the exponents count from -15 and from -127


def _encode_int8(unit_ND: Floats) -> Tensors:
    """Encode with a scale per row: its largest magnitude becomes 127, so an error is at most half of 1/127 of it."""
    scale_N = np.max(np.abs(unit_ND), axis=1, initial=0) / np.float32(127)
    divisor_N1 = np.where(scale_N > 0, scale_N, np.float32(1))[:, None]
    return {"features": np.rint(unit_ND / divisor_N1).astype(np.int8), "scales": scale_N.astype(np.float32)}


def _widen_signs(tensors: Tensors, values_ND: Floats) -> None:
    np.copyto(values_ND, np.unpackbits(tensors["signs"], axis=1, count=values_ND.shape[1]))
    values_ND *= 2
    values_ND -= 1


def _heights(tensors: Tensors, dim: int) -> Floats:
    """Return 1/√D: a row of signs at unit norm."""
    return np.where(tensors["norms"] > 0, np.float32(1 / np.sqrt(dim)), np.float32(0))


CODECS: Mapping[Storage, Codec] = {
    "float32": Codec(lambda unit_ND: {"features": unit_ND.astype(np.float32)}, _widen_floats, lambda *_: None),
    "float16": Codec(lambda unit_ND: {"features": unit_ND.astype(np.float16)}, _widen_halves, lambda *_: None),
    "int8": Codec(_encode_int8, _widen_floats, lambda tensors, _: tensors["scales"]),
    "1bit": Codec(lambda unit_ND: {"signs": np.packbits(unit_ND > 0, axis=1)}, _widen_signs, _heights),
}


def row_norms(features_ND: Floats) -> Floats:
    """Compute Euclidean norms, float32 (N,); not finite exactly where a row holds a value or has a norm that is not."""
    with np.errstate(over="ignore"):  # a norm past float32 becomes infinite, which the caller looks for
        # Summed in float64: squares of float32 gradients leave float32's range at both ends.
        squares_N: npt.NDArray[np.float64] = np.einsum("nd,nd->n", features_ND, features_ND, dtype=np.float64)
        return np.sqrt(squares_N).astype(np.float32)


def unit_rows(features_ND: Floats, norms_N: Floats) -> Floats:
    """Divide rows by their norms; zeros where the norm is 0, NaN where it is not finite."""
    unit_ND = np.zeros_like(features_ND)
    finite_N1 = np.isfinite(norms_N)[:, None]
    np.divide(features_ND, norms_N[:, None], out=unit_ND, where=(norms_N[:, None] > 0) & finite_N1)
    unit_ND[~finite_N1[:, 0]] = np.nan
    return unit_ND


def encode(features_ND: Floats, norms_N: Floats, storage: Storage) -> Tensors:
    """Encode rows as the tensors to store, ``norms`` among them; zeros where a norm is 0 or not finite, then NaN."""
    finite_N, unit_ND = np.isfinite(norms_N), unit_rows(features_ND, norms_N)
    unit_ND[~finite_N] = 0
    return {**CODECS[storage].encode(unit_ND), "norms": np.where(finite_N, norms_N, np.float32(np.nan))}


def decode(tensors: Tensors, storage: Storage, dim: int, *, normalized: bool) -> Floats:
    """Decode stored rows as float32 (N, D) in new memory, at unit norm or at the norm they came with."""
    codec = CODECS[storage]
    rows_ND = np.empty((len(tensors["norms"]), dim), np.float32)
    codec.widen(tensors, rows_ND)
    factors_N = codec.factors(tensors, dim)
    if factors_N is not None:
        rows_ND *= factors_N[:, None]
    if not normalized:
        rows_ND *= tensors["norms"][:, None]
    return rows_ND


def products(query_QD: Floats, tensors: Tensors, storage: Storage) -> Floats:
    """Compute inner products of queries and stored unit rows, float32 (Q, N).

    Some rows are widened at a time, always into the same memory, and what their values give is multiplied by their
    factors: both save a pass over N·D values. By NumPy alone: its threads and PyTorch's, in turns, wait for each other.
    """
    n_rows, dim = len(tensors["norms"]), query_QD.shape[1]
    if storage == "float32":
        products_QN: Floats = query_QD @ tensors["features"].reshape(-1, dim).T
        return products_QN
    codec = CODECS[storage]
    factors_N = codec.factors(tensors, dim)
    products_QN = np.empty((len(query_QD), n_rows), np.float32)
    step = max(1, _WIDENED // dim)
    values_BD = np.empty((min(step, n_rows), dim), np.float32)
    for start in range(0, n_rows, step):
        here = slice(start, min(start + step, n_rows))
        some_BD = values_BD[: here.stop - start]
        codec.widen({name: tensor[here] for name, tensor in tensors.items()}, some_BD)
        np.matmul(query_QD, some_BD.T, out=products_QN[:, here])
        if factors_N is not None:
            products_QN[:, here] *= factors_N[here]
    return products_QN
