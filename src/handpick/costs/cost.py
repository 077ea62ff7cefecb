"""What a plan says: stages, each with its cost."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


@dataclass(frozen=True, slots=True)
class Amount:
    """An estimate and its 95% interval; all three the same where it was counted."""

    value: float
    low: float
    high: float

    @classmethod
    def exactly(cls, value: float) -> "Amount":
        return cls(value, value, value)

    def times(self, factor: float) -> "Amount":
        return Amount(self.value * factor, self.low * factor, self.high * factor)

    def plus(self, other: "Amount | float") -> "Amount":
        """Return the sum.

        Both may be off in the same way (one machine, one sample), so the intervals add up in full.
        """
        if not isinstance(other, Amount):
            other = Amount.exactly(other)
        return Amount(self.value + other.value, self.low + other.low, self.high + other.high)

    @property
    def is_exact(self) -> bool:
        return self.low == self.high


class StageKind(StrEnum):
    """What a stage does, in the words of a plan; those of several checkpoints have a line a checkpoint."""

    READ = "read and parse"
    WARMUP = "warmup"
    CALIBRATION = "calibration"
    PATH = "target's path"
    ANSWERS = "answers"
    QUERY = "query features"
    POOL = "pool features"
    COVARIANCE = "covariance"
    LANDMARKS = "landmark features"
    SPREAD = "spread"
    REFINED = "refined features"
    INDEX = "index and scores"
    CUT = "prefilter"
    LEFT = "of what a prefilter leaves"
    CHOICE = "similarity and choice"


@dataclass(frozen=True, slots=True)
class StageCost:
    """One line of a plan. None stands for what does not apply, or was not estimated: ``note`` says which.

    A stage of a selection has its ``kind``, and a digest of its ``inputs``: two of the same are done once.

    ``tokens`` go through the model in this stage, all epochs together. ``flops`` are of the formula in flops.py.
    ``disk`` and ``memory`` are bytes: what stays on disk, and the most that the process holds at a time (on a GPU, what
    the GPU holds). ``there`` means that an earlier run has left it, and that it costs nothing now. ``shards`` are what
    workers take of it one by one; 0: it is the driver's own.
    """

    name: str
    examples: int | None = None
    tokens: Amount | None = None
    flops: float | None = None
    disk: int = 0
    memory: int | None = None
    seconds: Amount | None = None
    note: str = ""
    there: bool = False
    shards: int = 0
    kind: StageKind | None = None
    inputs: str = ""

    @classmethod
    def left(cls, kind: StageKind, name: str = "", note: str = "an earlier run left them") -> "StageCost":
        """Return the line of what is there already."""
        return cls(name or kind.value, seconds=Amount.exactly(0.0), note=note, there=True, kind=kind)

    def to_json(self) -> dict[str, Any]:
        """Return it for machines."""
        return {name: value for name, value in asdict(self).items() if name not in ("kind", "inputs")}


@dataclass(frozen=True, slots=True)
class Extent:
    """What is compared: N candidates of ``dim`` features (0: there are none) at T checkpoints, with Q queries."""

    candidates: int
    dim: int
    checkpoints: int
    queries: int


@dataclass(frozen=True, slots=True)
class Work:
    """What is left of a stage, how that was estimated, what would be cheaper, and what is compared when it is done."""

    lines: list[StageCost]
    notes: list[str] = field(default_factory=list)
    cheaper: list[str] = field(default_factory=list)
    extent: Extent | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """The stages in order, how they were estimated, and what would make them cheaper."""

    command: str
    stages: list[StageCost]
    notes: list[str]
    cheaper: list[str]

    @property
    def total(self) -> StageCost:
        """All stages together; memory is the largest, since they come after each other."""
        return StageCost(
            "total",
            tokens=_sum(stage.tokens for stage in self.stages),
            flops=sum(stage.flops or 0 for stage in self.stages) or None,
            disk=sum(stage.disk for stage in self.stages),
            memory=max((stage.memory for stage in self.stages if stage.memory is not None), default=None),
            seconds=_sum(stage.seconds for stage in self.stages),
        )

    def to_json(self) -> dict[str, Any]:
        """Return it for machines: bytes, seconds, operations, tokens."""
        return {
            "command": self.command,
            "stages": [stage.to_json() for stage in self.stages],
            "total": self.total.to_json(),
            "notes": self.notes,
            "cheaper": self.cheaper,
        }


def _sum(amounts: Iterable[Amount | None]) -> Amount | None:
    total: Amount | None = None
    for amount in amounts:
        if amount is not None:
            total = amount if total is None else total.plus(amount)
    return total
