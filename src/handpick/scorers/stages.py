"""A stage of a run: it is named by its inputs, priced, and run, from one object."""

from typing import Protocol

from handpick.costs.cost import StageKind, Work
from handpick.costs.probe import Probing
from handpick.executors import Executor
from handpick.fingerprint import Fingerprint


class Stage(Protocol):
    """One step from data to a similarity. A run runs its stages in order; a plan asks each for its work instead."""

    @property
    def kind(self) -> StageKind: ...

    def inputs(self) -> Fingerprint:
        """Return what the stage's result depends on. Where a stage before this one has not run, it may be run."""

    def work(self, probing: Probing) -> Work:
        """Return what is left to do and what it will take; computes some of it, and writes nothing that stays."""

    def run(self, executor: Executor) -> None:
        """Make what is missing.

        Raises:
            HandpickError: of the kind that fits what is wrong; what was made before stays.
        """
