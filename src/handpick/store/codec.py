"""How features are stored: one entry of ``CODECS`` a storage type, apart from the type they are computed in.

Legend: N rows, D features a row, Q queries, B rows that are widened together.

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

# Rows that are widened at a time: enough for a fast product, few enough to be near a CPU's cache when they are used.
_TOGETHER = 512


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
    """By PyTorch, which gives the same numbers as NumPy in a seventh of the time."""
    import torch

    halves_ND = np.require(tensors["features"], requirements="W")  # it warns of arrays that it could not write to
    torch.from_numpy(values_ND).copy_(torch.from_numpy(halves_ND).reshape(values_ND.shape))


def _encode_int8(unit_ND: Floats) -> Tensors:
    """A scale a row: its largest magnitude becomes 127, so that an error is at most half of 1/127 of it."""
    scale_N = np.max(np.abs(unit_ND), axis=1, initial=0) / np.float32(127)
    divisor_N1 = np.where(scale_N > 0, scale_N, np.float32(1))[:, None]
    return {"features": np.rint(unit_ND / divisor_N1).astype(np.int8), "scales": scale_N.astype(np.float32)}


def _widen_signs(tensors: Tensors, values_ND: Floats) -> None:
    np.copyto(values_ND, np.unpackbits(tensors["signs"], axis=1, count=values_ND.shape[1]))
    values_ND *= 2
    values_ND -= 1


def _heights(tensors: Tensors, dim: int) -> Floats:
    """1/√D: a row of signs at unit norm."""
    return np.where(tensors["norms"] > 0, np.float32(1 / np.sqrt(dim)), np.float32(0))


CODECS: Mapping[Storage, Codec] = {
    "float32": Codec(lambda unit_ND: {"features": unit_ND.astype(np.float32)}, _widen_floats, lambda *_: None),
    "float16": Codec(lambda unit_ND: {"features": unit_ND.astype(np.float16)}, _widen_halves, lambda *_: None),
    "int8": Codec(_encode_int8, _widen_floats, lambda tensors, _: tensors["scales"]),
    "1bit": Codec(lambda unit_ND: {"signs": np.packbits(unit_ND > 0, axis=1)}, _widen_signs, _heights),
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
    """Inner products of queries and stored unit rows, float32 (Q, N).

    Some rows are widened at a time, always into the same memory, and what their values give is multiplied by their
    factors: both save a pass over N·D values.
    """
    n_queries, dim = query_QD.shape
    n_rows = len(tensors["norms"])
    products_QN = np.empty((n_queries, n_rows), np.float32)
    if storage == "float32":
        np.copyto(products_QN, (tensors["features"].reshape(-1, dim) @ query_QD.T).T)
        return products_QN
    codec = CODECS[storage]
    factors_N = codec.factors(tensors, dim)
    values_BD = np.empty((min(_TOGETHER, n_rows), dim), np.float32)
    products_BQ = np.empty((len(values_BD), n_queries), np.float32)
    for start in range(0, n_rows, _TOGETHER):
        here = slice(start, min(start + _TOGETHER, n_rows))
        size = here.stop - start
        codec.widen({name: tensor[here] for name, tensor in tensors.items()}, values_BD[:size])
        # Candidates by queries: for few queries a quarter faster than the other way round.
        np.matmul(values_BD[:size], query_QD.T, out=products_BQ[:size])
        np.multiply(products_BQ[:size].T, 1 if factors_N is None else factors_N[here], out=products_QN[:, here])
    return products_QN
