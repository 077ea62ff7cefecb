"""Which candidates become landmarks: a uniform draw, or one from each k-means cluster of the cheap features.

The draw is Influence Distillation's (arXiv 2505.19051); the clusters are ours.

Legend: N candidates, L landmarks, M rows that clusters are found in, D features.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from handpick.random_streams import generator
from handpick.store.codec import Floats

_FITTED = 16  # rows a cluster that the centres are found in, at most
_ROUNDS = 10  # of Lloyd's algorithm
_COMPARED = 1 << 24  # products of rows and centres that are held at a time

RowsOf = Callable[[NDArray[np.int64]], Floats]


def draw_uniformly(n_candidates: int, n_landmarks: int, seed: int) -> NDArray[np.int64]:
    """Return landmarks, int64 (L,), ascending; fewer of them are a part of more."""
    return np.sort(generator(seed, "landmarks").permutation(n_candidates)[:n_landmarks])


def draw_from_clusters(rows_of: RowsOf, n_candidates: int, n_landmarks: int, seed: int) -> NDArray[np.int64]:
    """Return the candidate nearest to the centre of each of L clusters, int64 (L,), ascending.

    Lloyd's algorithm from random rows, ten rounds, in at most 16·L of the candidates; a cluster without rows is stood
    for by one at random.

    Args:
        rows_of: features of some candidates, (rows, D).
        n_candidates: N.
        n_landmarks: L, fewer than N.
        seed: of the draw.
    """
    order = generator(seed, "landmarks").permutation(n_candidates)
    some_M = np.sort(order[: _FITTED * n_landmarks])
    rows_MD = rows_of(some_M)
    first_L = np.searchsorted(some_M, order[:n_landmarks])
    centres_LD = rows_MD[first_L].astype(np.float32)
    for _ in range(_ROUNDS):
        nearest_M, _ = _nearest_centres(rows_MD, centres_LD)
        centres_LD = _means(rows_MD, nearest_M, centres_LD)
    nearest_M, distance_M = _nearest_centres(rows_MD, centres_LD)
    by_distance_M = np.argsort(distance_M, kind="stable")
    _, first = np.unique(nearest_M[by_distance_M], return_index=True)
    taken = some_M[by_distance_M[first]]
    others = order[~np.isin(order, taken)][: n_landmarks - len(taken)]
    return np.sort(np.concatenate([taken, others]))


def _nearest_centres(rows_MD: Floats, centres_LD: Floats) -> tuple[NDArray[np.int64], Floats]:
    """Return each row's nearest centre, int64 (M,), and how far it is, up to what is the row's own, (M,)."""
    half_L = np.einsum("ld,ld->l", centres_LD, centres_LD) / 2
    own_M = np.einsum("md,md->m", rows_MD, rows_MD) / 2
    nearest_M, distance_M = np.empty(len(rows_MD), np.int64), np.empty(len(rows_MD), np.float32)
    step = max(1, _COMPARED // len(centres_LD))
    for start in range(0, len(rows_MD), step):
        some = slice(start, start + step)
        far_BL = half_L - rows_MD[some] @ centres_LD.T
        nearest_M[some] = far_BL.argmin(axis=1)
        distance_M[some] = far_BL.min(axis=1) + own_M[some]
    return nearest_M, distance_M


def _means(rows_MD: Floats, nearest_M: NDArray[np.int64], centres_LD: Floats) -> Floats:
    """Return the mean row of every cluster; one without rows stays where it was."""
    order_M = np.argsort(nearest_M, kind="stable")
    clusters, starts, counts = np.unique(nearest_M[order_M], return_index=True, return_counts=True)
    means_LD = centres_LD.copy()
    means_LD[clusters] = np.add.reduceat(rows_MD[order_M], starts, axis=0) / counts[:, None]
    return means_LD
