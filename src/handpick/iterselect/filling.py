"""Filling the budget without a judge: the most promising go straight into the hard set, a batch at a time.

After every batch R is taken anew, so that what was just taken draws its likes after it. A smaller budget is a prefix.

Source: IterSelectTune (arXiv 2410.13464), its inference mode.

Legend: N examples of the pool, D features.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from handpick.iterselect.score import Floats, NearestHard, best, quality
from handpick.progress import progress
from handpick.store.array import FeatureArray


@dataclass(frozen=True, slots=True)
class Filled:
    """A row that was taken, with M, R and Q at that time, and the row of the hard example it was nearest to, or -1."""

    row: int
    hardness: float
    cosine: float
    score: float
    nearest: int


def filled(
    hardness_N: Floats, embeddings_ND: Floats | FeatureArray, hard: NDArray[np.int64], out: NDArray[np.int64],
    *, alpha: float, n: int, batch: int,
) -> list[Filled]:  # fmt: skip
    """The ``n`` rows that are taken, in order; fewer where there are fewer.

    Args:
        hardness_N: M of every row.
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
    left_N = np.ones(len(hardness_N), dtype=np.bool_)
    left_N[hard] = left_N[out] = False
    found: list[Filled] = []
    with progress("filling the budget", total=min(n, int(left_N.sum()))) as advance:
        while len(found) < n and left_N.any():
            rows = np.flatnonzero(left_N)
            cosine_N, nearest_N = nearest.cosine_N, nearest.nearest_N
            quality_N = quality(hardness_N[rows], cosine_N[rows], alpha)
            taken = rows[best(quality_N, batch)]
            score = dict(zip(rows.tolist(), quality_N.tolist(), strict=True))
            found += [
                Filled(row, float(hardness_N[row]), float(cosine_N[row]), score[row], int(nearest_N[row]))
                for row in taken.tolist()
            ]
            left_N[taken] = False
            advance(min(len(taken), n - len(found) + len(taken)))
            if len(found) < n:
                nearest.add(_rows(embeddings_ND, taken), taken)
    return found[:n]


def _rows(embeddings_ND: Floats | FeatureArray, rows: NDArray[np.int64]) -> Floats:
    return np.asarray(embeddings_ND[rows], dtype=np.float32)
