"""GIST's features: the gradient in the subspace that the queries' gradients span (Min et al. ICML 2026, arXiv
2602.18584).

Of the query gradients G (Q × D), K = G Gᵀ = U S² Uᵀ; the queries' features are U_k S_k and an example's are
g · (Gᵀ U_k S_k⁻¹): its coordinates along the k strongest right singular vectors of G. Null ones are dropped.

Legend: Q queries, D coordinates of the gradient, K dimensions that are kept, B examples, P coordinates of one layer.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from handpick.documents import DAMAGED
from handpick.errors import DataError, StoreError
from handpick.files import read_array, write_array
from handpick.fingerprint import Fingerprint, file_digest, require_same
from handpick.layout import SubspaceLayout
from handpick.sealed import unseal, write_sealed

# Singular values under this share of the largest are rounding: their squares come out of float64 products of
# float32 gradients.
_NULL = 1e-6


class Subspace(NamedTuple):
    """The queries' features float32 (Q, K), and the basis float32 (D, K), orthonormal columns."""

    query_QK: NDArray[np.float32]
    basis_DK: Tensor


def query_subspace(gradients_QD: NDArray[np.float32], dim: int) -> Subspace:
    """Find the ``dim`` strongest directions of the queries' gradients, fewer where they span fewer.

    Each direction's sign is set so that its largest coordinate among the queries is positive: an eigenvector's is
    arbitrary, and similarities do not depend on it.

    Raises:
        DataError: every gradient is zero.
    """
    grad_QD = torch.from_numpy(gradients_QD)
    gram_QQ = torch.zeros(len(grad_QD), len(grad_QD), dtype=torch.float64)
    for piece_QP in grad_QD.split(1 << 18, dim=1):  # float64 copies of a piece at a time
        wide_QP = piece_QP.double()
        gram_QQ += wide_QP @ wide_QP.T
    value_Q, vector_QQ = torch.linalg.eigh(gram_QQ)  # ascending
    singular_Q = value_Q.clamp(min=0).sqrt().flip(0)
    vector_QQ = vector_QQ.flip(1)
    kept = min(dim, int((singular_Q > _NULL * singular_Q[0]).sum()))
    if kept == 0:
        raise DataError("no query has a gradient, so they span no subspace: name other queries")
    vector_QK, singular_K = vector_QQ[:, :kept], singular_Q[:kept]
    largest_K = vector_QK.gather(0, vector_QK.abs().argmax(0, keepdim=True))[0]
    vector_QK = vector_QK * largest_K.sign()
    basis_DK = (grad_QD.T @ (vector_QK / singular_K).float()).contiguous()
    query_QK = vector_QK * singular_K
    query_QK[gram_QQ.diagonal() == 0] = 0  # eigenvectors leave rounding in the row of a query without a gradient
    return Subspace(query_QK.numpy().astype(np.float32), basis_DK)


class KeptSubspace:
    """A subspace in a folder of its own, computed once.

    Gradients that are computed again may differ in their last bits, and singular vectors of close values then turn:
    rows of two bases cannot be compared. So a run that goes on, and a pool that has grown, take the basis from here.

    Args:
        folder: basis, queries and, written last, the record that makes them count (``SubspaceLayout``).
        made_from: what decides the subspace; None: whatever it was made from.
        make: computes it where there is none yet.

    Raises:
        FingerprintMismatch: the one that is there was made from something else.
        StoreError: it is damaged, or cannot be written.
        DataError: as ``query_subspace``.
    """

    def __init__(
        self, folder: Path, made_from: Fingerprint | None = None, make: Callable[[], Subspace] | None = None
    ) -> None:
        self._layout = SubspaceLayout(folder)
        if make is not None and made_from is not None and not self._layout.record.exists():
            self._keep(make(), made_from)
        try:
            record = unseal(json.loads(self._layout.record.read_bytes()))
            there: Fingerprint = record["made_from"]
            self.dim: int = record["dim"]
            self.digest: str = record["basis"]
        except DAMAGED as error:
            raise self._damaged_error(self._layout.record, error) from error
        require_same(there, made_from or there, what=f"the queries' subspace in {folder}")

    @classmethod
    def open(cls, folder: Path) -> "KeptSubspace":
        """Return the one that is there, whatever it was made from.

        Raises:
            StoreError: there is none, or it is damaged.
        """
        return cls(folder)

    @property
    def query_QK(self) -> NDArray[np.float32]:
        """The queries' features, read anew."""
        return self._read(self._layout.queries)

    @property
    def basis_DK(self) -> Tensor:
        """The basis, read anew; its bytes are those that were written."""
        path = self._layout.basis
        if path.exists() and file_digest(path) != self.digest:
            raise self._damaged_error(path, "its checksum has changed")
        return torch.from_numpy(self._read(path))

    def _keep(self, subspace: Subspace, made_from: Fingerprint) -> None:
        try:
            self._layout.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"cannot create {self._layout.folder}: {error.strerror}; choose another folder") from error
        write_array(self._layout.queries, subspace.query_QK)
        write_array(self._layout.basis, subspace.basis_DK.numpy())
        basis = file_digest(self._layout.basis)
        record = {"made_from": made_from, "dim": subspace.basis_DK.shape[1], "basis": basis}
        write_sealed(self._layout.record, record)

    def _read(self, path: Path) -> NDArray[np.float32]:
        try:
            read: NDArray[np.float32] = read_array(path)
        except DAMAGED as error:
            raise self._damaged_error(path, error) from error
        return read

    def _damaged_error(self, path: Path, why: object) -> StoreError:
        return StoreError(f"{path} is damaged ({why}); delete {self._layout.record} and run the same again")


class BasisProjection:
    """A ``Projection`` on the columns of a given matrix, a layer at a time: D × K products per example.

    Args:
        basis_DK: on any device; a layer's part is moved to the gradients' own, once.
    """

    def __init__(self, basis_DK: Tensor) -> None:
        self.dim = basis_DK.shape[1]
        self._basis_DK = basis_DK

    def begin(self, n_examples: int, like: Tensor) -> Tensor:
        self._basis_DK = self._basis_DK.to(like.device, like.dtype)
        return torch.zeros(n_examples, self.dim, device=like.device, dtype=like.dtype)

    def add(self, sums: Tensor, rows_BP: Tensor, offset: int) -> None:
        sums.addmm_(rows_BP, self._basis_DK[offset : offset + rows_BP.shape[1]])

    def finish(self, sums: Tensor) -> Tensor:
        return sums
