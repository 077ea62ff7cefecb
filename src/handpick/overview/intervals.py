"""Shares and means of a whole pool, told from a sample of it, with 95% intervals.

The intervals take the pool for endless: of a sample that is a large part of its pool they are wider than need be. Where
everything was looked at there is nothing to estimate, and both ends are the value.
"""

import math

import numpy as np
from numpy.typing import NDArray

from handpick.evaluation.estimate import Estimate

_Z = 1.959964  # of 95%


def share(count: int, n: int, *, whole: bool) -> Estimate:
    """Return a share with Wilson's interval (1927).

    Args:
        count: of those that are so.
        n: of those looked at, at least 1.
        whole: whether these are all.
    """
    from scipy.stats import binomtest  # type: ignore[import-untyped]

    if whole:
        return Estimate(count / n, count / n, count / n, n)
    ends = binomtest(count, n).proportion_ci(method="wilson")
    return Estimate(count / n, float(ends.low), float(ends.high), n)


def mean(value_R: NDArray[np.int64], *, whole: bool) -> Estimate:
    """Return a mean with the interval of the normal distribution, for samples of some hundred and more.

    Args:
        value_R: of those looked at, at least one.
        whole: whether these are all.
    """
    value, n = float(value_R.mean()), len(value_R)
    if whole:
        return Estimate(value, value, value, n)
    if n < 2:
        return Estimate(value, math.nan, math.nan, n)
    half = _Z * float(value_R.std(ddof=1)) / math.sqrt(n)
    return Estimate(value, value - half, value + half, n)
