"""KNN-KDE: every query spreads its mass over the candidates nearest it, the less to each the more crowded it stands.

Source: TSDS, Liu et al. NeurIPS 2024, arXiv 2410.11303, algorithm 2, and its released code where the paper is silent;
distance 1 - S as in TIS, Nayak et al. ICML 2026, arXiv 2602.14696. Weights of queries are ours, and change nothing
where they are all 1/Q. So is reading the level s from sorted steps; the paper grows it step by step from a heap.

Shapes: Q queries, N candidates, L places of a list, M candidates on any list, R rows and C columns of a block of
candidates, K nearest of a candidate.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from handpick.algorithms.knn_mass import neighbourhood, picks_by_mass, sum_mass
from handpick.algorithms.protocol import Kernel, Picks, Request, inner_products
from handpick.algorithms.queries import query_mass
from handpick.errors import SettingsError
from handpick.progress import log

_ROWS = 2048  # candidates compared with as many others at a time: their similarities take 16 MiB


def knn_kde(request: Request) -> Picks:
    """Rank by mass; a pick's query is the one that gave it most. Warns where the lists are too short for the settings.

    At most a tenth of the pool is looked at for each query, and for each density, as in TSDS's code. Reads the
    similarity once, and the features of the M candidates on any list about M / 2048 times.

    Raises:
        SettingsError: the candidates have no features, and ``kde_width`` asks for densities.
    """
    settings = request.settings
    if request.candidates is None and settings.kde_width > 0:
        raise SettingsError(
            "knn-kde compares candidates with each other, and this representation gives them no features; "
            "choose knn-uniform, or set kde_width to 0"
        )
    a_tenth = max(1, request.similarity.shape[1] // 10)
    near = neighbourhood(request.similarity, min(settings.knn_neighbours, a_tenth))
    density_QL = np.ones_like(near.distance)
    if request.candidates is not None and settings.kde_width > 0:
        columns_M, where_QL = np.unique(near.columns, return_inverse=True)
        neighbours = min(settings.kde_neighbours, a_tenth)
        density_M = densities(request.candidates, columns_M, settings.kde_width, neighbours, request.kernel)
        density_QL = density_M[where_QL]
    mass_QL, enough = kde_mass(near.distance, density_QL, query_mass(request), settings.knn_alpha, settings.knn_scale)
    if not enough:
        log(
            f"knn-kde: the {near.columns.shape[1]:,} nearest candidates of every query all get mass, and it would go "
            f"farther; raise knn_neighbours (now {settings.knn_neighbours:,}; at most a tenth of the pool is used) or "
            f"knn_alpha (now {settings.knn_alpha:g}), or lower knn_scale (now {settings.knn_scale:g})"
        )
    return picks_by_mass(sum_mass(near.columns, mass_QL), near, request.budget)


def kde_mass(
    distance_QL: NDArray[np.float64],
    density_QL: NDArray[np.float64],
    mass_Q: NDArray[np.float64],
    alpha: float,
    scale: float,
) -> tuple[NDArray[np.float64], bool]:
    """Return what each query gives to each place of its list, float64 (Q, L), and whether the lists were long enough.

    At level s a query with mass m gives m / (s · density) to one place after another until it has no more; the last
    place takes whatever is left. The higher s, the more even and the farther the mass goes. s minimises
    alpha / scale · (mean distance that mass is moved) + (1 - alpha) / s. It is the first level, of those at which some
    query fills a place, where alpha / scale · Σ_q mass_q Σ_k (d_{q,K+1} - d_{q,k}) / density_{q,k} ≥ 1 - alpha, with k
    over the K places that query q has filled. If there is none, the lists are too short, and s is the highest level.

    Args:
        distance_QL: to the nearest candidates, nearest first; any distance.
        density_QL: of these candidates, above 0.
        mass_Q: what each query has to give, sum 1.
        alpha: above 0 and below 1; the larger, the nearer the mass stays.
        scale: what distances are divided by, above 0.
    """
    if distance_QL.shape[1] == 1:  # the last place is the only one
        return mass_Q[:, None], False
    room_QL = 1 / density_QL
    room_QL[:, -1] = np.inf
    filled_QL = np.cumsum(room_QL, axis=1)  # the level at which a place is full; the last one never is
    # The sum above grows by this when a place is filled.
    growth_QL = mass_Q[:, None] * filled_QL[:, :-1] * np.diff(distance_QL, axis=1)
    level_P = filled_QL[:, :-1].ravel()
    order_P = np.argsort(level_P, kind="stable")
    enough_P = alpha / scale * np.cumsum(growth_QL.ravel()[order_P]) >= 1 - alpha
    enough = bool(enough_P.any())
    level = level_P[order_P[np.argmax(enough_P) if enough else -1]]
    before_QL = np.concatenate([np.zeros((len(mass_Q), 1)), filled_QL[:, :-1]], axis=1)
    # A full place gets exactly its room: what rounding takes off the difference would break ties.
    taken_QL = np.where(filled_QL <= level, room_QL, np.clip(level - before_QL, 0, room_QL))
    return mass_Q[:, None] * taken_QL / level, enough


def densities(
    candidates: Callable[[NDArray[np.int64]], NDArray[np.float32]],
    columns_M: NDArray[np.int64],
    width: float,
    neighbours: int,
    kernel: Kernel = inner_products,
) -> NDArray[np.float64]:
    """Return how crowded each of these candidates stands among them, float64 (M,), from 1 on.

    The sum of max(0, 1 - dist² / width²) over the ``neighbours`` nearest of them, with dist² = 2 (1 - similarity), as
    between unit vectors. A candidate is among its own nearest, as in TSDS's code, and counts exactly 1 whatever its
    features' length, so that no density is 0. No kernel is above 1: a dist² below 0 is rounding, and read as 0.
    """
    # A width far below what rounding leaves of a distance finds exact copies, and must not overflow.
    slope = 2 / max(width**2, 1e-30)
    count = min(neighbours, columns_M.size)
    starts = range(0, columns_M.size, _ROWS)
    density_M = np.empty(columns_M.size)
    for start in starts:
        rows_R = columns_M[start : start + _ROWS]
        features_RE = candidates(rows_R)
        best_RK = np.zeros((rows_R.size, count), dtype=features_RE.dtype)
        for other in starts:
            features_CE = features_RE if other == start else candidates(columns_M[other : other + _ROWS])
            similarity_RC = kernel(features_RE, features_CE)
            if other == start:
                np.fill_diagonal(similarity_RC, 1)
            # Most rows have nobody near in most blocks: sorting out the largest would cost more than the product.
            near = np.flatnonzero(similarity_RC.max(axis=1) >= 1 - 1 / slope)
            kernel_RC = np.maximum(1 - slope * np.maximum(1 - similarity_RC[near], 0), 0)
            both_RC = np.concatenate([best_RK[near], kernel_RC], axis=1)
            best_RK[near] = np.partition(both_RC, -count, axis=1)[:, -count:]
        density_M[start : start + _ROWS] = best_RK.sum(axis=1, dtype=np.float64)
    return density_M
