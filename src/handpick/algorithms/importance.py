"""Importance sampling: a draw without replacement with chances that follow exp(score / temperature).

DSIR (Xie et al. NeurIPS 2023, arXiv 2302.03169) draws so from its log-weights; that any similarity can stand in for
them is ours. The draw is Gumbel top-k (Kool et al. ICML 2019, arXiv 1903.06059, section 2): add independent
Gumbel(0, 1) noise to each log-weight and take the largest. The first is then drawn by the softmax, the second by the
softmax of what is left, and so on.

Shapes: Q queries, N candidates, B picks.
"""

import numpy as np
from numpy.typing import NDArray

from handpick.algorithms.protocol import Picks, Request
from handpick.algorithms.tie_rule import first_columns, largest_similarity


def importance(request: Request) -> Picks:
    """Rank by the largest similarity to any query, divided by the temperature, plus noise.

    A scorer has one row, so its score is that largest similarity. The picks' scores are the sums with the noise; a
    pick's query is the nearest, the first of equals. Reads the similarity once and holds a few vectors of length N.
    """
    largest_N, nearest_N = largest_similarity(request.similarity)
    noisy_N = largest_N.astype(np.float64) / request.settings.importance_temperature
    noisy_N += _gumbel(request.seed, largest_N.size)
    columns_B = first_columns(noisy_N, largest_N, request.budget)
    return Picks(columns_B, noisy_N[columns_B].astype(np.float32), nearest_N[columns_B].astype(np.int64))


def _gumbel(seed: int, count: int) -> NDArray[np.float64]:
    """Draw Gumbel(0, 1) noise that the seed and the place alone decide: a longer vector begins with a shorter one.

    From the raw bits of PCG64, which NumPy promises never to change; what it makes of them it may. The upper 52 bits
    and a half are a number within (0, 1), both ends left out, so that no noise is infinite.
    """
    bits_N = np.random.PCG64(seed).random_raw(count)
    uniform_N = ((bits_N >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52
    gumbel_N: NDArray[np.float64] = -np.log(-np.log(uniform_N))
    return gumbel_N
