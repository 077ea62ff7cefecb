"""The feature store: a folder of shards that is written in parts, by several processes, and read as one array.

A row that is not finite at some checkpoint (the model overflowed, or a weight of it is broken) is kept as such and
read at none: ``not_finite`` says which they are.

Legend: N rows, D features per row, B rows of one shard (N and B count the rows that are there, not those set aside).
"""

import os
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from handpick.errors import StoreError
from handpick.files import remove_left_overs
from handpick.layout import StoreLayout, sidecar_of
from handpick.store.array import FeatureArray
from handpick.store.codec import Floats, encode, row_norms
from handpick.store.manifest import SCHEMA_VERSION, Manifest, Shard, extend_manifest, read_manifest, write_manifest
from handpick.store.memory import available_bytes
from handpick.store.repeats import repeated_ids
from handpick.store.rows import Rows
from handpick.store.shard_file import finished_shards, finite_rows, read_sidecar, shard_path, write_shard_file
from handpick.store.verify import find_problems


class FeatureStore:
    """Features of a pool or a query set, per checkpoint. Made by ``create`` (to write) or ``open`` (to read).

    Reading covers the shards that are written at every checkpoint, so that ids, norms and features always
    belong together, also while the store is incomplete.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest
        self._whole: Rows | None = None

    def __reduce__(self) -> tuple[type["FeatureStore"], tuple[Path, Manifest]]:
        """Pickle the folder and its plan alone: nothing that was read goes to another process."""
        return FeatureStore, (self.path, self.manifest)

    @classmethod
    def create(cls, path: str | os.PathLike[str], manifest: Manifest) -> "FeatureStore":
        """Create a store, or open the one at ``path`` to go on with.

        A store goes on when ``manifest`` has its settings and begins with its files (compared by content, so
        a moved file is the same); files behind those are appended to its plan. ``missing`` says what is
        left to write.

        Raises:
            FingerprintMismatch: the store at ``path`` has other settings or other data; names the first difference.
            StoreError: the store at ``path`` is unreadable or newer, its manifest is gone, or the file system refuses.
        """
        folder = Path(path)
        has_shards = StoreLayout(folder).has_shards()  # before the manifest, which another run may be writing first
        is_new = not StoreLayout(folder).manifest.exists()
        if is_new and has_shards:
            raise StoreError(
                f"{folder} holds features, and its {StoreLayout(folder).manifest.name}, which says of what, is gone: "
                f"put it back, or remove {folder}, and they are made anew"
            )
        there = manifest if is_new else read_manifest(folder)
        plan = extend_manifest(there, manifest, folder)
        try:
            for checkpoint in range(len(plan.checkpoints)):
                StoreLayout(folder).shards(checkpoint).mkdir(parents=True, exist_ok=True)
                remove_left_overs(StoreLayout(folder).shards(checkpoint))
            remove_left_overs(folder)
        except OSError as error:
            raise StoreError(
                f"cannot create the feature store {folder}: {error.strerror}; choose another folder"
            ) from error
        if is_new or plan != there:
            write_manifest(folder, plan)
        return cls(folder, plan)

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, allow_incomplete: bool = False) -> "FeatureStore":
        """Open the store at ``path``, to read.

        Raises:
            StoreError: there is none, its manifest is damaged or newer, or shards are missing and
                ``allow_incomplete`` is not set.
        """
        folder = Path(path)
        store = cls(folder, read_manifest(folder))
        missing = sum(len(store.missing(checkpoint)) for checkpoint in range(len(store.manifest.checkpoints)))
        if missing and not allow_incomplete:
            planned = len(store.shards()) * len(store.manifest.checkpoints)
            raise StoreError(
                f"the feature store {folder} is incomplete, {missing} of its {planned} shards are missing; run the "
                "command that built it again to go on from there, or open it with allow_incomplete=True"
            )
        return store

    def shards(self) -> list[Shard]:
        """Return all shards of the plan, in the order of the pool; the same for every checkpoint."""
        return self.manifest.shards()

    def missing(self, checkpoint: int) -> list[Shard]:
        """Return the shards that are still to be written for a checkpoint, in the order of the pool."""
        shards = self.shards()
        written = set(finished_shards(self.path, checkpoint, shards))
        return [shard for shard in shards if shard not in written]

    def write_shard(
        self, checkpoint: int, shard: Shard, ids: Sequence[str], features_BD: npt.NDArray[np.floating[Any]]
    ) -> None:
        """Write one shard of one checkpoint; one that is already there is replaced.

        Several processes may write at once, each its own shards. A row that is not finite, or whose norm is not, is
        kept as such: it is read at no checkpoint.

        Args:
            checkpoint: its place in the manifest.
            shard: one of ``shards()``.
            ids: of the rows, in order: fewer than the shard's span, or none, where records were set aside.
            features_BD: any float type, at the norm they have.

        Raises:
            StoreError: shapes or ids do not fit, or the file system refuses (disk full). The shard does not count
                then, and all others stay good.
        """
        path = shard_path(self.path, checkpoint, shard)
        if features_BD.shape != (len(ids), self.dim) or len(ids) > shard.stop - shard.start:
            raise StoreError(
                f"{path} cannot hold {len(ids)} ids with features of shape {features_BD.shape}: it has room for "
                f"{shard.stop - shard.start} rows of {self.dim} features; nothing of it was written"
            )
        with np.errstate(over="ignore"):  # a float64 past float32 becomes infinite, as one is that overflowed before
            features_BD = np.ascontiguousarray(features_BD, np.float32)  # the bytes must not depend on the layout
        self._check_ids(checkpoint, shard, ids)
        write_shard_file(path, ids, encode(features_BD, row_norms(features_BD), self.manifest.storage))

    def _check_ids(self, checkpoint: int, shard: Shard, ids: Sequence[str]) -> None:
        path = shard_path(self.path, checkpoint, shard)
        if repeated := repeated_ids(lambda: ids):
            raise StoreError(f"the id {repeated[0]!r} stands twice in {path}; give every record an id of its own")
        for other in range(len(self.manifest.checkpoints)):
            sidecar = sidecar_of(shard_path(self.path, other, shard))
            if other != checkpoint and sidecar.exists() and read_sidecar(sidecar).ids != list(ids):
                raise StoreError(
                    f"{path} would hold other ids than {sidecar}; set the same records aside at every checkpoint, "
                    "or build the store anew"
                )

    def close_to_older(self) -> None:
        """Write down that a newer handpick is needed, where some rows are not finite: one before would read zeros.

        Raises:
            StoreError: the file system refuses, or a shard is damaged.
        """
        if self.manifest.schema_version < SCHEMA_VERSION and self.rows().leaves_some_out:
            self.manifest = self.manifest.model_copy(update={"schema_version": SCHEMA_VERSION})
            write_manifest(self.path, self.manifest)

    def finite(self, checkpoint: int, shard: Shard) -> npt.NDArray[np.bool_]:
        """Return which rows of a written shard are finite at a checkpoint, bool, one for every id that was written.

        Raises:
            StoreError: the shard is damaged.
        """
        return finite_rows(shard_path(self.path, checkpoint, shard))

    def ids_of(self, checkpoint: int, shard: Shard) -> list[str]:
        """Return all ids that were written with a shard.

        Raises:
            StoreError: its sidecar is damaged.
        """
        return read_sidecar(sidecar_of(shard_path(self.path, checkpoint, shard))).ids

    def not_finite(self) -> dict[str, list[int]]:
        """Return the ids of rows that are not finite, in their order, and at which checkpoints; also of shards that are
        not written at every checkpoint yet.

        Raises:
            StoreError: a shard is damaged.
        """
        found: dict[str, list[int]] = {}
        shards = self.shards()
        written = [set(finished_shards(self.path, t, shards)) for t in range(len(self.checkpoints))]
        for shard in shards:
            for t in (t for t, there in enumerate(written) if shard in there):
                broken_B = ~self.finite(t, shard)
                if broken_B.any():
                    ids = self.ids_of(t, shard)
                    for row in np.flatnonzero(broken_B).tolist():
                        found.setdefault(ids[row], []).append(t)
        return found

    def __len__(self) -> int:
        """Return N, the number of rows."""
        return len(self.rows())

    @property
    def dim(self) -> int:
        """D, the features of a row."""
        return self.manifest.dim

    @property
    def checkpoints(self) -> list[str]:
        """Names of the checkpoints, in order."""
        return [checkpoint.name for checkpoint in self.manifest.checkpoints]

    @property
    def weights(self) -> list[float]:
        """What each checkpoint's similarity weighs."""
        return [checkpoint.weight for checkpoint in self.manifest.checkpoints]

    @property
    def ids(self) -> list[str]:
        """Ids of all rows, in order.

        Raises:
            StoreError: a shard is damaged.
        """
        return self.rows().ids

    def array(self, checkpoint: int = 0, normalized: bool = True) -> Floats | FeatureArray:
        """Return features, float32 (N, D), at unit norm or at the norm they came with.

        In memory where they take at most half of what is available, else an array that reads from disk.

        Raises:
            StoreError: a shard is damaged.
        """
        lazy = self.on_disk(checkpoint, normalized)
        fits = len(lazy) * self.dim * lazy.dtype.itemsize <= available_bytes() / 2
        return np.asarray(lazy) if fits else lazy

    def on_disk(self, checkpoint: int = 0, normalized: bool = True) -> FeatureArray:
        """Return features as ``array`` gives them, of which only the rows that are asked for are read."""
        return FeatureArray(self.rows(), checkpoint, normalized=normalized)

    def norms(self, checkpoint: int = 0) -> Floats:
        """Return norms of the rows as they came, float32 (N,).

        Raises:
            StoreError: a shard is damaged.
        """
        return self.rows().norms(checkpoint)

    def blocks(self, checkpoint: int = 0, normalized: bool = True) -> Iterator[tuple[int, Floats]]:
        """Yield all rows in order, a shard at a time: the first row's number and features, float32 (B, D).

        Raises:
            StoreError: a shard is damaged.
        """
        return self.rows().blocks(checkpoint, normalized=normalized)

    def products(self, checkpoint: int, query_QD: Floats) -> Iterator[tuple[int, Floats]]:
        """Yield inner products of queries and all unit rows, a shard at a time: the first row's number, and float32 (Q,
        B).

        Stored rows are multiplied as they are read; none is kept.

        Raises:
            StoreError: a shard is damaged.
        """
        return self.rows().products(checkpoint, query_QD)

    def row_shares(self, n: int) -> list[Rows]:
        """Return the rows of a whole store in ``n`` shares of whole shards, fewer where there are fewer shards.

        Raises:
            StoreError: a shard is damaged.
        """
        shards = self.shards()
        ends = np.linspace(0, len(shards), min(n, len(shards)) + 1).round().astype(int).tolist()
        return [Rows(self.path, self.manifest, list(shards[start:end])) for start, end in pairwise(ends)]

    def verify(self) -> list[str]:
        """Find all that is wrong, one sentence each, by reading every byte; empty when the store is whole.

        Found are: shards that are missing, cut short or changed in any byte, ids that differ between
        checkpoints, and ids that stand at more than one row.
        """
        return find_problems(self.path, self.manifest)

    def rows(self) -> Rows:
        """Return the rows that can be read now; of a store that is whole, the same object at every call.

        Raises:
            StoreError: a shard is damaged.
        """
        if self._whole is not None:
            return self._whole
        shards = self.shards()
        missing = {shard for checkpoint in range(len(self.manifest.checkpoints)) for shard in self.missing(checkpoint)}
        rows = Rows(self.path, self.manifest, [shard for shard in shards if shard not in missing])
        if not missing:  # nothing of this plan changes any more
            self._whole = rows
        return rows
