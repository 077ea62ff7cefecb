"""One process of several that a launcher starts: it makes its share of the shards, and knows nothing of the others.

``torchrun`` and ``srun`` tell each process its rank and how many there are. The n-th shard of a store is the work of
rank n modulo their number, whatever is there already, so that nobody has to ask.

Ranks that hold one model together (``shard_model``) make every pass together, and so begin and end a store together.
"""

import os
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, Self

import torch

from handpick.executors.devices import DeviceReport
from handpick.executors.protocol import FillJob, ShardedEncoder, ShardTask, Watcher
from handpick.executors.rank import Rank
from handpick.executors.this_process import ThisProcess, run_tasks
from handpick.gradients.sharded_model import any_rank, explained_rank_errors, joined_ranks


class RankShare:
    """The executor of one rank.

    Args:
        rank: which one; by default as the environment says.
        shard_model: whether the ranks hold one model together.

    Raises:
        SettingsError: as ``Rank.of``.
    """

    is_here = True

    def __init__(self, rank: Rank | None = None, *, shard_model: bool = False) -> None:
        self.rank = rank or Rank.of(os.environ)
        self.shard_model = shard_model
        self.threads = None
        self._joined = ExitStack()

    def __enter__(self) -> Self:
        """Take a GPU where there are any; with ``shard_model`` wait for the other ranks.

        Raises:
            SettingsError, WorkerError: as ``joined_ranks``.
        """
        if torch.cuda.is_available():  # a launcher may show a process all GPUs, or its own alone
            torch.cuda.set_device(self.rank.local % torch.cuda.device_count())
        if self.shard_model:
            self._joined.enter_context(joined_ranks(self.rank.number, self.rank.world))
        return self

    def __exit__(self, *error: Any) -> None:
        self._joined.__exit__(*error)

    def devices(self) -> list[DeviceReport]:
        """Return nothing: each rank decides for itself, and the store's manifest refuses one that decides otherwise."""
        return []

    def has_work(self, tasks: Sequence[ShardTask]) -> bool:
        """Return whether there is anything to do for this rank: of a model in pieces also where others have tasks."""
        return any_rank(bool(tasks)) if self.shard_model else bool(tasks)

    def wait_for_all(self) -> None:
        """Wait until every rank of a model in pieces is here.

        Raises:
            WorkerError: one has ended.
        """
        any_rank(False)

    def run(self, job: FillJob, tasks: Sequence[ShardTask], watcher: Watcher) -> None:
        """Compute and write every task's shard, as ``Executor`` has it; of a model in pieces until all have.

        Raises:
            WorkerError: a rank that is needed has ended.
        """
        if not self.shard_model:
            ThisProcess().run(job, tasks, watcher)
            return
        encoder = job.spec.load()
        assert isinstance(encoder, ShardedEncoder)  # settings refuse the others
        with explained_rank_errors():
            run_tasks(job, encoder, tasks, watcher)
            encoder.keep_company()
