"""Time on this machine: some of the batches that a run will compute are computed, and the others' time follows.

A batch takes a·1 + b·tokens + c·sequences + d·Σ T², with a, b, c, d ≥ 0 by least squares over batches drawn at random
(so that errors of the form cancel out in the sum). The interval is a bootstrap's over the batches that were timed. It
says nothing of what else the machine will be doing.

Shapes: B batches, F = 4 sizes of a batch.
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls  # type: ignore[import-untyped]

from handpick.costs.cost import Amount, StageKind, Work
from handpick.fingerprint import Fingerprint, digest

Floats = NDArray[np.float64]
T = TypeVar("T")

_RESAMPLES = 200
_ENOUGH = 3  # rounds over all batches, where they are few
_FEWEST = 2  # batches that are timed however long they take

clock = time.perf_counter  # what a plan's seconds are; a benchmark on a busy machine counts the process's own instead


@dataclass(frozen=True, slots=True)
class Probing:
    """What a plan lends to stages: seconds to compute for, about, and an empty folder that is removed afterwards.

    ``priced`` is the work of stages before, of this method and of those of the same rows that are planned beside it, by
    kind and digest of inputs; what any of them found out on the way, ``once`` gives again.
    """

    seconds: float
    scratch: Path
    priced: dict[tuple[StageKind, str], Work] = field(default_factory=dict)
    found: dict[str, Any] = field(default_factory=dict)

    def once(self, what: Fingerprint, find: Callable[["Probing"], T]) -> T:
        """Return what ``find`` finds; of the same work it is asked once, with an empty folder of its own.

        Args:
            what: all that it depends on.
            find: is given the plan's seconds, and may leave files in the folder.
        """
        key = digest(what)
        if key not in self.found:
            folder = Path(tempfile.mkdtemp(dir=self.scratch))
            self.found[key] = find(replace(self, scratch=folder))
        found: T = self.found[key]
        return found


class Size(NamedTuple):
    """Of one batch: sequences, and tokens of the longest."""

    sequences: int
    longest: int


def sizes_BF(sizes: Sequence[Size]) -> Floats:
    """Return what a batch's time is fitted on, float64 (B, F)."""
    found = [(1.0, s.sequences * s.longest, s.sequences, s.sequences * s.longest**2) for s in sizes]
    return np.array(found, dtype=np.float64).reshape(-1, 4)


@dataclass(frozen=True, slots=True)
class TimedBatches:
    """Batches that were timed, (B, F), and their seconds, (B,)."""

    sizes_BF: Floats
    seconds_B: Floats

    def estimate(self, sizes: Sequence[Size], scale: float = 1.0) -> Amount:
        """Estimate the time of other batches, all together, ``scale`` times."""
        if not sizes:
            return Amount.exactly(0.0)
        total_F = sizes_BF(sizes).sum(axis=0) * scale
        value = float(total_F @ _fit_seconds(self.sizes_BF, self.seconds_B))
        rng = np.random.default_rng(0)
        n = len(self.seconds_B)
        drawn = [
            float(total_F @ _fit_seconds(self.sizes_BF[rows], self.seconds_B[rows]))
            for rows in rng.integers(0, n, size=(_RESAMPLES, n))
        ]
        low, high = np.quantile(drawn, [0.025, 0.975]).tolist()
        return Amount(value, min(low, value), max(high, value))


def _fit_seconds(sizes_BF: Floats, seconds_B: Floats) -> Floats:
    unit_F = np.maximum(sizes_BF.max(axis=0), 1.0)
    weights_F: Floats = nnls(sizes_BF / unit_F, seconds_B)[0] / unit_F
    return weights_F


def time_batches(
    compute: Callable[[T], object], batches: Sequence[T], size: Callable[[T], Size], seconds: float, seed: int = 0
) -> TimedBatches:
    """Compute batches in a random order for about so many seconds, and note what each took.

    Args:
        compute: what a run does with a batch; called once before anything is noted.
        batches: of the run, at least one.
        size: of a batch.
        seconds: to stop after.
        seed: of the order.
    """
    order = np.random.default_rng(seed).permutation(len(batches)).tolist()
    began = clock()
    compute(batches[order[-1]])
    sizes: list[Size] = []
    took: list[float] = []
    for place in range(_ENOUGH * len(order)):
        if len(took) >= _FEWEST and clock() - began > seconds:
            break
        batch = batches[order[place % len(order)]]
        start = clock()
        compute(batch)
        took.append(clock() - start)
        sizes.append(size(batch))
    return TimedBatches(sizes_BF(sizes), np.array(took))


def time_once(compute: Callable[[], object]) -> float:
    """Time something, the second time that it is done."""
    compute()
    start = clock()
    compute()
    return clock() - start
