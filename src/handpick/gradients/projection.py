"""Random projections of the gradient, P : R^D → R^K with E⟨Px, Py⟩ = ⟨x, y⟩.

Every entry of P is a function of (seed, coordinate) alone, computed with integer arithmetic that wraps, so that
any device, block of coordinates, batch and worker sees the same matrix, and none holds it whole.

- ``sparse``: each coordinate goes to s of the K outputs, with random signs and weight 1/sqrt(s): the sparse
  Johnson–Lindenstrauss transform (Kane and Nelson 2014; s = 1 is the count sketch), D·s operations.
- ``rademacher``: dense ±1/sqrt(K), as LESS, ROSE and NICE use it (TRAK, Park et al. 2023), D·K operations.
- ``none``: the gradient itself, K = D.

Legend: B examples, P coordinates of one layer, K projected dimensions, S nonzeros a coordinate.
"""

import math
from typing import Protocol

import torch
from torch import Tensor

from handpick.choices import ProjectionKind


class Projection(Protocol):
    """A projection that is fed one layer's coordinates at a time."""

    dim: int

    def begin(self, n_examples: int, like: Tensor) -> Tensor:
        """A zero accumulator for a batch, of ``like``'s device and dtype."""

    def add(self, sums: Tensor, rows_BP: Tensor, offset: int) -> None:
        """Add the coordinates ``offset`` … ``offset + P`` of every example to the accumulator, in place."""

    def finish(self, sums: Tensor) -> Tensor:
        """The projected rows (B, K)."""


def projection(kind: ProjectionKind, n_coordinates: int, dim: int, seed: int, nonzeros: int = 1) -> Projection:
    """The projection of ``n_coordinates`` coordinates to ``dim`` (``none`` keeps them all)."""
    if kind == "none":
        return NoProjection(n_coordinates)
    if kind == "rademacher":
        return RademacherProjection(dim, seed)
    return SparseProjection(dim, seed, nonzeros)


# splitmix64 (Steele, Lea and Flood 2014), its constants as signed 64-bit integers.
_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)
_MIX_1 = 0xBF58476D1CE4E5B9 - (1 << 64)
_MIX_2 = 0x94D049BB133111EB - (1 << 64)


def _shifted(x: Tensor, bits: int) -> Tensor:
    """Logical right shift of int64; torch's own keeps the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def random_bits(counter: Tensor, seed: int) -> Tensor:
    """64 random bits for every counter (int64), as int64: splitmix64's output function at counter + seed's stream."""
    # The seed is mixed first, so that neighbouring seeds do not give shifted copies of one stream.
    key = _mix(torch.tensor(seed, dtype=torch.int64, device=counter.device) * _GOLDEN + _MIX_1)
    return _mix(_mix(counter * _GOLDEN + key) + key)


def _mix(z: Tensor) -> Tensor:
    z = (z ^ _shifted(z, 30)) * _MIX_1
    z = (z ^ _shifted(z, 27)) * _MIX_2
    return z ^ _shifted(z, 31)


class SparseProjection:
    """Sparse Johnson–Lindenstrauss transform.

    Keeps 8·S bytes a coordinate: where each one goes. The accumulator has 2K columns, the sums of what goes in
    with a plus and of what goes in with a minus, so that no sign is ever multiplied.
    """

    def __init__(self, dim: int, seed: int, nonzeros: int) -> None:
        self.dim = dim
        self.seed = seed
        self.nonzeros = nonzeros
        self._columns: dict[tuple[int, int], Tensor] = {}

    def columns_SP(self, offset: int, n: int, device: torch.device) -> Tensor:
        """Where coordinates go, int64 in [0, 2K): below K with a plus, from K on with a minus."""
        key = (offset, n)
        if key not in self._columns or self._columns[key].device != device:
            coordinate_P = torch.arange(offset, offset + n, dtype=torch.int64, device=device)
            counter_SP = coordinate_P * self.nonzeros + torch.arange(self.nonzeros, device=device)[:, None]
            bits_SP = random_bits(counter_SP, self.seed)
            # The S outputs of a coordinate lie one in each of S blocks of the K, so they never coincide.
            width = self.dim // self.nonzeros
            column_SP = _shifted(bits_SP, 2) % width + width * torch.arange(self.nonzeros, device=device)[:, None]
            self._columns[key] = column_SP + self.dim * (bits_SP & 1)
        return self._columns[key]

    def begin(self, n_examples: int, like: Tensor) -> Tensor:
        return torch.zeros(n_examples, 2 * self.dim, device=like.device, dtype=like.dtype)

    def add(self, sums: Tensor, rows_BP: Tensor, offset: int) -> None:
        for column_P in self.columns_SP(offset, rows_BP.shape[1], rows_BP.device):
            sums.scatter_add_(1, column_P.expand_as(rows_BP), rows_BP)

    def finish(self, sums: Tensor) -> Tensor:
        return (sums[:, : self.dim] - sums[:, self.dim :]) / math.sqrt(self.nonzeros)


class RademacherProjection:
    """Dense random signs, made in blocks of coordinates and thrown away: memory is one block of signs."""

    BLOCK = 2048  # coordinates: 64 MiB of float32 signs at K = 8192

    def __init__(self, dim: int, seed: int) -> None:
        self.dim = dim
        self.seed = seed

    def signs_PK(self, start: int, n: int, device: torch.device, dtype: torch.dtype) -> Tensor:
        """±1 for coordinates ``start`` … ``start + n``."""
        words = -(-self.dim // 64)
        coordinate_P = torch.arange(start, start + n, dtype=torch.int64, device=device)
        counter_PW = coordinate_P[:, None] * words + torch.arange(words, device=device)
        byte_PX = random_bits(counter_PW, self.seed).view(torch.uint8).int()
        bit_of_byte = torch.arange(256, device=device)[:, None] >> torch.arange(8, device=device) & 1
        table = 1 - 2 * bit_of_byte.to(dtype)
        return torch.nn.functional.embedding(byte_PX, table).reshape(n, -1)[:, : self.dim]

    def begin(self, n_examples: int, like: Tensor) -> Tensor:
        return torch.zeros(n_examples, self.dim, device=like.device, dtype=like.dtype)

    def add(self, sums: Tensor, rows_BP: Tensor, offset: int) -> None:
        for start in range(0, rows_BP.shape[1], self.BLOCK):
            block_BP = rows_BP[:, start : start + self.BLOCK]
            sums += block_BP @ self.signs_PK(offset + start, block_BP.shape[1], rows_BP.device, rows_BP.dtype)

    def finish(self, sums: Tensor) -> Tensor:
        return sums / math.sqrt(self.dim)


class NoProjection:
    """The raw gradient, for small models and for checking."""

    def __init__(self, n_coordinates: int) -> None:
        self.dim = n_coordinates

    def begin(self, n_examples: int, like: Tensor) -> Tensor:
        return torch.zeros(n_examples, self.dim, device=like.device, dtype=like.dtype)

    def add(self, sums: Tensor, rows_BP: Tensor, offset: int) -> None:
        sums[:, offset : offset + rows_BP.shape[1]] = rows_BP

    def finish(self, sums: Tensor) -> Tensor:
        return sums
