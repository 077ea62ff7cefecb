"""Shards one after the other: while one is computed, the next is read and tokenised and the last is written."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self

import torch

from handpick.executors.devices import DeviceReport
from handpick.executors.protocol import Encoder, FillJob, ShardTask, Watcher, WorkIsTasks
from handpick.objectives.protocol import Prepared
from handpick.work_memory import take_work_memory


class ThisProcess(WorkIsTasks):
    """The executor that needs nothing else.

    Args:
        threads: to compute with; by default as many as torch is set to.
    """

    is_here = True
    rank = None

    def __init__(self, threads: int | None = None) -> None:
        self.threads = threads

    def __enter__(self) -> Self:
        take_work_memory()
        return self

    def __exit__(self, *error: object) -> None:
        return

    def devices(self) -> list[DeviceReport]:
        """Return nothing: there is but this process."""
        return []

    def run(self, job: FillJob, tasks: Sequence[ShardTask], watcher: Watcher) -> None:
        """Compute and write every task's shard, as ``Executor`` has it."""
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads or before)
        try:
            run_tasks(job, job.spec.load(), tasks, watcher)
        finally:
            torch.set_num_threads(before)


def run_tasks(
    job: FillJob,
    encoder: Encoder,
    tasks: Iterable[ShardTask],
    watcher: Watcher,
) -> None:
    """Compute and write shards in the order in which they come.

    Args:
        job: what is filled, and from what.
        encoder: of the job.
        tasks: asked for one ahead, so that it is read while the one before is computed.
        watcher: is told how it goes.

    Raises:
        StoreError: a shard cannot be written; said while the next one is computed, not when that is done.
    """
    store, pool = job.store, job.pool
    coming_tasks = iter(tasks)

    def prepare(task: ShardTask) -> Prepared:
        return encoder.prepare(pool.examples(task.shard.start, task.shard.stop))

    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        writing: _Writing | None = None

        def advance(n: float) -> None:
            if writing is not None and writing.is_done():
                writing.wait()  # a disk that is full stops the run here, not a shard later
            watcher.advance(n)

        task = next(coming_tasks, None)
        coming = None if task is None else reader.submit(prepare, task)
        while task is not None and coming is not None:
            ids, items, refused = coming.result()
            try:
                watcher.note_refused(task, len(refused))
            except BaseException:
                if writing is not None:
                    writing.wait()
                raise
            following = next(coming_tasks, None)
            coming = None if following is None else reader.submit(prepare, following)
            rows_BD = encoder.encode(task.checkpoint, items, advance)
            if set_aside := task.n_rows - len(ids):
                advance(set_aside)
            if writing is not None:
                writing.wait()
            write = writer.submit(store.write_shard, task.checkpoint, task.shard, ids, rows_BD)
            writing = _Writing(write, task, watcher.note_written)
            task = following
        if writing is not None:
            writing.wait()


class _Writing:
    """A shard on its way to the disk."""

    def __init__(self, write: Future[None], task: ShardTask, finished: Callable[[ShardTask], None]) -> None:
        self._write = write
        self._task = task
        self._finished = finished
        self._told = False

    def is_done(self) -> bool:
        return self._write.done()

    def wait(self) -> None:
        """Wait for it, and say once that it is written."""
        self._write.result()
        if not self._told:
            self._told = True
            self._finished(self._task)
