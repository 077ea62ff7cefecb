"""How promising an example is: Q = α·M + (1 − α)·R.

M is the classifier's probability that the example is hard, R its largest cosine to a known hard example. Before there
is a classifier every M is 1/2, and before there is a hard example every R is 0 (ours).

Source: IterSelectTune (arXiv 2410.13464), its final data quality score.

Legend: N candidates, R of them, H hard examples, D features.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from handpick.store.array import FeatureArray
from handpick.store.codec import Floats

UNKNOWN = 0.5  # M without a classifier
_ROWS = 1 << 13  # candidates that are compared at a time
_HARD = 1 << 11  # hard examples they are compared with


class NearestHard:
    """R of every candidate, kept up as hard examples come: each is compared once, and N × H is never held.

    Args:
        embeddings_ND: of the candidates, at unit norm.
    """

    def __init__(self, embeddings_ND: Floats | FeatureArray) -> None:
        self._embeddings_ND = embeddings_ND
        self._cosine_N = np.full(len(embeddings_ND), -np.inf, dtype=np.float32)
        self._nearest_N = np.full(len(embeddings_ND), -1, dtype=np.int64)

    @property
    def cosine_N(self) -> Floats:
        """R, float32 (N,)."""
        return np.where(self._nearest_N < 0, np.float32(0), self._cosine_N)

    @property
    def nearest_N(self) -> NDArray[np.int64]:
        """The name of the hard example that R is of, (N,); -1 where there is none; of equal ones the first."""
        return self._nearest_N

    def add(self, hard_HD: Floats, names_H: NDArray[np.int64]) -> None:
        """Add more hard examples, by their embeddings and what ``nearest_N`` is to call them, 0 or more."""
        for first in range(0, len(hard_HD), _HARD):
            some_HD, names = hard_HD[first : first + _HARD], names_H[first : first + _HARD]
            for start in range(0, len(self._cosine_N), _ROWS):
                cosine_BH = self._embeddings_ND[start : start + _ROWS] @ some_HD.T
                best_B = cosine_BH.argmax(axis=1)
                cosine_B = np.take_along_axis(cosine_BH, best_B[:, None], axis=1)[:, 0]
                here = slice(start, start + len(best_B))
                nearer_B = cosine_B > self._cosine_N[here]
                self._cosine_N[here] = np.where(nearer_B, cosine_B, self._cosine_N[here])
                self._nearest_N[here] = np.where(nearer_B, names[best_B], self._nearest_N[here])


def quality(hardness_N: Floats, cosine_N: Floats, alpha: float) -> Floats:
    """Compute Q, float32 (N,)."""
    return (alpha * hardness_N.astype(np.float64) + (1 - alpha) * cosine_N.astype(np.float64)).astype(np.float32)


def top_places(quality_N: Floats, n: int) -> NDArray[np.int64]:
    """Return the places of the ``n`` highest, highest first, of equal ones the first.

    All of them where there are fewer.
    """
    return np.argsort(-quality_N, kind="stable")[:n]


@dataclass(frozen=True, slots=True)
class ScoredCandidate:
    """A candidate by its row, with M, R and Q, and what ``nearest_N`` calls the hard example that R is of.

    ``hardness`` is None without a classifier; ``cosine`` is None and ``nearest`` -1 without a hard example.
    """

    row: int
    hardness: float | None
    cosine: float | None
    score: float
    nearest: int


def most_promising(
    rows: NDArray[np.int64], hardness_N: Floats | None, nearest: NearestHard, alpha: float, n: int
) -> list[ScoredCandidate]:
    """Return the ``n`` of the candidates in ``rows`` with the highest Q, highest first; fewer where there are fewer.

    Args:
        rows: candidates to take from.
        hardness_N: M of every candidate; None without a classifier.
        nearest: R of every candidate.
        alpha: weight of M.
        n: how many.
    """
    cosine_N, nearest_N = nearest.cosine_N, nearest.nearest_N
    m = np.full(len(rows), UNKNOWN, dtype=np.float32) if hardness_N is None else hardness_N[rows]
    quality_R = quality(m, cosine_N[rows], alpha)
    return [
        ScoredCandidate(
            int(row),
            None if hardness_N is None else float(hardness_N[row]),
            float(cosine_N[row]) if nearest_N[row] >= 0 else None,
            float(score),
            int(nearest_N[row]),
        )
        for row, score in ((rows[place], quality_R[place]) for place in top_places(quality_R, n))
    ]
