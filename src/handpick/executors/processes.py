"""Several processes of this machine: each loads an encoder once and takes whole shards, until none is left.

Workers are started anew (``spawn``), so that nothing of this process is theirs but what they are sent, and each has its
share of this process's threads. They start when the executor is entered, and import while this process still reads and
parses; they stay from one store to the next, and end when it is left. A worker that is free is sent the description of
what is filled, and asks for a shard when it has room for one; what a worker that died had in hand is given out again.
The parent writes no shard and computes none.
"""

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Literal, Self

import torch

from handpick.errors import SettingsError, WorkerError
from handpick.executors.devices import DeviceReport, report_gpus
from handpick.executors.protocol import FillJob, ShardTask, Watcher, WorkIsTasks
from handpick.executors.worker import ADVANCE, FAILED, FINISHED, FREE, PREPARED, READY, SAID, THREAD_NAMES, TRIES, work
from handpick.model import device
from handpick.progress import log
from handpick.work_memory import take_work_memory

_GOODBYE = 5.0  # seconds that a worker that was told to end is waited for
VISIBLE_GPUS = "CUDA_VISIBLE_DEVICES"


def visible_gpus() -> list[str]:
    """Return what the GPUs that this process may use are called in the environment of a process; none on a CPU."""
    if device().type == "cpu":
        return []
    said = os.environ.get(VISIBLE_GPUS)
    return said.split(",") if said else [str(i) for i in range(torch.cuda.device_count())]


@dataclass(eq=False)
class _Worker:
    """A process, the line to it, and the shards that it has in hand."""

    process: SpawnProcess
    connection: Connection
    place: int
    tasks: list[ShardTask] = field(default_factory=list)
    computing: ShardTask | None = None
    state: Literal["starting", "free", "busy"] = "starting"
    has_asked: bool = False


class Processes(WorkIsTasks):
    """The executor that shares shards out. What is run while it is entered is run by the same workers.

    Where GPUs compute, each worker sees one of them alone.

    Args:
        workers: how many processes.
        threads: of each; by default this process's, divided among them.
        imports: modules that a worker loads before it is asked for anything.

    Raises:
        SettingsError: there are fewer GPUs here than workers, and two would take memory from one at once.
    """

    is_here = False
    rank = None

    def __init__(self, workers: int, threads: int | None = None, imports: Sequence[str] = ()) -> None:
        self._gpus = visible_gpus()
        if self._gpus and workers > len(self._gpus):
            n = len(self._gpus)
            raise SettingsError(
                f"--workers {workers}: each takes a GPU for itself, and there {'is 1' if n == 1 else f'are {n}'} here: "
                f"give --workers {n}"
            )
        self._n_workers = workers
        self.threads = threads or max(1, torch.get_num_threads() // workers)
        self._imports = tuple(imports)
        self._is_entered = False
        self.workers: list[_Worker] = []

    def __enter__(self) -> Self:
        self._is_entered = True
        take_work_memory()
        self.start(self._n_workers)
        return self

    def __exit__(self, *error: object) -> None:
        self._is_entered = False
        self.end()

    def devices(self) -> list[DeviceReport]:
        """Return the GPUs of the workers; nothing where they share this machine's CPU."""
        return report_gpus(self._n_workers) if self._gpus else []

    def run(self, job: FillJob, tasks: Sequence[ShardTask], watcher: Watcher) -> None:
        """Compute and write every task's shard, as ``Executor`` has it.

        Raises:
            WorkerError: workers died over the same shard again and again, or could not start.
        """
        try:
            self.start(min(self._n_workers, len(tasks)))
            _Run(self, job, tasks, watcher).run()
        except BaseException:
            self.end()  # the others are still at work on what failed
            raise
        if not self._is_entered:
            self.end()

    def start(self, n: int) -> None:
        """Start workers until there are so many."""
        context = multiprocessing.get_context("spawn")
        while len(self.workers) < n:
            ours, theirs = context.Pipe()
            process = context.Process(target=work, args=(theirs, self.threads, self._imports), daemon=True)
            place = min(set(range(n)) - {worker.place for worker in self.workers})
            with _worker_surroundings(self.threads, self._gpus[place] if self._gpus else None):
                process.start()
            theirs.close()  # so that the end of the process is the end of the line
            self.workers.append(_Worker(process, ours, place))

    def end(self) -> None:
        """End all workers."""
        for worker in self.workers:
            worker.process.terminate()
        for worker in self.workers:
            worker.process.join(_GOODBYE)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.connection.close()
        self.workers.clear()


class _Run:
    """One job's shards: those to be given out, and who has the others."""

    def __init__(self, pool: Processes, job: FillJob, tasks: Sequence[ShardTask], watcher: Watcher) -> None:
        self._pool = pool
        self._job = job
        self._waiting = deque(tasks)
        self._watcher = watcher
        self._deaths: dict[ShardTask | None, int] = {}
        self._said: set[str] = set()

    def run(self) -> None:
        for worker in [each for each in self._pool.workers if each.state == "free"][: len(self._waiting)]:
            self._employ(worker)
        while self._waiting or any(worker.state == "busy" for worker in self._pool.workers):
            self._serve()

    def _employ(self, worker: _Worker) -> None:
        worker.state, worker.has_asked, worker.computing = "busy", False, None
        self._send(worker, self._job)

    def _serve(self) -> None:
        """Wait until some worker says something, or dies."""
        by_line = {worker.connection: worker for worker in self._pool.workers}
        for line in wait(list(by_line)):
            worker = by_line[line]  # type: ignore[index]
            try:
                kind, content = worker.connection.recv()
            except (EOFError, OSError):
                self._bury(worker)
            else:
                self._hear(worker, kind, content)

    def _hear(self, worker: _Worker, kind: str, content: Any) -> None:
        if kind == FREE:
            worker.state = "free"
            if self._waiting:
                self._employ(worker)
        elif kind == READY:
            worker.has_asked = True
            self._deaths.pop(None, None)  # workers can start
            task = self._waiting.popleft() if self._waiting else None
            if task is not None:
                worker.tasks.append(task)
            self._send(worker, task)
        elif kind == PREPARED:
            worker.computing = content[0]
            self._watcher.note_refused(*content)
        elif kind == ADVANCE:
            self._watcher.advance(content)
        elif kind == FINISHED:
            worker.tasks.remove(content)
            self._watcher.note_written(content)
        elif kind == FAILED:
            raise content
        elif kind == SAID and content not in self._said:  # every worker says what one would
            self._said.add(content)
            log(content)

    def _send(self, worker: _Worker, content: FillJob | ShardTask | None) -> None:
        try:
            worker.connection.send(content)
        except OSError:  # it has died meanwhile: the line's end is read next
            return

    def _bury(self, worker: _Worker) -> None:
        """Take back what a worker had in hand, and start another if there is work left."""
        self._pool.workers.remove(worker)
        worker.process.join()
        worker.connection.close()
        cause = worker.computing
        if cause is not None or not worker.has_asked:
            self._deaths[cause] = self._deaths.get(cause, 0) + 1
            if self._deaths[cause] == TRIES:
                raise WorkerError(_death_notice(worker.process.exitcode, cause))
        self._waiting.extendleft(reversed(self._job.unwritten(worker.tasks)))
        if self._waiting:
            log(f"a worker ended ({_cause(worker.process.exitcode)}); another takes its shards")
            self._pool.start(len(self._pool.workers) + 1)


def _cause(exit_code: int | None) -> str:
    if exit_code == -9:
        return "killed, as a machine does that runs out of memory"
    return f"exit code {exit_code}"


def _death_notice(exit_code: int | None, task: ShardTask | None) -> str:
    where = "before its first shard (a script that starts workers needs `if __name__ == '__main__':` around its calls)"
    if task is not None:
        where = f"over the records {task.shard.start + 1:,} to {task.shard.stop:,}"
    return (
        f"a worker died {TRIES} times {where} ({_cause(exit_code)}); what was computed is kept: run the same again "
        "with fewer --workers, or without, to see what is wrong"
    )


@contextmanager
def _worker_surroundings(threads: int, gpu: str | None) -> Iterator[None]:
    """Let a process that is started now find its number of threads when libraries load, see one GPU, and hear of no
    interrupt, which is the parent's to act on.
    """
    own = dict.fromkeys(THREAD_NAMES, str(threads)) | ({} if gpu is None else {VISIBLE_GPUS: gpu})
    before = {name: os.environ.get(name) for name in own}
    os.environ.update(own)
    masked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, masked)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
