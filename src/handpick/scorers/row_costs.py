"""What the stages of representations of examples by themselves will take.

The probe is the encoder's own ``encode`` on batches of the pool.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from handpick.costs import probe as clocks
from handpick.costs.cost import Amount, Extent, StageCost, StageKind, Work
from handpick.costs.disk import checkpoint_bytes, count_shards
from handpick.costs.machine import resident_bytes
from handpick.costs.probe import Probing, Size, TimedBatches, time_batches
from handpick.costs.tokens import PoolSample, sample_pool
from handpick.data.pool import Pool
from handpick.errors import DataError
from handpick.fingerprint import require_same
from handpick.layout import StoreLayout
from handpick.scorers.inputs import Inputs
from handpick.store import FeatureStore
from handpick.store.codec import Storage

if TYPE_CHECKING:
    from handpick.scorers.row_scorer import RowEncoder, RowStores


class RowCosts:
    """Prices the stages of a ``RowEncoder``.

    Args:
        inputs: the run's settings and data.
        encoder: as the run uses it.
        stores: as the run makes them.
    """

    def __init__(self, inputs: Inputs, encoder: RowEncoder, stores: RowStores) -> None:
        self.inputs = inputs
        self.settings = inputs.settings
        self.encoder = encoder
        self.stores = stores
        self._before = resident_bytes()
        self._timed: TimedBatches | None = None
        self._load_seconds = 0.0

    @cached_property
    def looked(self) -> PoolSample:
        """The pool's records, or some of them, prepared.

        Raises:
            DataError: none of them can be used.
        """
        pool, settings = self.inputs.pool.pool, self.settings
        pool_sample = sample_pool(pool, self.stores.of_pool, shard_rows=settings.shard_rows, seed=settings.seed)
        if not pool_sample.items:
            raise DataError(f"none of the {pool_sample.n_looked:,} records looked at can be used")
        return pool_sample

    @cached_property
    def _store(self) -> FeatureStore | None:
        """The pool's store as far as it is there.

        Raises:
            FingerprintMismatch: it is of another model or other settings.
        """
        path = self.stores.path
        if not StoreLayout(path).manifest.exists():
            return None
        store = FeatureStore.open(path, allow_incomplete=True)
        require_same(store.manifest.space, self.encoder.space(), what=f"the feature store {path}")
        return store

    def missing_rows(self) -> int:
        """Return how many rows of the pool are still to be made."""
        pool = self.inputs.pool.pool
        if self._store is None:
            return len(pool)
        new = len(pool) - sum(file.rows for file in self._store.manifest.files)
        return new + sum(shard.stop - shard.start for shard in self._store.missing(0))

    def query(self, probing: Probing) -> Work:
        """Return what the queries' rows will take."""
        query, encoder = self.inputs.queries.pool, self.encoder
        times, held = self._times(probing)
        items = encoder.prepare(query.examples(0, len(query))).items
        seconds = times.estimate([self._size_of(batch) for batch in encoder.batches(items)]).plus(self._load_seconds)
        self._load_seconds = 0.0  # once a plan
        disk = self._bytes(query, len(items), "float32")
        shards = count_shards(query.files, self.settings.shard_rows)
        return Work([self._line(StageKind.QUERY, items, Amount.exactly, disk, held, seconds, shards)])

    def pool(self, probing: Probing) -> Work:
        """Return what the pool's rows will take."""
        pool, pool_sample = self.inputs.pool.pool, self.looked
        how = pool_sample.describe()
        if self.encoder.counts == "characters":
            how = how.replace("tokenised", "read").replace("tokens", "characters")
        share = self.missing_rows() / len(pool)
        if share == 0:
            return Work([StageCost.left(StageKind.POOL)], [how], extent=self.extent)
        times, held = self._times(probing)
        seconds = times.estimate([self._size_of(batch) for batch in self._batches], pool_sample.scale * share)
        seconds = seconds.plus(pool_sample.seconds * pool_sample.n_records * share + self._load_seconds)
        disk = round(self._bytes(pool, pool_sample.usable, self.stores.storage) * share)

        def total(each: Sequence[float]) -> Amount:
            return pool_sample.total(each).times(share)

        shards = math.ceil(count_shards(pool.files, self.settings.shard_rows) * share)
        line = self._line(StageKind.POOL, pool_sample.items, total, disk, held, seconds, shards)
        cheaper = []
        if self._is_compared and self.stores.storage == "float32":
            saved = (disk - self._bytes(pool, pool_sample.usable, "int8") * share) / 1e9
            cheaper.append(f"--storage int8 saves {saved:.2f} GB of disk")
        return Work([line], [how], cheaper, self.extent)

    @property
    def extent(self) -> Extent:
        """What will be compared."""
        n_queries = len(self.inputs.query.pool) if self._is_compared and self.inputs.query is not None else 1
        return Extent(self.looked.usable, self.encoder.dim, 1, n_queries)

    @property
    def _is_compared(self) -> bool:
        return self.settings.scorer.output == "features"

    @cached_property
    def _batches(self) -> list[list[Any]]:
        return [batch for shard in self.looked.shards for batch in self.encoder.batches(shard)]

    def _times(self, probing: Probing) -> tuple[TimedBatches, int]:
        """Return what batches took, computed once a plan, and the bytes that the process then held."""
        if self._timed is None:
            _ = self._batches  # prepared first, so that loading is timed by itself
            began = clocks.clock()
            _ = self.encoder.dim  # loads the model
            self._load_seconds = clocks.clock() - began
            self._timed = time_batches(self.encoder.encode, self._batches, self._size_of, probing.seconds * 0.8)
        return self._timed, max(resident_bytes(), self._before)

    def _line(
        self,
        kind: StageKind,
        items: Sequence[Any],
        total: Callable[..., Amount],
        disk: int,
        held: int,
        seconds: Amount,
        shards: int,
    ) -> StageCost:
        encoder, exact, shape = self.encoder, total == Amount.exactly, self.encoder.shape()
        sizes, flops = [float(encoder.size(item)) for item in items], None
        if shape is not None:
            flops = _summed([encoder.flops(shape, item) for item in items], total).value
        counted = _summed(sizes, total) if encoder.counts == "tokens" else None
        examples = len(items) if exact else self.looked.usable
        note = encoder.cost_note
        return StageCost(kind.value, examples, counted, flops, disk, held, seconds, note, shards=shards, kind=kind)

    def _bytes(self, pool: Pool, usable: int, storage: Storage) -> int:
        return checkpoint_bytes(
            pool.files,
            pool.ids(),
            usable,
            dim=self.encoder.dim,
            storage=storage,
            shard_rows=self.settings.shard_rows,
        )

    def _size_of(self, batch: Sequence[Any]) -> Size:
        return Size(len(batch), max(self.encoder.size(item) for item in batch))


def _summed(each: Sequence[float], total: Callable[..., Amount]) -> Amount:
    """Return the sum: counted where all are there, else as the sample has it."""
    return Amount.exactly(sum(each)) if total == Amount.exactly else total(each)
