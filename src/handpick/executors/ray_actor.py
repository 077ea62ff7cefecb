"""What an actor of Ray does: load the encoder of a job once, then compute and write whole shards.

Two calls are at an actor at a time: while one computes, the other reads and tokenises, or writes. A third is asked
what there is to tell.
"""

import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import torch

from handpick.errors import HandpickError, WorkerError
from handpick.executors.fit import Greeting, Token, enter_folder, greet
from handpick.executors.protocol import Encoder, FillJob, ShardTask
from handpick.executors.worker import set_up
from handpick.model import free_memory
from handpick.progress import forward_lines

NEWS = "news"  # the group of calls that wait for none of them
PATIENCE = 0.5  # seconds that news are gathered for, at least


@dataclass(slots=True)
class News:
    """What has happened since an actor was last asked: lines, and how far its shards are."""

    lines: list[str] = field(default_factory=list)
    rows: dict[tuple[int, ShardTask], float] = field(default_factory=dict)  #: by the number of the job and the shard
    refused: dict[tuple[int, ShardTask], int] = field(default_factory=dict)


class ShardActor:
    """Whoever is asked for shards.

    Args:
        threads: to compute with.
        imports: modules that the jobs will need.
        folder: the driver's working folder, from which relative paths go.
    """

    def __init__(self, threads: int, imports: Sequence[str], folder: str) -> None:
        self._threads = threads
        self._news, self._telling = News(), threading.Lock()
        self._reading, self._computing = threading.Lock(), threading.Lock()
        self._loaded: tuple[int, Encoder] | None = None
        self._forwarding = ExitStack()
        self._forwarding.enter_context(forward_lines(self._say))
        self._missing_folder = enter_folder(folder)
        set_up(threads, imports)

    def greet(self) -> Greeting:
        """Say what this actor is; again, by itself, when it was started again."""
        return greet(self._missing_folder)

    def news(self, patience: float) -> News:
        """Return what has happened, after so many seconds."""
        time.sleep(patience)
        with self._telling:
            news, self._news = self._news, News()
            return news

    def fill(self, number: int, job: FillJob, token: Token, task: ShardTask) -> int | HandpickError:
        """Compute and write a shard; return how many of its records cannot be used, or what is wrong.

        Args:
            number: of the job, among the driver's.
            job: what is filled.
            token: in the folder that is filled.
            task: the shard.
        """
        try:
            token.check()
            return self._fill(number, job, task)
        except HandpickError as error:
            return error
        except Exception as error:
            return WorkerError(f"a worker failed: {type(error).__name__}: {error}")

    def _fill(self, number: int, job: FillJob, task: ShardTask) -> int:
        torch.set_num_threads(self._threads)  # a thread of its own has it for itself
        with self._reading:  # tokenizers are not for two threads
            encoder = self._encoder(number, job)
            ids, items, refused = encoder.prepare(job.pool.examples(task.shard.start, task.shard.stop))
        with self._telling:
            self._news.refused[number, task] = len(refused)
        done = 0.0

        def advance(n: float) -> None:
            nonlocal done
            done += n
            with self._telling:
                self._news.rows[number, task] = done

        with self._computing:
            rows_BD = encoder.encode(task.checkpoint, items, advance)
        job.store.write_shard(task.checkpoint, task.shard, ids, rows_BD)
        return len(refused)

    def _encoder(self, number: int, job: FillJob) -> Encoder:
        """Return the encoder of a job, loaded once; that of the job before is given back first."""
        if self._loaded is None or self._loaded[0] != number:
            self._loaded = None
            free_memory()
            self._loaded = number, job.spec.load()
        return self._loaded[1]

    def _say(self, text: str) -> None:
        with self._telling:
            self._news.lines.append(text)
