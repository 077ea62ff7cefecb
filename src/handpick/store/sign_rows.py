"""Cosines from rows of which only the signs are kept.

A sign row s = sign(x) / √D stands for a unit row x. Over coordinates that are drawn alike from a normal distribution of
mean 0, with ρ the cosine of two rows (or of a query and a row),

    two sign rows             E⟨s, s'⟩ = (2/π)·asin ρ     so ρ is estimated by sin(π/2·⟨s, s'⟩)
    a float32 row and a sign row    E⟨q, s⟩ = √(2/π)·ρ    so ρ is estimated by √(π/2)·⟨q, s⟩

The first is the arcsine law (Van Vleck and Middleton, Proceedings of the IEEE 54, 1966; of random hyperplanes: Goemans
and Williamson, JACM 42, 1995), the second Bussgang's theorem (MIT RLE report 216, 1952). Both estimates grow with what
they are made of: the order of one query's candidates is that of the sign rows. With D independent coordinates their
standard errors are

    √(1 − ρ²)·√(θ(π − θ)/D),  θ = acos ρ      and      √((π/2 − ρ²)/D)

which at D = 8,192 is 0.017 at ρ = 0 and 0.003 at 0.95 of the first, and 0.014 and 0.009 of the second. Coordinates that
are far from normal (a few large ones among thousands of small) leave a bias besides, which docs/selection.md has
measured; the second may then be above 1.

Shapes: A and B rows, E features: those of T checkpoints side by side, D of each; a factor of each checkpoint in them.
"""

from dataclasses import dataclass

import numpy as np

from handpick.store.codec import Floats, Storage

_QUERY_SLOPE = float(np.sqrt(np.pi / 2))


def query_slope(storage: Storage) -> float:
    """Return what products of float32 rows and stored unit rows are multiplied by, to be their cosines."""
    return _QUERY_SLOPE if storage == "1bit" else 1.0


@dataclass(frozen=True)
class SignKernel:
    """The similarity of sign rows of several checkpoints: Σ_t |a_t| |b_t| sin(π/2·cos(a_t, b_t)).

    As an inner product it grows with the rows' lengths, and of a row and itself it is the length's square.
    """

    n_checkpoints: int

    def __call__(self, rows_AE: Floats, rows_BE: Floats) -> Floats:
        """Return it of all pairs, float32 (A, B); that of a zero row to anything is 0."""
        found_AB = np.zeros((len(rows_AE), len(rows_BE)), np.float32)
        for a_AD, b_BD in zip(
            *(np.split(rows, self.n_checkpoints, axis=1) for rows in (rows_AE, rows_BE)), strict=True
        ):
            length_A, length_B = (np.sqrt(np.einsum("nd,nd->n", rows, rows)) for rows in (a_AD, b_BD))
            length_AB = length_A[:, None] * length_B
            cosine_AB = np.divide(a_AD @ b_BD.T, length_AB, out=np.zeros_like(length_AB), where=length_AB > 0)
            found_AB += length_AB * np.sin(np.float32(np.pi / 2) * np.clip(cosine_AB, -1, 1))
        return found_AB
