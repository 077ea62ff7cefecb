"""What fills a store, described so that another process can do it, and who is given the description.

Shapes: B examples of a shard, D features.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from handpick.data.examples import Example
from handpick.data.pool import Pool
from handpick.executors.devices import DeviceReport
from handpick.executors.rank import Rank
from handpick.objectives.protocol import Prepared
from handpick.store import FeatureStore, Shard

Advance = Callable[[float], None]


class Preparer(Protocol):
    """An objective, a representation, or an encoder."""

    def prepare(self, examples: Sequence[Example]) -> Prepared:
        """Return what can be made without the model; called from another thread, while the last shard is computed."""


class Encoder(Preparer, Protocol):
    """Rows of records. What ``prepare`` makes of a record only the encoder itself knows."""

    def encode(self, checkpoint: int, items: Sequence[Any], advance: Advance) -> NDArray[np.float32]:
        """Return rows (B, D), float32, of what was prepared, in its order.

        Args:
            checkpoint: its place in the store's manifest.
            items: of ``prepare``.
            advance: is told how many more items are done.
        """


@runtime_checkable
class ShardedEncoder(Protocol):
    """An encoder whose model all ranks hold together: each needs the others for every pass."""

    def keep_company(self) -> None:
        """Make passes with the others until none has any left of its own.

        Raises:
            WorkerError: one of them has ended.
        """


class EncoderSpec(Protocol):
    """A description of an encoder that pickles: settings, paths of checkpoints, a name; never a model.

    ``portable`` says whether another process can load it: None, or why it cannot.
    """

    @property
    def not_portable(self) -> str | None: ...

    def load(self) -> Encoder:
        """Return the encoder; once a process."""


class ShardTask(NamedTuple):
    """One shard at one checkpoint."""

    checkpoint: int
    shard: Shard

    @property
    def n_rows(self) -> int:
        return self.shard.stop - self.shard.start


@dataclass(frozen=True, slots=True)
class FillJob:
    """What is filled, from what, by what. Pickles: the pool as the paths of its parsed tables."""

    store: FeatureStore
    pool: Pool
    spec: EncoderSpec

    def unwritten(self, tasks: Sequence[ShardTask]) -> list[ShardTask]:
        """Return those of the tasks whose shard is not written; of a worker that ended."""
        missing = {t: set(self.store.missing(t)) for t in {task.checkpoint for task in tasks}}
        return [task for task in tasks if task.shard in missing[task.checkpoint]]


class Watcher(Protocol):
    """Who is told how the work goes."""

    def advance(self, n: float) -> None:
        """Take note that ``n`` more records are done."""

    def note_refused(self, task: ShardTask, n_refused: int) -> None:
        """Take note of records that cannot be used, before their shard is computed; raises to stop the work."""

    def note_written(self, task: ShardTask) -> None:
        """Take note that its shard is written; raises to stop the work."""


class Executor(Protocol):
    """Who does the work of a job. Entered, it keeps for the next job what it started, until it is left."""

    @property
    def threads(self) -> int | None:
        """The threads of each process; None: as many as torch is set to here."""

    @property
    def is_here(self) -> bool:
        """Whether it computes in this process, with the model that is loaded here."""

    @property
    def rank(self) -> Rank | None:
        """Which process of a launcher's this is, whose part of the shards alone is made; None: there are no others."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...

    def devices(self) -> list[DeviceReport]:
        """Return what its workers compute on; nothing where that is what this process computes on."""

    def has_work(self, tasks: Sequence[ShardTask]) -> bool:
        """Return whether there is anything to do here where these tasks are left: any of them, or others' beside it."""

    def run(self, job: FillJob, tasks: Sequence[ShardTask], watcher: Watcher) -> None:
        """Compute and write every task's shard; whichever is written counts, whatever happens to the others.

        Raises:
            HandpickError: of the encoder, the store, or the watcher.
        """


class WorkIsTasks:
    """The part of an ``Executor`` whose processes need each other for nothing: no task left is nothing to do."""

    def has_work(self, tasks: Sequence[ShardTask]) -> bool:
        """Return whether any task is left."""
        return bool(tasks)
