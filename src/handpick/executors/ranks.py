"""One process of several that a launcher starts: it makes its share of the shards, and knows nothing of the others.

``torchrun`` and ``srun`` tell each process its rank and how many there are. The n-th shard of a store is the work of
rank n modulo their number, whatever is there already, so that nobody has to ask.

Ranks that hold one model together (``shard_model``) make every pass together, and so begin and end a store together.
"""

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Self

import torch

from handpick.errors import SettingsError
from handpick.executors.devices import DeviceReport
from handpick.executors.protocol import FillJob, ShardedEncoder, ShardTask, Watcher
from handpick.executors.this_process import ThisProcess, run_tasks
from handpick.gradients.sharded_model import any_rank, explained_rank_errors, joined_ranks
from handpick.store import FeatureStore

#: rank, number of ranks, rank on this machine
_LAUNCHERS = (
    ("RANK", "WORLD_SIZE", "LOCAL_RANK"),  # torchrun
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"),  # srun
)


@dataclass(frozen=True, slots=True)
class Rank:
    """Which process this is, of how many, and which on its machine."""

    number: int
    world: int
    local: int

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "Rank":
        """Read what the launcher says.

        Raises:
            SettingsError: nobody has started this process as one of several, or what it says makes no sense.
        """
        for names in _LAUNCHERS:
            if all(name in environment for name in names):
                try:
                    number, world, local = (int(environment[name]) for name in names)
                except ValueError:
                    number, world, local = -1, 0, 0
                if not 0 <= number < world or local < 0:
                    said = ", ".join(f"{name}={environment[name]}" for name in names)
                    raise SettingsError(f"--engine ranks: {said} is no rank: start it by torchrun or srun")
                return cls(number, world, local)
        needed = " or ".join(", ".join(names) for names in _LAUNCHERS)
        raise SettingsError(f"--engine ranks: {needed} are not set: start it by torchrun or srun")


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

    def share(self, store: FeatureStore, tasks: Sequence[ShardTask]) -> list[ShardTask]:
        """Return this rank's part of a store's tasks."""
        mine = set(store.shards()[self.rank.number :: self.rank.world])
        return [task for task in tasks if task.shard in mine]

    def is_work(self, tasks: Sequence[ShardTask]) -> bool:
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
