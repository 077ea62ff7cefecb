"""One process of several that a launcher starts: it makes its share of the shards, and knows nothing of the others.

``torchrun`` and ``srun`` tell each process its rank and how many there are. The n-th shard of a store is the work of
rank n modulo their number, whatever is there already, so that nobody has to ask.
"""

import os
from collections.abc import Sequence
from typing import Self

import torch

from handpick.executors.devices import DeviceReport
from handpick.executors.protocol import FillJob, ShardTask, Watcher
from handpick.executors.rank import Rank
from handpick.executors.this_process import ThisProcess


class RankShare:
    """The executor of one rank.

    Args:
        rank: which one; by default as the environment says.

    Raises:
        SettingsError: as ``Rank.of``.
    """

    is_here = True

    def __init__(self, rank: Rank | None = None) -> None:
        self.rank = rank or Rank.of(os.environ)
        self.threads = None

    def __enter__(self) -> Self:
        if torch.cuda.is_available():  # a launcher may show a process all GPUs, or its own alone
            torch.cuda.set_device(self.rank.local % torch.cuda.device_count())
        return self

    def __exit__(self, *error: object) -> None:
        return

    def devices(self) -> list[DeviceReport]:
        """Return nothing: each rank decides for itself, and the store's manifest refuses one that decides otherwise."""
        return []

    def run(self, job: FillJob, tasks: Sequence[ShardTask], watcher: Watcher) -> None:
        """Compute and write every task's shard, as ``Executor`` has it."""
        ThisProcess().run(job, tasks, watcher)
