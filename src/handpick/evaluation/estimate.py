"""A mean over examples and its 95% bootstrap interval.

Records of one example (a question under ten templates, in twelve languages) say less than as many examples would.
So the records of an example are averaged first, and whole examples are resampled: the interval is about the next
examples of the kind, not about other wordings of these. Intervals are bias-corrected and accelerated (BCa, Efron
1987), by ``scipy.stats.bootstrap``.

Legend: R records, E examples, K strata.
"""

import math
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_RESAMPLES = 2000  # the ends are then right within about .4% of probability
_SEED = 0
_AT_A_TIME = 1 << 22  # resampled values in memory

Values = Sequence[float] | NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A value, its 95% interval, and how many independent examples are behind it.

    Where all examples have the same value the interval has no width: a bootstrap cannot know better. Of a single
    example there is no interval, and ``low`` and ``high`` are NaN (null in JSON).
    """

    value: float
    low: float
    high: float
    n: int

    def to_json(self) -> dict[str, Any]:
        low, high = (None if math.isnan(end) else end for end in (self.low, self.high))
        return {"value": self.value, "low": low, "high": high, "n": self.n}

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> "Estimate":
        low, high = (math.nan if found[name] is None else found[name] for name in ("low", "high"))
        return cls(float(found["value"]), float(low), float(high), int(found["n"]))


def mean(value_R: Values, example_R: Sequence[Hashable], weight_R: Values | None = None) -> Estimate:
    """Return the mean over examples of the mean over an example's records.

    Args:
        value_R: of the records, finite, at least one.
        example_R: what a record is a repetition of.
        weight_R: of the records, positive: the ratio of the two means, of weight × value and of weight. None: all 1.
    """
    weight = np.ones(len(value_R)) if weight_R is None else np.asarray(weight_R, dtype=float)
    top_E = _average_by_example(np.asarray(value_R) * weight, example_R)
    bottom_E = _average_by_example(weight, example_R)
    value = float(top_E.mean() / bottom_E.mean())
    if weight_R is None:
        low, high = _interval((top_E,), lambda sample, axis: sample.mean(axis=axis), [top_E - value])
    else:
        low, high = _interval(
            (top_E, bottom_E),
            lambda top, bottom, axis: top.mean(axis=axis) / bottom.mean(axis=axis),
            [top_E - value * bottom_E],
            paired=True,
        )
    return Estimate(value, low, high, len(top_E))


def macro_mean(value_R: Values, example_R: Sequence[Hashable], subtask_R: Sequence[Hashable]) -> Estimate:
    """Average each subtask's ``mean``: every subtask counts the same, however many examples it has.

    An example may stand in several subtasks (one a template) and is then resampled in all of them together. Examples
    are resampled among those that stand in the same subtasks, so that every subtask keeps its size; of a stratum with
    a single example nothing is known of the spread, and it is held fixed.

    Args:
        value_R: of the records, finite, at least one.
        example_R: what a record is a repetition of.
        subtask_R: where it stands.
    """
    of_cell: dict[tuple[Hashable, Hashable], list[float]] = defaultdict(list)
    for value, example, subtask in zip(value_R, example_R, subtask_R, strict=True):
        of_cell[example, subtask].append(float(value))
    size: dict[Hashable, int] = defaultdict(int)  # examples a subtask
    stands_in: dict[Hashable, set[Hashable]] = defaultdict(set)
    for example, subtask in of_cell:
        size[subtask] += 1
        stands_in[example].add(subtask)
    # the macro mean is a sum of what each example adds to it
    adds: dict[Hashable, float] = defaultdict(float)
    for (example, subtask), values in of_cell.items():
        adds[example] += float(np.mean(values)) / (size[subtask] * len(size))
    strata: dict[frozenset[Hashable], list[float]] = defaultdict(list)
    for example, subtasks in stands_in.items():
        strata[frozenset(subtasks)].append(adds[example])
    fixed = math.fsum(each[0] for each in strata.values() if len(each) == 1)
    several = tuple(np.array(each) for each in strata.values() if len(each) > 1)
    value = math.fsum(adds.values())

    def total(*samples: NDArray[np.float64], axis: int) -> Any:
        return fixed + sum(s.mean(axis=axis) * len(all_) for s, all_ in zip(samples, several, strict=True))

    low, high = _interval(several, total, [each - each.mean() for each in several]) if several else (math.nan, math.nan)
    return Estimate(value, low, high, len(adds))


def _average_by_example(value_R: NDArray[np.float64], example_R: Sequence[Hashable]) -> NDArray[np.float64]:
    """Average by example, in the order in which the examples first come."""
    index: dict[Hashable, int] = {}
    row_R = np.array([index.setdefault(example, len(index)) for example in example_R])
    sum_E = np.bincount(row_R, weights=value_R)
    return sum_E / np.bincount(row_R)


def _interval(
    samples: tuple[NDArray[np.float64], ...],
    statistic: Any,
    pulls: Sequence[NDArray[np.float64]],
    *,
    paired: bool = False,
) -> tuple[float, float]:
    """Return the ends for a statistic of some samples.

    ``pulls`` says how far each example pulls it away from its value.
    """
    from scipy.stats import bootstrap  # type: ignore[import-untyped]

    if len(samples[0]) < 2:
        return math.nan, math.nan
    centre = float(statistic(*samples, axis=-1))
    largest = max(np.abs(sample).max() for sample in samples)
    if all(np.abs(pull).max() <= 1e-12 * largest for pull in pulls):  # no spread: BCa would divide by it
        return centre, centre
    found = bootstrap(
        samples,
        statistic,
        n_resamples=_RESAMPLES,
        batch=max(1, _AT_A_TIME // sum(map(len, samples))),
        vectorized=True,
        paired=paired,
        method="BCa",
        rng=np.random.default_rng(_SEED),
    ).confidence_interval
    return float(found.low), float(found.high)
