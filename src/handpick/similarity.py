"""The similarity of every query to every candidate, from two feature stores.

S[q, n] = Σ_t w_t ⟨x_t(q), x_t(n)⟩ over unit rows x_t of the checkpoints t (LESS, Xia et al. ICML 2024,
arXiv 2402.04333, equation 3). Where the pool's rows are kept as signs, S is estimated from them
(``handpick.store.sign_rows``), on the scale that it has in float32.

Shapes: Q queries, N candidates, B candidates of a block, C columns asked for, D features, T checkpoints.
"""

import os
import sys
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from handpick.errors import SettingsError, StoreError
from handpick.files import open_atomically
from handpick.fingerprint import require_same
from handpick.store.codec import Floats, Storage
from handpick.store.sign_rows import query_slope

_GATHERED = 1 << 24  # features of single candidates that are held at a time


class _Manifest(Protocol):
    @property
    def space(self) -> Mapping[str, Any]: ...

    @property
    def storage(self) -> Storage: ...


class _Rows(Protocol):
    def __getitem__(self, rows: NDArray[np.int64], /) -> Floats: ...


class Features(Protocol):
    """What is read of a feature store: unit rows, float32."""

    @property
    def manifest(self) -> _Manifest: ...

    @property
    def weights(self) -> Sequence[float]: ...

    def __len__(self) -> int: ...

    def products(self, checkpoint: int, query_QD: Floats) -> Iterator[tuple[int, Floats]]: ...

    def array(self, checkpoint: int) -> ArrayLike: ...

    def on_disk(self, checkpoint: int, normalized: bool = True) -> _Rows: ...

    def blocks(self, checkpoint: int, normalized: bool = True) -> Iterator[tuple[int, Floats]]: ...

    @property
    def dim(self) -> int: ...

    def row_shares(self, n: int) -> Sequence["RowShare"]: ...


class RowShare(Protocol):
    """Some rows of a feature store, one behind the other."""

    def __len__(self) -> int: ...

    def products(self, checkpoint: int, query_QD: Floats) -> Iterator[tuple[int, Floats]]: ...


def query_rows(pool: Features, query: Features) -> list[Floats]:
    """Return the queries' unit rows, (Q, D) per checkpoint.

    Raises:
        FingerprintMismatch: the two stores do not share a space.
        SettingsError: they hold different numbers of checkpoints, or the queries' rows are kept as signs.
    """
    require_same(pool.manifest.space, query.manifest.space, what="the space of the pool's features")
    if len(query.weights) != len(pool.weights):
        raise SettingsError(
            f"the query's features have {len(query.weights)} checkpoints and the pool's {len(pool.weights)}; "
            "represent both with the same checkpoints"
        )
    if query.manifest.storage == "1bit":
        raise SettingsError("the query's features are kept as signs (1bit): represent the queries again, in float32")
    return [np.asarray(query.array(t), dtype=np.float32) for t in range(len(pool.weights))]


class StoredSimilarity:
    """The similarity of some queries to all of a store, computed whenever it is read; nothing of size N is kept.

    Args:
        pool: the store.
        query_TQD: the queries' rows at every checkpoint, of one number.
        workers: threads that share a pass for lists of the nearest (``algorithms.nearest``).
    """

    def __init__(self, pool: Features, query_TQD: Sequence[Floats], workers: int = 1) -> None:
        self._pool = pool
        self._workers = workers
        self._row_shares: Sequence[RowShare] | None = None  # kept: each holds its files against their checksums once
        slope = query_slope(pool.manifest.storage)
        self._weighted_TQD = [
            np.float32(weight * slope) * query_QD for weight, query_QD in zip(pool.weights, query_TQD, strict=True)
        ]

    @property
    def shape(self) -> tuple[int, int]:
        return len(self._weighted_TQD[0]), len(self._pool)

    def blocks(self) -> Iterator[tuple[int, Floats]]:
        """Yield blocks as ``algorithms.Similarity`` does, a shard of the store at a time.

        Raises:
            StoreError: the store's rows are not those it says it has.
        """
        return _SharedColumns(self._pool, self._weighted_TQD).blocks()

    def shares(self) -> list[tuple[int, "_SharedColumns"]]:
        """Return shares as ``algorithms.SharedSimilarity`` does: whole shards of the store."""
        if self._workers == 1:
            return [(0, _SharedColumns(self._pool, self._weighted_TQD))]
        if self._row_shares is None:
            self._row_shares = self._pool.row_shares(self._workers)
        starts = np.cumsum([0, *map(len, self._row_shares)]).tolist()
        return [
            (start, _SharedColumns(rows, self._weighted_TQD))
            for start, rows in zip(starts, self._row_shares, strict=False)
        ]

    def columns(self, columns_C: NDArray[np.int64]) -> Floats:
        """Return columns as ``algorithms.Similarity`` does; from single rows of the store."""
        similarity_QC = np.zeros((self.shape[0], len(columns_C)), np.float32)
        for t, weighted_QD in enumerate(self._weighted_TQD):
            rows = self._pool.on_disk(t)
            step = max(1, _GATHERED // weighted_QD.shape[1])
            for start in range(0, len(columns_C), step):
                some = slice(start, start + step)
                similarity_QC[:, some] += weighted_QD @ rows[columns_C[some]].T
        return similarity_QC


class _SharedColumns:
    """Columns of a ``StoredSimilarity``: those of some rows, or all, of its store."""

    def __init__(self, rows: RowShare, weighted_TQD: Sequence[Floats]) -> None:
        self._rows = rows
        self._weighted_TQD = weighted_TQD

    @property
    def shape(self) -> tuple[int, int]:
        return len(self._weighted_TQD[0]), len(self._rows)

    def blocks(self) -> Iterator[tuple[int, Floats]]:
        """Yield blocks as ``StoredSimilarity`` does."""
        passes = [self._rows.products(t, weighted_QD) for t, weighted_QD in enumerate(self._weighted_TQD)]
        rows_read = 0
        for (start, similarity_QB), *others in zip(*passes, strict=False):
            for _, more_QB in others:
                similarity_QB += more_QB
            rows_read = start + similarity_QB.shape[1]
            yield start, similarity_QB
        if rows_read != len(self._rows):
            raise StoreError(
                f"the pool's features have {rows_read} rows of {len(self._rows)}; verify the store, or represent the "
                "pool again"
            )


class StoredScores:
    """The similarities that a store of scores holds, (N, Q) per checkpoint, added up whenever they are read."""

    def __init__(self, scores: Features) -> None:
        self._scores = scores

    @property
    def shape(self) -> tuple[int, int]:
        return self._scores.dim, len(self._scores)

    def blocks(self) -> Iterator[tuple[int, Floats]]:
        """Yield blocks as ``algorithms.Similarity`` does, a shard of the store at a time."""
        passes = [self._scores.blocks(t, normalized=False) for t in range(len(self._scores.weights))]
        for (start, scores_BQ), *others in zip(*passes, strict=True):
            for _, more_BQ in others:
                scores_BQ += more_BQ
            yield start, np.ascontiguousarray(scores_BQ.T)

    def columns(self, columns_C: NDArray[np.int64]) -> Floats:
        """Return columns as ``algorithms.Similarity`` does."""
        each_TCQ = [self._scores.on_disk(t, normalized=False)[columns_C] for t in range(len(self._scores.weights))]
        return np.ascontiguousarray(np.sum(each_TCQ, axis=0, dtype=np.float32).T)


def candidate_features(pool: Features, columns_C: NDArray[np.int64]) -> Floats:
    """Return features of some candidates, float32 (C, T·D).

    Their inner products are their similarities to each other; of sign rows ``SignKernel`` estimates these.
    """
    stored_T = [pool.on_disk(t) for t in range(len(pool.weights))]
    return np.concatenate(
        [np.float32(np.sqrt(w)) * rows[columns_C] for w, rows in zip(pool.weights, stored_T, strict=True)], axis=1
    )


def similarity(pool: Features, query: Features, *, out: Path | None = None) -> Floats:
    """Compute the similarity matrix, float32 (Q, N), with the checkpoint weights of the pool's store.

    The pool is streamed a block at a time; the queries are held whole. With ``out`` as in ``write_similarity``.

    Raises:
        FingerprintMismatch, SettingsError: as ``query_rows``.
        StoreError: the pool's blocks do not add up to its rows, or ``out`` cannot be written.
    """
    return write_similarity(StoredSimilarity(pool, query_rows(pool, query)), out)


class SimilarityBlocks(Protocol):
    """What is read to write it down: an ``algorithms.Similarity``."""

    @property
    def shape(self) -> tuple[int, int]: ...

    def blocks(self) -> Iterator[tuple[int, NDArray[Any]]]: ...


def write_similarity(similarity: SimilarityBlocks, out: Path | None) -> Floats:
    """Write a similarity as a whole matrix, float32 (Q, N).

    With ``out`` it is a ``.npy`` file, returned as a read-only memory map, and need not fit in memory. The file is
    written under another name and renamed when complete: a file of that name is a finished one.

    Raises:
        StoreError: ``out`` cannot be written.
    """
    if out is None:
        similarity_QN = np.empty(similarity.shape, dtype=np.float32)
        _fill(similarity_QN, similarity)
        return similarity_QN
    with _new_npy(out, similarity.shape) as similarity_QN:
        _fill(similarity_QN, similarity)
    return np.load(out, mmap_mode="r")  # type: ignore[no-any-return]


def write_similarity_rows(rows: Iterable[Floats], shape: tuple[int, int], out: Path | None) -> Floats:
    """Write what ``write_similarity`` does, from the similarities of one query after the other, (N,) each.

    Raises:
        StoreError: ``out`` cannot be written.
    """
    if out is None:
        similarity_QN: Floats = np.empty(shape, np.float32)
        for query, row_N in enumerate(rows):
            similarity_QN[query] = row_N
        return similarity_QN
    with _new_npy(out, shape) as similarity_QN:
        for query, row_N in enumerate(rows):
            similarity_QN[query] = row_N
    return np.load(out, mmap_mode="r")  # type: ignore[no-any-return]


def _fill(similarity_QN: Floats, similarity: SimilarityBlocks) -> None:
    for start, block_QB in similarity.blocks():
        similarity_QN[:, start : start + block_QB.shape[1]] = block_QB


@contextmanager
def _new_npy(path: Path, shape: tuple[int, int]) -> Generator[NDArray[np.float32], None, None]:
    """Open a float32 memory map that becomes ``path`` when the block ends well, and vanishes when it does not."""
    n_bytes = shape[0] * shape[1] * np.dtype(np.float32).itemsize
    try:
        with open_atomically(path) as file:
            array = _reserve_npy(file, shape)
            yield array
            array.flush()
    except OSError as error:
        raise StoreError(
            f"{path} cannot be written ({error.strerror}): the similarity takes {n_bytes:,} bytes; "
            "free space there or name another place"
        ) from error


def _reserve_npy(file: BinaryIO, shape: tuple[int, int]) -> "np.memmap[Any, np.dtype[np.float32]]":
    """Make a float32 ``.npy`` file with all its space on disk claimed, so that a full disk shows before the work.

    A memory map of a file with holes is killed by SIGBUS when the disk runs full. Only Linux has the call.
    """
    np.lib.format.write_array_header_1_0(
        file, {"descr": np.lib.format.dtype_to_descr(np.dtype(np.float32)), "fortran_order": False, "shape": shape}
    )
    start, n_bytes = file.tell(), shape[0] * shape[1] * np.dtype(np.float32).itemsize
    file.flush()
    if sys.platform == "linux":
        os.posix_fallocate(file.fileno(), 0, start + n_bytes)
    return np.memmap(file, np.float32, "r+", start, shape)
