"""The similarity of every query to every candidate, from two feature stores.

S[q, n] = Σ_t w_t ⟨x_t(q), x_t(n)⟩ over unit rows x_t of the checkpoints t (LESS, Xia et al. ICML 2024,
arXiv 2402.04333, equation 3; methods.md, section 2).

Shapes: Q queries, N candidates, B candidates of a block, D features.
"""

import os
import sys
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from handpick.errors import SettingsError, StoreError
from handpick.fingerprint import require_same


class _Manifest(Protocol):
    @property
    def space(self) -> Mapping[str, Any]: ...


class Features(Protocol):
    """What is read of a feature store: unit rows, float32, a block or a whole checkpoint at a time."""

    @property
    def manifest(self) -> _Manifest: ...

    @property
    def weights(self) -> Sequence[float]: ...

    def __len__(self) -> int: ...

    def blocks(self, checkpoint: int) -> Iterator[tuple[int, NDArray[np.float32]]]: ...

    def array(self, checkpoint: int) -> ArrayLike: ...


def similarity(pool: Features, query: Features, *, out: Path | None = None) -> NDArray[np.float32]:
    """The similarity matrix, float32 (Q, N), with the checkpoint weights of the pool's store.

    The pool is streamed a block at a time; the queries are held whole. With ``out`` the matrix is a
    ``.npy`` file, returned as a read-only memory map, and need not fit in memory. The file is written
    under another name and renamed when complete: a file of that name is a finished one.

    Raises:
        FingerprintMismatch: the two stores do not share a space.
        SettingsError: they hold different numbers of checkpoints.
        StoreError: the pool's blocks do not add up to its rows, or ``out`` cannot be written.
    """
    require_same(pool.manifest.space, query.manifest.space, what="the space of the pool's features")
    if len(query.weights) != len(pool.weights):
        raise SettingsError(
            f"the query's features have {len(query.weights)} checkpoints and the pool's {len(pool.weights)}; "
            "represent both with the same checkpoints"
        )
    if out is None:
        similarity_QN = np.empty((len(query), len(pool)), dtype=np.float32)
        _fill(similarity_QN, pool, query)
        return similarity_QN
    with _new_npy(out, (len(query), len(pool))) as similarity_QN:
        _fill(similarity_QN, pool, query)
    return np.load(out, mmap_mode="r")  # type: ignore[no-any-return]


def _fill(similarity_QN: NDArray[np.float32], pool: Features, query: Features) -> None:
    n_candidates = similarity_QN.shape[1]
    for checkpoint, weight in enumerate(pool.weights):
        query_QD = np.asarray(query.array(checkpoint), dtype=np.float32) * np.float32(weight)
        rows_read = 0
        for first_row, block_BD in pool.blocks(checkpoint):
            columns = slice(first_row, first_row + len(block_BD))
            if checkpoint == 0:
                similarity_QN[:, columns] = query_QD @ block_BD.T
            else:
                similarity_QN[:, columns] += query_QD @ block_BD.T
            rows_read += len(block_BD)
        if rows_read != n_candidates:
            raise StoreError(
                f"the pool's features of checkpoint {checkpoint} have {rows_read} rows of {n_candidates}; "
                "verify the store, or represent the pool again"
            )


@contextmanager
def _new_npy(path: Path, shape: tuple[int, int]) -> Generator[NDArray[np.float32], None, None]:
    """A float32 memory map that becomes ``path`` when the block ends well, and vanishes when it does not."""
    partial = path.with_name(path.name + ".partial")
    try:
        array = _reserved_npy(partial, shape)
        yield array
        array.flush()
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _reserved_npy(path: Path, shape: tuple[int, int]) -> "np.memmap[Any, np.dtype[np.float32]]":
    """A new float32 ``.npy`` file with all its space on disk claimed, so that a full disk shows before the work.

    A memory map of a file with holes is killed by SIGBUS when the disk runs full. Only Linux has the call.
    """
    try:
        array = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
        if sys.platform == "linux":
            with path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    except OSError as error:
        n_bytes = shape[0] * shape[1] * np.dtype(np.float32).itemsize
        raise StoreError(
            f"{path} cannot be written ({error.strerror}): the similarity takes {n_bytes:,} bytes; "
            "free space there or name another place"
        ) from error
    return array
