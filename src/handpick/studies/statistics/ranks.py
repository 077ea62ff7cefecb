"""Spearman's rho, its interval and its p."""

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from scipy import stats  # type: ignore[import-untyped]

from handpick.studies.statistics.intervals import TAIL

_Z = NormalDist().inv_cdf(TAIL)
_LEAST_POINTS = 4  # of a correlation: its interval divides by n − 3
_PERMUTATIONS = 9999


def spearman(x_N: Sequence[float], y_N: Sequence[float]) -> tuple[float, float, float, float] | None:
    """Compute Spearman's rho (ties share their mean rank), its interval by ``rho_interval``, and its p.

    p is the share of all pairings of the two sides whose rho is at least as far from 0, on either side of it, as this
    one's; or of 9,999 drawn with a fixed seed where there are more than that, this one counted among them, so that it
    is never 0 (Phipson and Smyth 2010, arXiv 1603.05766). It holds for few points and for ties, where the usual t
    distribution does not; nor, with ties, does twice the smaller tail, since the two tails differ.

    Args:
        x_N: finite values.
        y_N: as many.

    Returns:
        rho, low, high, p; None of fewer than four points and where one side is constant.
    """
    n = len(x_N)
    if n < _LEAST_POINTS or len(set(x_N)) == 1 or len(set(y_N)) == 1:
        return None
    x_rank_N, y_rank_N = _unit_ranks(x_N), _unit_ranks(y_N)
    rho = max(-1.0, min(1.0, float(x_rank_N @ y_rank_N)))
    p = stats.permutation_test(
        (x_rank_N,),
        # rounded: pairings that are as far from none as each other must compare as equal
        lambda sample, axis: np.round(np.abs((sample * y_rank_N).sum(axis=axis)), 12),
        permutation_type="pairings",
        alternative="greater",
        n_resamples=_PERMUTATIONS,
        vectorized=True,
        rng=np.random.default_rng(0),
    ).pvalue
    return rho, *rho_interval(rho, n), float(p)


def rho_interval(rho: float, n: int) -> tuple[float, float]:
    """Compute the 95% interval of a Spearman's rho over n points, at least four.

    tanh(atanh rho ± z sqrt((1 + rho²/2)/(n − 3))), with the variance of Bonett and Wright (Psychometrika 65, 2000);
    Pearson's 1/(n − 3) is too small for ranks. It covers the truth as often as it says from ten points on, and too
    seldom with few points of a close relation. Where all ranks agree z is infinite: there (our own convention) the
    inner end is that of the order with one swap of neighbours, and the outer end 1.
    """
    one_swap = 1 - 12 / (n * (n**2 - 1))
    inner = max(-one_swap, min(one_swap, rho))
    half = _Z * math.sqrt((1 + inner**2 / 2) / (n - 3))
    low = -1.0 if rho < inner else math.tanh(math.atanh(inner) - half)
    high = 1.0 if rho > inner else math.tanh(math.atanh(inner) + half)
    return low, high


def _unit_ranks(values_N: Sequence[float]) -> NDArray[np.float64]:
    """Return ranks, centred and scaled to length 1: the product of two such is their correlation."""
    rank_N = stats.rankdata(values_N)
    centred_N = rank_N - rank_N.mean()
    unit_N: NDArray[np.float64] = centred_N / np.sqrt(centred_N @ centred_N)
    return unit_N
