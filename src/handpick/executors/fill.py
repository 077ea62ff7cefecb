"""Filling a feature store: every shard that is missing, checkpoint by checkpoint."""

import numpy as np
from numpy.typing import NDArray

from handpick.data.pool import Pool
from handpick.data.quarantine import Quarantine
from handpick.errors import DataError
from handpick.executors.protocol import Advance, EncoderSpec, Executor, FillJob, Preparer, ShardTask
from handpick.executors.this_process import ThisProcess
from handpick.progress import log, progress
from handpick.store import FeatureStore, Shard


def fill_store(
    store: FeatureStore,
    pool: Pool,
    spec: EncoderSpec,
    what: str,
    quarantine: Quarantine | None = None,
    executor: Executor | None = None,
) -> None:
    """Write what is missing of a store; a killed run goes on from here.

    Records that cannot be used are left out of it; ``report_unusable`` reports them when it is whole.

    Args:
        store: made for the files of ``pool``.
        pool: what the rows are of.
        spec: what makes the rows.
        what: the words beside the progress bar.
        quarantine: whose limit ends the work as soon as it is certain to be passed; finished shards stay.
        executor: who does it; this process where nothing is said, or only one shard is missing.

    Raises:
        StoreError: a shard cannot be written.
        DataError: more records cannot be used than the quarantine's limit; they are reported to it up to there.
    """
    tasks = [ShardTask(t, shard) for t in range(len(store.checkpoints)) for shard in store.missing(t)]
    if not tasks:
        return
    if executor is None:
        executor = ThisProcess()
    elif len(tasks) == 1:  # with a worker's threads: the same bytes, and the workers may be loading on the other cores
        executor = ThisProcess(executor.threads)
    elif spec.not_portable is not None and not isinstance(executor, ThisProcess):
        log(f"{what}: in this process alone, since {spec.not_portable}")
        executor = ThisProcess()
    total = len(pool) * len(store.checkpoints)
    left = sum(task.n_rows for task in tasks)
    with progress(what, total=total, done=total - left) as advance:
        try:
            executor.run(FillJob(store, pool, spec), tasks, _Watching(advance, store, quarantine))
        except _TooManyUnusable as stop:
            report_unusable(store, pool, spec.load(), stop.quarantine)  # raises, with the reasons


class _TooManyUnusable(Exception):
    def __init__(self, quarantine: Quarantine) -> None:
        super().__init__()
        self.quarantine = quarantine


class _Watching:
    """Moves the bar, and counts the records that cannot be used, each once, before its features are computed."""

    def __init__(self, advance: Advance, store: FeatureStore, quarantine: Quarantine | None) -> None:
        self.advance = advance
        self._quarantine = quarantine
        self._counted: set[Shard] = set()
        self._n = 0
        if quarantine is not None:
            whole = store.rows()
            self._n = sum(shard.stop - shard.start for shard in whole.shards) - len(whole)

    def note_refused(self, task: ShardTask, n_refused: int) -> None:
        """Stop the work where the limit is passed with those of one more shard."""
        if self._quarantine is None or self._quarantine.limit is None:
            return
        if task.shard not in self._counted:  # it comes at every checkpoint
            self._counted.add(task.shard)
            self._n += n_refused
        if self._quarantine.count + self._n > self._quarantine.limit:
            raise _TooManyUnusable(self._quarantine)


def report_unusable(store: FeatureStore, pool: Pool, prepares: Preparer, quarantine: Quarantine) -> None:
    """Report the records that are in the pool and not in its finished store, each with its reason.

    Raises:
        DataError: nothing is left, or the quarantine's limit is passed.
    """
    if len(store) == len(pool):
        return
    for row in np.setdiff1d(np.arange(len(pool)), rows_of(store, pool)).tolist():
        refused = prepares.prepare([pool[row]]).refused
        file, line = pool.location(row)
        for example, reason in refused:
            quarantine.add(file=file, line=line, id=example.id, reason=reason, raw=example.raw)
    if not len(store):
        raise DataError(
            f"no record of {', '.join(file.name for file in pool.files)} can be used: {quarantine.summary()}"
        )


def rows_of(store: FeatureStore, pool: Pool) -> NDArray[np.int64]:
    """Return the pool's row of every row of its store, in which some may be missing, the others in order."""
    rows_N = np.arange(len(pool))
    if len(store) == len(pool):
        return rows_N
    stored = store.rows().iter_ids()
    waiting = next(stored, None)
    kept_N = np.zeros(len(pool), dtype=np.bool_)
    for row, example_id in enumerate(pool.ids()):
        if example_id == waiting:
            kept_N[row] = True
            waiting = next(stored, None)
    return rows_N[kept_N]
