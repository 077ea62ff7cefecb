"""What a worker does: take a job, load its encoder, then ask for shards, compute and write them; and so with the next.

It says ``(kind, content)``. When it is free it is sent a ``FillJob``, as soon as there is one; asking for a shard it is
sent a ``ShardTask``, or None when there is none left.
"""

import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib import import_module
from multiprocessing.connection import Connection

from handpick.errors import HandpickError, WorkerError
from handpick.executors.protocol import FillJob, ShardTask

FREE, READY = "free", "ready"  # for a job, for a shard
PREPARED, ADVANCE, FINISHED, FAILED, SAID = "prepared", "advance", "finished", "failed", "said"

TRIES = 3  # deaths over one shard, or before any was asked for, after which the cause is not chance
THREAD_NAMES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")  # read when libraries load
_OFTEN = 0.2  # seconds between two reports of progress


class WorkerLine:
    """The line to the parent, on which several threads may speak."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def say(self, kind: str, content: object = None) -> None:
        with self._lock:
            self._connection.send((kind, content))

    def ask(self) -> ShardTask | None:
        """Ask for a shard."""
        self.say(READY)
        task: ShardTask | None = self._connection.recv()
        return task

    def wait_for_job(self) -> FillJob:
        """Say that the last job is done, and wait for another."""
        self.say(FREE)
        job: FillJob = self._connection.recv()
        return job


def work(connection: Connection, threads: int, imports: Sequence[str]) -> None:
    """Do one job after the other, until nobody listens any more.

    Args:
        connection: to the parent.
        threads: to compute with.
        imports: modules that the jobs will need.
    """
    line = WorkerLine(connection)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is the parent's to act on
    from handpick.model import free_memory
    from handpick.progress import forward_lines

    try:
        with forward_lines(lambda text: line.say(SAID, text)):
            set_up(threads, imports)
            while True:
                _compute(line, line.wait_for_job())
                free_memory()  # before the next encoder is loaded
    except (BrokenPipeError, EOFError, ConnectionResetError):
        return  # the parent is gone, and all that was written stays
    except HandpickError as error:
        line.say(FAILED, error)
    except Exception as error:
        line.say(FAILED, WorkerError(f"a worker failed: {type(error).__name__}: {error}"))


def set_up(threads: int, imports: Sequence[str]) -> None:
    """Make this process a worker: no walls of library warnings, so many threads, and modules that it will need."""
    import warnings

    import torch

    from handpick.allocator import keep_freed_memory
    from handpick.progress import quiet_libraries

    warnings.simplefilter("ignore")
    keep_freed_memory()
    quiet_libraries()
    torch.set_num_threads(threads)
    for name in imports:
        with suppress(ImportError):  # whoever needs it says what is to be installed
            import_module(name)


def _compute(line: WorkerLine, job: FillJob) -> None:
    from handpick.executors.this_process import run_tasks

    told = _Told(line)
    run_tasks(job, job.spec.load(), _tasks(line), told)
    told.flush()


def _tasks(line: WorkerLine) -> Iterator[ShardTask]:
    while (task := line.ask()) is not None:
        yield task


class _Told:
    """Passes on how the work goes, a few times a second."""

    def __init__(self, line: WorkerLine) -> None:
        self._line = line
        self._n = 0.0
        self._last = time.monotonic()

    def advance(self, n: float) -> None:
        self._n += n
        if time.monotonic() - self._last > _OFTEN:
            self.flush()

    def note_refused(self, task: ShardTask, n_refused: int) -> None:
        self._line.say(PREPARED, (task, n_refused))

    def note_written(self, task: ShardTask) -> None:
        self._line.say(FINISHED, task)

    def flush(self) -> None:
        """Say what has not been said."""
        self._line.say(ADVANCE, self._n)
        self._n, self._last = 0.0, time.monotonic()
