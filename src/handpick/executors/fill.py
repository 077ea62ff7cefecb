"""Filling a feature store: every shard that is missing, checkpoint by checkpoint."""

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from handpick.data.pool import Pool
from handpick.data.quarantine import Quarantine
from handpick.executors.protocol import Advance, EncoderSpec, Executor, FillJob, ShardTask
from handpick.executors.this_process import ThisProcess
from handpick.executors.unusable import (
    dead_checkpoint,
    finite_of_shards,
    first_id,
    refuse_dead_checkpoints,
    report_unusable,
)
from handpick.progress import log, progress
from handpick.store import FeatureStore, Shard

_ENOUGH = 256  # rows of a checkpoint, none of them finite, after which no more are computed


def fill_store(
    store: FeatureStore,
    pool: Pool,
    spec: EncoderSpec,
    what: str,
    quarantine: Quarantine | None = None,
    executor: Executor | None = None,
) -> None:
    """Write what is missing of a store; a killed run goes on from here.

    Records that cannot be used are left out of it, and rows that are not finite are not read of it;
    ``report_unusable`` reports both when it is whole.

    Args:
        store: made for the files of ``pool``.
        pool: what the rows are of.
        spec: what makes the rows.
        what: the words beside the progress bar.
        quarantine: whose limit ends the work as soon as it is certain to be passed; finished shards stay.
        executor: who does it; this process where nothing is said, or only one shard is missing.

    Raises:
        StoreError: a shard cannot be written.
        ModelError: no row is finite at some checkpoint.
        DataError: more records cannot be used than the quarantine's limit; they are reported to it up to there.
    """
    tasks = _missing_tasks(store)
    if executor is not None and executor.rank is not None:
        own = set(executor.rank.part_of(store.shards()))
        tasks = [task for task in tasks if task.shard in own]
    if not (tasks if executor is None else executor.has_work(tasks)):
        _finish(store)
        return
    if executor is None:
        executor = ThisProcess()
    elif len(tasks) == 1 and not executor.is_here:
        # with a worker's threads: the same bytes, and the workers may be loading on the other cores
        executor = ThisProcess(executor.threads)
    elif spec.not_portable is not None and not executor.is_here:
        log(f"{what}: in this process alone, since {spec.not_portable}")
        executor = ThisProcess()
    total = len(pool) * len(store.checkpoints)
    left = sum(task.n_rows for task in tasks)
    with progress(what, total=total, done=total - left) as advance:
        try:
            executor.run(FillJob(store, pool, spec), tasks, _Watching(advance, store, quarantine))
        except _TooManyUnusable as stop:
            report_unusable(store, pool, spec.load(), stop.quarantine)  # raises, with the reasons
    _finish(store)


def _missing_tasks(store: FeatureStore) -> list[ShardTask]:
    return [ShardTask(t, shard) for t in range(len(store.checkpoints)) for shard in store.missing(t)]


def _finish(store: FeatureStore) -> None:
    """Look at a store that is whole; also where the run before was killed before it could."""
    if _missing_tasks(store):  # other ranks are at work on them
        return
    store.close_to_older()
    refuse_dead_checkpoints(store)


class _TooManyUnusable(Exception):
    def __init__(self, quarantine: Quarantine) -> None:
        super().__init__()
        self.quarantine = quarantine


class _Watching:
    """Moves the bar, and counts the records that cannot be used, each once: those that are refused before their rows
    are made, those whose row is not finite after.

    Raises:
        ModelError: many rows are there of a checkpoint, and not one is finite.
    """

    def __init__(self, advance: Advance, store: FeatureStore, quarantine: Quarantine | None) -> None:
        self.advance = advance
        self._store = store
        self._quarantine = quarantine
        self._counted: set[Shard | str] = set()
        self._n = 0
        if quarantine is not None:
            whole = store.rows()
            self._n = sum(shard.stop - shard.start for shard in whole.shards) - len(whole)
        # Rows of every checkpoint while none of them is finite; nothing more is counted once one is.
        self._dead = Counter[int]()
        self._alive: set[int] = set()
        for checkpoint in range(len(store.checkpoints)):
            for finite_B in finite_of_shards(store, checkpoint):
                self._look_at(checkpoint, finite_B)
                if checkpoint in self._alive:
                    break

    def note_refused(self, task: ShardTask, n_refused: int) -> None:
        """Stop the work where the limit is passed with those of one more shard."""
        if task.shard not in self._counted:  # it comes at every checkpoint
            self._counted.add(task.shard)
            self._count(n_refused)

    def note_written(self, task: ShardTask) -> None:
        """Stop the work where the limit is passed with the rows that are not finite, or a checkpoint gives no other."""
        finite_B = self._store.finite(task.checkpoint, task.shard)
        self._look_at(task.checkpoint, finite_B)
        if finite_B.all():
            return
        ids = self._store.ids_of(task.checkpoint, task.shard)
        found = {ids[row] for row in np.flatnonzero(~finite_B).tolist()} - self._counted  # at another checkpoint
        self._counted |= found
        self._count(len(found))

    def _count(self, n: int) -> None:
        self._n += n
        bad = self._quarantine
        if bad is not None and bad.limit is not None and bad.count + self._n > bad.limit:
            raise _TooManyUnusable(bad)

    def _look_at(self, checkpoint: int, finite_B: NDArray[np.bool_]) -> None:
        if finite_B.any():
            self._alive.add(checkpoint)
        elif checkpoint not in self._alive:
            self._dead[checkpoint] += len(finite_B)
            if self._dead[checkpoint] >= _ENOUGH:
                first = first_id(self._store, checkpoint)
                raise dead_checkpoint(self._store.manifest, checkpoint, self._dead[checkpoint], first)
