"""GIST's features: the gradient in the subspace that the queries' gradients span (Min et al. ICML 2026, arXiv
2602.18584).

Of the query gradients G (Q × D), K = G Gᵀ = U S² Uᵀ; the queries' features are U_k S_k and an example's are
g · (Gᵀ U_k S_k⁻¹): its coordinates along the k strongest right singular vectors of G. Null ones are dropped.

Legend: Q queries, D coordinates of the gradient, K dimensions that are kept, B examples, P coordinates of one layer.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from handpick.errors import DataError

# Singular values under this share of the largest are rounding: their squares come out of float64 products of
# float32 gradients.
_NULL = 1e-6


class Subspace(NamedTuple):
    """The queries' features float32 (Q, K), and the basis float32 (D, K), orthonormal columns."""

    query_QK: NDArray[np.float32]
    basis_DK: Tensor


def query_subspace(gradients_QD: NDArray[np.float32], dim: int) -> Subspace:
    """The ``dim`` strongest directions of the queries' gradients, fewer where they span fewer.

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


class BasisProjection:
    """A ``Projection`` on the columns of a given matrix, a layer at a time: D × K products an example.

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
