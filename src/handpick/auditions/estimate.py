"""How much better than random draws a candidate does on queries that it did not choose by, with an interval (ours).

The queries vary, and so do trained models: another draw, or another seed of the training, and all queries move
together. The interval has both: the variance of a mean over queries (those that repeat each other count as one), and
that of a model, for which stands the variance among the random draws, whose models differ in their examples and in
their seed. It is Student's, with the degrees of freedom of Satterthwaite (Biometrics Bulletin 2, 1946).

Where several candidates are held against random, each at 1 − α, the best of them looks better than it is: the caller
divides α by their number (Bonferroni).

Legend: Q queries, J trained models of a candidate, D random draws.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats  # type: ignore[import-untyped]

Floats = NDArray[np.float64]
_NO_SPREAD = 1e-12  # of the values themselves: below it is rounding


@dataclass(frozen=True, slots=True)
class Judges:
    """Who judges: for each query the target that it is of and the group of those that repeat each other.

    Every target counts the same, however many queries it has.
    """

    target_Q: NDArray[np.int64]
    group_Q: NDArray[np.int64]

    def among(self, kept_Q: NDArray[np.bool_]) -> "Judges":
        """Return some of them."""
        return Judges(self.target_Q[kept_Q], self.group_Q[kept_Q])

    @property
    def weight_Q(self) -> Floats:
        """What each query counts for; 1 together."""
        _, of_Q, n_of_target = np.unique(self.target_Q, return_inverse=True, return_counts=True)
        weight_Q: Floats = 1 / (n_of_target[of_Q] * len(n_of_target))
        return weight_Q


@dataclass(frozen=True, slots=True)
class Gain:
    """How much better, in the metric's own unit; above 0 is better, of a loss as well. ``low`` and ``high`` are the
    ends of its interval; infinite where nothing tells how the value varies."""

    mean: float
    low: float
    high: float

    @property
    def is_clear(self) -> bool:
        """Whether the whole interval is better."""
        return self.low > 0


def gain_over_random(value_JQ: Floats, draw_DQ: Floats, judges: Judges, sign: int, confidence: float) -> Gain:
    """Return a candidate's gain over the mean of random draws.

    Args:
        value_JQ: of each trained model on the queries that it was not chosen by, NaN elsewhere; every query has one
            at least.
        draw_DQ: of each random draw on every query, two draws at least.
        judges: of the queries.
        sign: 1 where larger is better, −1 of a loss.
        confidence: of the interval, such as .95.
    """
    gain_Q = sign * (np.nanmean(value_JQ, axis=0) - draw_DQ.mean(axis=0))
    of_draw, of_own = _model_variances(draw_DQ, judges)
    models = of_own / len(value_JQ) + of_draw / len(draw_DQ)
    return _interval(gain_Q, judges, models, len(draw_DQ) - 1, confidence)


def gain_over_other(
    value_JQ: Floats, other_JQ: Floats, draw_DQ: Floats, judges: Judges, sign: int, confidence: float
) -> Gain:
    """Return a candidate's gain over another that was judged by the same queries; as ``gain_over_random``."""
    gain_Q = sign * (np.nanmean(value_JQ, axis=0) - np.nanmean(other_JQ, axis=0))
    _, of_own = _model_variances(draw_DQ, judges)
    models = of_own * (1 / len(value_JQ) + 1 / len(other_JQ))
    return _interval(gain_Q, judges, models, len(draw_DQ) - 1, confidence)


def can_move(values: Sequence[Floats]) -> bool:
    """Return whether a metric differs at all among models that were trained on different examples.

    Args:
        values: of several models, (…, Q) each, NaN where a model was not judged.
    """
    rows = np.vstack([each.reshape(-1, each.shape[-1]) for each in values])
    # NaN where there is another value is passed over, and a query that no model was judged on moves nothing
    return bool((np.fmax.reduce(rows, axis=0) > np.fmin.reduce(rows, axis=0)).any())


def _model_variances(draw_DQ: Floats, judges: Judges) -> tuple[float, float]:
    """Return the variance of a random draw's mean, and that of a candidate's.

    A draw is one model for all targets, in whose mean what is good for one and bad for another cancels out. A candidate
    has a model for each target, and nothing cancels out between them.
    """
    weight_Q = judges.weight_Q
    of_draw = float(np.var(draw_DQ @ weight_Q, ddof=1))
    parts = [judges.target_Q == target for target in np.unique(judges.target_Q)]
    alone = sum(float(np.var(draw_DQ[:, part] @ weight_Q[part], ddof=1)) for part in parts)
    return of_draw, max(of_draw, alone)


def _query_variances(gain_Q: Floats, judges: Judges) -> list[tuple[float, int]]:
    """Return what each target's queries add to the variance of the weighted mean, with its degrees of freedom.

    Each target has its own: many even queries of one do not make up for few uneven ones of another.
    """
    found: list[tuple[float, int]] = []
    for target in np.unique(judges.target_Q):
        of_Q = judges.target_Q == target
        _, group_Q = np.unique(judges.group_Q[of_Q], return_inverse=True)
        n = int(group_Q.max()) + 1
        if n < 2:
            return [(math.inf, 0)]
        weight_Q, own_Q = judges.weight_Q[of_Q], gain_Q[of_Q]
        pull_G = np.bincount(group_Q, weights=weight_Q * (own_Q - own_Q.mean()))
        found.append((float(pull_G @ pull_G) * n / (n - 1), n - 1))
    return found


def _interval(gain_Q: Floats, judges: Judges, models: float, freedom: int, confidence: float) -> Gain:
    mean = float(gain_Q @ judges.weight_Q)
    parts = [*_query_variances(gain_Q, judges), (models, freedom)]
    total = sum(variance for variance, _ in parts)
    if not math.isfinite(total):
        return Gain(mean, -math.inf, math.inf)
    if total <= (_NO_SPREAD * max(1.0, float(np.abs(gain_Q).max()))) ** 2:
        return Gain(mean, mean, mean)
    degrees = total**2 / sum(variance**2 / own for variance, own in parts)
    half = float(stats.t.ppf((1 + confidence) / 2, degrees)) * math.sqrt(total)
    return Gain(mean, mean - half, mean + half)
