"""Whitened gradients: the query's side through the inverse of the pool's covariance, so that directions which all
examples share count for little and rare ones for much. Ours, after TRAK (Park et al. 2023, arXiv 2303.14186).

x' = (XᵀX/N + λI)⁻¹ x, at unit norm again, with X the pool's unit rows, and λ a multiple of the mean eigenvalue 1/D
(which for unit rows is known beforehand). docs/representations.md has what the multiple was chosen by.

Legend: N rows of the pool, D features, Q queries, B rows of a block.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from handpick.documents import DAMAGED
from handpick.files import read_array, write_array
from handpick.progress import log, progress
from handpick.store.codec import Floats, row_norms, unit_rows


class StoredRows(Protocol):
    """What is read of a feature store."""

    def __len__(self) -> int: ...

    @property
    def dim(self) -> int: ...

    def blocks(self, checkpoint: int) -> Iterator[tuple[int, Floats]]: ...


def second_moment(store: StoredRows, checkpoint: int) -> NDArray[np.float64]:
    """Compute XᵀX/N of the unit rows, float64 (D, D), from one pass over the store."""
    moment_DD = np.zeros((store.dim, store.dim))
    with progress(f"covariance of {len(store):,} examples", total=len(store)) as advance:
        for _, block_BD in store.blocks(checkpoint):
            moment_DD += block_BD.T @ block_BD
            advance(len(block_BD))
    moment_DD /= len(store)
    return moment_DD


def whiten(query_QD: Floats, moment_DD: NDArray[np.float64], damping: float) -> Floats:
    """Compute (S + λI)⁻¹ x of every row, at unit norm, float32 (Q, D); solved in float64.

    Args:
        query_QD: unit rows.
        moment_DD: S, the pool's ``second_moment``; overwritten.
        damping: λ in mean eigenvalues of S.
    """
    damped_DD = torch.from_numpy(moment_DD)
    diagonal_D = damped_DD.diagonal()
    diagonal_D += damping * float(diagonal_D.mean())
    factor_DD = torch.linalg.cholesky(damped_DD)
    solved_DQ = torch.cholesky_solve(torch.from_numpy(query_QD.astype(np.float64)).T, factor_DD)
    largest = float(solved_DQ.abs().max()) or 1.0  # the norm takes any factor away; float32 may not hold 1/λ
    solved_QD = np.ascontiguousarray((solved_DQ / largest).T.numpy(), dtype=np.float32)
    return unit_rows(solved_QD, row_norms(solved_QD))


def cached_second_moment(store: StoredRows, checkpoint: int, path: Path) -> NDArray[np.float64]:
    """Compute ``second_moment``, or read it from ``path`` where an earlier run has left it there whole."""
    if path.exists():
        try:
            found = read_array(path)
            if found.ndim == 2 and found.shape[0] == found.shape[1]:
                return found
            log(f"{path} holds no square matrix: it is computed anew")
        except DAMAGED as error:
            log(f"{path} is damaged ({error}): it is computed anew")
    moment_DD = second_moment(store, checkpoint)
    write_array(path, moment_DD)
    return moment_DD
