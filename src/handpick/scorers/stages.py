"""A stage of a run: it is named by its inputs, priced, and run, from one object."""

from collections.abc import Callable
from dataclasses import dataclass

from handpick.costs.cost import StageKind, Work
from handpick.costs.probe import Probing
from handpick.executors import Executor
from handpick.fingerprint import Fingerprint


@dataclass(frozen=True)
class Stage:
    """One step from data to a similarity. A run runs its stages in order; a plan asks each for its work instead.

    Args:
        kind: what it makes.
        inputs: returns what the stage's result depends on. Where a stage before this one has not run, it may be run.
        work: returns what is left to do and what it will take; computes some of it, and writes nothing that stays.
        run: makes what is missing; raises a HandpickError of the kind that fits what is wrong, and what was made
            before stays.
    """

    kind: StageKind
    inputs: Callable[[], Fingerprint]
    work: Callable[[Probing], Work]
    run: Callable[[Executor], object]
