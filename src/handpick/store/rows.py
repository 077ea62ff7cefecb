"""The rows of a store in order, read shard by shard: those that are finite at every checkpoint.

Legend: N rows, D features per row, B rows of one shard, Q queries.
"""

import mmap
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from handpick.errors import StoreError
from handpick.layout import sidecar_of
from handpick.store.codec import Floats, Tensors, decode, products
from handpick.store.manifest import Manifest, Shard
from handpick.store.shard_file import finite_rows, map_tensors, read_sidecar, repair_advice, shard_path

RowPick = slice | npt.NDArray[np.intp]


class Rows:
    """Where the rows of some shards lie, when the shards stand one behind the other.

    Whatever is read of a shard first, its whole file is held against its checksum then, and not again: where a
    similarity is computed, of the bytes that it is computed from.

    Args:
        folder: of the store.
        manifest: of the store.
        shards: those to read; each written at every checkpoint.

    Raises:
        StoreError: a shard is damaged.
    """

    def __init__(self, folder: Path, manifest: Manifest, shards: list[Shard]) -> None:
        self.folder = folder
        self.manifest = manifest
        self.shards = shards
        # From the tensor files, a few bytes a row: the sidecars hold every id of the pool.
        finite = [self._finite_everywhere(shard) for shard in shards]
        self._stored = [len(finite_B) for finite_B in finite]
        # By far the most shards have no row that is left out, and are read as they lie.
        self._kept = [None if finite_B.all() else np.flatnonzero(finite_B) for finite_B in finite]
        counts = [int(finite_B.sum()) for finite_B in finite]
        self.starts: npt.NDArray[np.intp] = np.concatenate([[0], np.cumsum(counts)]).astype(np.intp)
        self._checked: set[Path] = set()

    def __len__(self) -> int:
        return int(self.starts[-1])

    @property
    def leaves_some_out(self) -> bool:
        """Whether some of the rows stored are not finite somewhere."""
        return any(kept is not None for kept in self._kept)

    @cached_property
    def ids(self) -> list[str]:
        """Ids of all rows, in order."""
        return list(self.iter_ids())

    def iter_ids(self) -> Iterator[str]:
        """Yield ids of all rows, in order, a shard's at a time.

        Raises:
            StoreError: a sidecar is damaged.
        """
        for shard, kept in zip(self.shards, self._kept, strict=True):
            ids = read_sidecar(sidecar_of(shard_path(self.folder, 0, shard))).ids
            yield from ids if kept is None else [ids[row] for row in kept.tolist()]

    def read(self, checkpoint: int, index: int, pick: RowPick, *, normalized: bool) -> Floats:
        """Read some rows of the ``index``-th shard, float32 (rows picked, D), in new memory.

        Raises:
            StoreError: the shard is damaged.
        """
        kept = self._kept[index]
        stored = pick if kept is None else kept[pick]
        tensors = {name: tensor[stored] for name, tensor in self._stored_tensors(checkpoint, index).items()}
        return decode(tensors, self.manifest.storage, self.manifest.dim, normalized=normalized)

    def blocks(self, checkpoint: int, *, normalized: bool) -> Iterator[tuple[int, Floats]]:
        """Yield the first row and the features, float32 (B, D), of each shard that has any rows.

        Raises:
            StoreError: a shard is damaged.
        """
        for index in range(len(self.shards)):
            if self.starts[index] < self.starts[index + 1]:
                yield int(self.starts[index]), self.read(checkpoint, index, slice(None), normalized=normalized)

    def products(self, checkpoint: int, query_QD: Floats) -> Iterator[tuple[int, Floats]]:
        """Yield the first row of each shard that has any, and its rows' inner products with some queries, float32 (Q,
        B).

        The rows are at unit norm. While a shard is multiplied, the next one is brought into memory.

        Raises:
            StoreError: a shard is damaged.
        """
        indices = [index for index in range(len(self.shards)) if self.starts[index] < self.starts[index + 1]]

        def read(index: int) -> Tensors:
            is_in_memory = self._path(checkpoint, index) not in self._checked  # once its checksum is taken
            tensors = self._tensors(checkpoint, index)
            for tensor in () if is_in_memory else tensors.values():
                tensor.reshape(-1)[:: mmap.PAGESIZE // tensor.itemsize].max()  # a value of every page; no copy is made
            return tensors

        for index, tensors in zip(indices, read_ahead(read, indices), strict=True):
            yield int(self.starts[index]), products(query_QD, tensors, self.manifest.storage)

    def norms(self, checkpoint: int) -> Floats:
        """Return norms of all rows, float32 (N,).

        Raises:
            StoreError: a shard is damaged.
        """
        norms_N = np.empty(len(self), np.float32)
        for index in range(len(self.shards)):
            norms_N[self.starts[index] : self.starts[index + 1]] = self._tensors(checkpoint, index)["norms"]
        return norms_N

    def _finite_everywhere(self, shard: Shard) -> npt.NDArray[np.bool_]:
        """Return which of the rows stored for a shard are finite at every checkpoint, (rows stored,)."""
        first = shard_path(self.folder, 0, shard)
        finite_B = finite_rows(first)
        for checkpoint in range(1, len(self.manifest.checkpoints)):
            path = shard_path(self.folder, checkpoint, shard)
            here_B = finite_rows(path)
            if len(here_B) != len(finite_B):
                raise self._other_rows(path, len(finite_B))
            finite_B &= here_B
        return finite_B

    def _tensors(self, checkpoint: int, index: int) -> Tensors:
        """Return the tensors of a shard's rows, as views where all are kept."""
        kept, tensors = self._kept[index], self._stored_tensors(checkpoint, index)
        return tensors if kept is None else {name: tensor[kept] for name, tensor in tensors.items()}

    def _stored_tensors(self, checkpoint: int, index: int) -> Tensors:
        """Return the tensors of a shard as they are stored, of rows too that are not kept."""
        if not 0 <= checkpoint < len(self.manifest.checkpoints):
            raise StoreError(
                f"the feature store {self.folder} has no checkpoint {checkpoint}; "
                f"the last is {len(self.manifest.checkpoints) - 1}"
            )
        path = self._path(checkpoint, index)
        tensors = map_tensors(path, check=path not in self._checked)
        self._checked.add(path)
        if any(len(tensor) != self._stored[index] for tensor in tensors.values()):
            raise self._other_rows(path, self._stored[index])
        return tensors

    def _path(self, checkpoint: int, index: int) -> Path:
        return shard_path(self.folder, checkpoint, self.shards[index])

    @staticmethod
    def _other_rows(path: Path, rows: int) -> StoreError:
        return StoreError(f"{path} does not hold the {rows} rows its first checkpoint has; {repair_advice(path)}")


def read_ahead(read: Callable[[int], Tensors], indices: Sequence[int]) -> Iterator[Tensors]:
    """Yield what ``read`` gives of every index, and read the next one while the caller is at this."""
    with ThreadPoolExecutor(1) as reader:
        coming: deque[Future[Tensors]] = deque()
        for index in indices:
            coming.append(reader.submit(read, index))
            if len(coming) > 1:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()
