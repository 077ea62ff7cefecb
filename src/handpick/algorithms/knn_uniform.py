"""KNN-uniform: every query shares its mass evenly among its K nearest candidates; the largest total comes first.

Source: TSDS, Liu et al. NeurIPS 2024, arXiv 2410.11303, algorithm 1, with distance 1 - S as in TIS, Nayak et al. ICML
2026, arXiv 2602.14696. Their queries all weigh 1/Q; weights are ours, and change nothing where they are all 1/Q.

Shapes: Q queries, L places of a list, K places that get mass.
"""

import numpy as np
from numpy.typing import NDArray

from handpick.algorithms.knn_mass import neighbourhood, picks_by_mass, sum_mass
from handpick.algorithms.protocol import Picks, Request
from handpick.algorithms.queries import query_mass
from handpick.progress import log


def knn_uniform(request: Request) -> Picks:
    """Rank by mass; a pick's query is the one that gave it most. Warns where K grows so large that most masses tie.

    Reads the similarity once and holds ``knn_neighbours`` places per query and three vectors of length N.
    """
    n_candidates = request.similarity.shape[1]
    settings = request.settings
    near = neighbourhood(request.similarity, settings.knn_neighbours)
    mass_QK = uniform_mass(near.distance, query_mass(request), settings.knn_alpha, settings.knn_scale)
    (_, length), (_, used) = near.columns.shape, mass_QK.shape
    if used == length or 2 * used >= n_candidates:
        log(
            f"knn-uniform: every query shares its mass among {used:,} candidates, of {length:,} that are looked at and "
            f"{n_candidates:,} in the pool, so many masses tie and the largest similarity decides; raise knn_alpha "
            f"(now {settings.knn_alpha:g}) or lower knn_scale (now {settings.knn_scale:g}) for a smaller share"
        )
    return picks_by_mass(sum_mass(near.columns[:, :used], mass_QK), near, request.budget)


def uniform_mass(
    distance_QL: NDArray[np.float64], mass_Q: NDArray[np.float64], alpha: float, scale: float
) -> NDArray[np.float64]:
    """Return what each query gives to each of its K nearest candidates, float64 (Q, K), K from 1 to L.

    K minimises alpha / scale · (mean distance that mass is moved) + (1 - alpha) / K: to go from K to K + 1 places is
    worth while as long as alpha / scale · Σ_q mass_q Σ_{k≤K} (d_{q,K+1} - d_{q,k}) < 1 - alpha. With masses 1/Q that
    is the condition of algorithm 1, divided by Q.

    Args:
        distance_QL: to the nearest candidates, nearest first; any distance.
        mass_Q: what each query has to give, sum 1.
        alpha: above 0 and below 1; the larger, the fewer places.
        scale: what distances are divided by, above 0.
    """
    length = distance_QL.shape[1]
    # What the k-th place adds on average over the queries; all that the condition needs of the distances.
    mean_L = mass_Q @ distance_QL
    places = np.arange(1, length)
    cost = places * mean_L[1:] - np.cumsum(mean_L)[:-1]
    enough = np.flatnonzero(alpha / scale * cost >= 1 - alpha)
    used = int(places[enough[0]]) if enough.size else length
    return np.repeat(mass_Q[:, None] / used, used, axis=1)
