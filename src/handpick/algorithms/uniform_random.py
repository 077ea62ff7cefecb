"""Random: a uniform draw without replacement, the baseline every study reports. Source: none needed."""

import numpy as np

from handpick.algorithms.protocol import Picks, Request
from handpick.random_streams import generator


def uniform_random(request: Request) -> Picks:
    """Take the head of a permutation of the candidates that the seed alone decides.

    The similarity gives only the number of candidates.
    """
    permutation_N = generator(request.seed, "random").permutation(request.similarity.shape[1])
    columns_B = permutation_N[: request.budget].astype(np.int64)
    return Picks(
        columns=columns_B,
        scores=np.zeros(columns_B.size, dtype=np.float32),
        queries=np.full(columns_B.size, -1, dtype=np.int64),
    )
