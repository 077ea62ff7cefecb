"""Filling the budget without a judge: the most promising go straight into the hard set, a batch at a time.

After every batch R is taken anew, so that what was just taken draws its likes after it. A smaller budget is a prefix.

Source: IterSelectTune (arXiv 2410.13464), its inference mode.

Legend: N examples of the pool, D features.
"""

import numpy as np
from numpy.typing import NDArray

from handpick.iterselecttune.score import NearestHard, ScoredCandidate, most_promising
from handpick.progress import progress
from handpick.store.array import FeatureArray
from handpick.store.codec import Floats


def fill_budget(
    hardness_N: Floats | None,
    embeddings_ND: Floats | FeatureArray,
    hard: NDArray[np.int64],
    out: NDArray[np.int64],
    *,
    alpha: float,
    n: int,
    batch: int,
) -> list[ScoredCandidate]:
    """Choose the ``n`` rows that are taken, in order; fewer where there are fewer.

    Args:
        hardness_N: M of every row; None without a classifier.
        embeddings_ND: at unit norm.
        hard: rows that are known to be hard; they are not taken again.
        out: rows that are not taken either.
        alpha: weight of M.
        n: how many to take.
        batch: how many at a time.
    """
    if n < 1:
        return []
    nearest = NearestHard(embeddings_ND)
    nearest.add(_rows(embeddings_ND, hard), hard)
    left_N = np.ones(len(embeddings_ND), dtype=np.bool_)
    left_N[hard] = left_N[out] = False
    found: list[ScoredCandidate] = []
    with progress("filling the budget", total=min(n, int(left_N.sum()))) as advance:
        while len(found) < n and left_N.any():
            taken = most_promising(np.flatnonzero(left_N), hardness_N, nearest, alpha, batch)
            rows = np.array([each.row for each in taken], dtype=np.int64)
            found += taken
            left_N[rows] = False
            advance(min(len(taken), n - len(found) + len(taken)))
            if len(found) < n:
                nearest.add(_rows(embeddings_ND, rows), rows)
    return found[:n]


def _rows(embeddings_ND: Floats | FeatureArray, rows: NDArray[np.int64]) -> Floats:
    return np.asarray(embeddings_ND[rows], dtype=np.float32)
