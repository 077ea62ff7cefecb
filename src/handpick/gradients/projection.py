"""Random projections of the gradient, P : R^D → R^K with E⟨Px, Py⟩ = ⟨x, y⟩.

Every entry of P is a function of (seed, coordinate) alone, computed with integer arithmetic that wraps, so that
any device, block of coordinates, batch and worker sees the same matrix, and none holds it whole.

- ``sparse``: each coordinate goes to s of the K outputs, with random signs and weight 1/sqrt(s): the sparse
  Johnson–Lindenstrauss transform (Kane and Nelson 2014; s = 1 is the count sketch), D·s operations; here in runs.
- ``rademacher``: dense ±1/sqrt(K), as LESS, ROSE and NICE use it (TRAK, Park et al. 2023), D·K operations.
- ``none``: the gradient itself, K = D.

Legend: B examples, P coordinates of one layer, K projected dimensions, S nonzeros per coordinate.
"""

import math
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from handpick.choices import ProjectionKind


class Projection(Protocol):
    """A projection that is fed one layer's coordinates at a time."""

    dim: int

    def begin(self, n_examples: int, like: Tensor) -> Tensor:
        """Make a zero accumulator for a batch, of ``like``'s device and dtype."""

    def add(self, sums: Tensor, rows_BP: Tensor, offset: int) -> None:
        """Add the coordinates ``offset`` … ``offset + P`` of every example to the accumulator, in place."""

    def finish(self, sums: Tensor) -> Tensor:
        """Return the projected rows (B, K)."""


def projection(kind: ProjectionKind, n_coordinates: int, dim: int, seed: int, nonzeros: int = 1) -> Projection:
    """Make the projection of ``n_coordinates`` coordinates to ``dim`` (``none`` keeps them all)."""
    if kind == "none":
        return NoProjection(n_coordinates)
    if kind == "rademacher":
        return RademacherProjection(dim, seed)
    return SparseProjection(dim, seed, nonzeros)


# splitmix64 (Steele, Lea and Flood 2014), its constants as signed 64-bit integers.
_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)
_MIX_1 = 0xBF58476D1CE4E5B9 - (1 << 64)
_MIX_2 = 0x94D049BB133111EB - (1 << 64)


def _shift_right(x: Tensor, bits: int) -> Tensor:
    """Shift int64 to the right logically; torch's own keeps the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def random_bits(counter: Tensor, seed: int) -> Tensor:
    """Return 64 random bits per counter (int64), as int64: splitmix64's output function at counter + seed's stream."""
    # The seed is mixed first, so that neighbouring seeds do not give shifted copies of one stream.
    key = int(_mix(torch.tensor(seed, dtype=torch.int64, device="cpu") * _GOLDEN + _MIX_1))
    return _mix(_mix(counter * _GOLDEN + key) + key)


def _mix(z: Tensor) -> Tensor:
    z = (z ^ _shift_right(z, 30)) * _MIX_1
    z = (z ^ _shift_right(z, 27)) * _MIX_2
    return z ^ _shift_right(z, 31)


class SparseProjection:
    """Sparse Johnson–Lindenstrauss transform, a whole run of coordinates at a time.

    The K outputs are S blocks of W = K/S. A run of W coordinates goes to each block whole: signed, coordinate by
    coordinate, and rotated by a random amount (ours). Two coordinates of a run never meet in an output; two of
    different runs do with probability 1/W, as with a random output for every coordinate, so inner products are unbiased
    and their variance is no greater; but memory is read and written in order (docs/gradients.md has the measurement).

    Keeps the signs, S numbers per coordinate.
    """

    def __init__(self, dim: int, seed: int, nonzeros: int) -> None:
        self.dim = dim
        self.seed = seed
        self.nonzeros = nonzeros
        self.width = dim // nonzeros
        self._signs: dict[int, tuple[Tensor, ...]] = {}
        self._shifts: dict[int, list[int]] = {}

    def signs_S(self, run: int, like: Tensor) -> tuple[Tensor, ...]:
        """Return ±1 for the coordinates of a run, (W,) for each of its blocks.

        Made once for ``like``'s device and dtype.
        """
        signs_S = self._signs.get(run)
        if signs_S is None or signs_S[0].device != like.device or signs_S[0].dtype != like.dtype:
            first = run * self.width
            coordinate_W = torch.arange(first, first + self.width, dtype=torch.int64, device=like.device)
            counter_SW = coordinate_W * self.nonzeros + torch.arange(self.nonzeros, device=like.device)[:, None]
            signs_S = (1 - 2 * (random_bits(counter_SW, self.seed) & 1).to(like.dtype)).unbind()
            self._signs[run] = signs_S
        return signs_S

    def shifts_S(self, run: int) -> list[int]:
        """Return by how much a run is rotated in each block, in [0, W)."""
        if run not in self._shifts:
            # counters below zero are no coordinate's
            counter_S = -1 - (run * self.nonzeros + torch.arange(self.nonzeros, dtype=torch.int64))
            self._shifts[run] = (_shift_right(random_bits(counter_S, self.seed), 1) % self.width).tolist()
        return self._shifts[run]

    def begin(self, n_examples: int, like: Tensor) -> Tensor:
        """Return zeros (B, S, 2W): a block has room for a run shifted past its end, which ``finish`` folds back."""
        return torch.zeros(n_examples, self.nonzeros, 2 * self.width, device=like.device, dtype=like.dtype)

    def add(self, sums: Tensor, rows_BP: Tensor, offset: int) -> None:
        end = offset + rows_BP.shape[1]
        edges = [offset, *range((offset // self.width + 1) * self.width, end, self.width), end]
        # A run is short: on a CPU, making a view takes as long as adding one, so none is made that is not needed.
        pieces = rows_BP.split([stop - start for start, stop in pairwise(edges)], dim=1)
        stride_B, stride_S, _ = sums.stride()
        for start, piece_BW in zip(edges, pieces, strict=False):
            run, skipped = start // self.width, start % self.width
            for s, (signs_W, shift) in enumerate(zip(self.signs_S(run, rows_BP), self.shifts_S(run), strict=True)):
                if piece_BW.shape[1] < self.width:
                    signs_W = signs_W[skipped : skipped + piece_BW.shape[1]]
                at_BW = sums.as_strided(piece_BW.shape, (stride_B, 1), s * stride_S + shift + skipped)
                at_BW.addcmul_(piece_BW, signs_W)

    def finish(self, sums: Tensor) -> Tensor:
        folded_BSW = sums[..., : self.width] + sums[..., self.width :]
        return folded_BSW.flatten(1) / math.sqrt(self.nonzeros)


class RademacherProjection:
    """Dense random signs, made in blocks of coordinates and thrown away: memory is one block of signs."""

    BLOCK = 2048  # coordinates: 64 MiB of float32 signs at K = 8192

    def __init__(self, dim: int, seed: int) -> None:
        self.dim = dim
        self.seed = seed

    def signs_PK(self, start: int, n: int, device: torch.device, dtype: torch.dtype) -> Tensor:
        """Return ±1 for coordinates ``start`` … ``start + n``."""
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


class Discarding:
    """A projection to nothing, for a pass whose rows nobody wants."""

    dim = 0

    def begin(self, n_examples: int, like: Tensor) -> Tensor:
        return torch.zeros(n_examples, 0, device=like.device, dtype=like.dtype)

    def add(self, sums: Tensor, rows_BP: Tensor, offset: int) -> None:
        pass

    def finish(self, sums: Tensor) -> Tensor:
        return sums
