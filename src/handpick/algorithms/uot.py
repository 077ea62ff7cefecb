"""Unbalanced optimal transport: the queries' mass is sent to candidates at least cost, most mass received first.

Source: TIS, Nayak et al. ICML 2026, arXiv 2602.14696: cost (1 − S)/2, entropy ε = 0.01, queries send all of their
mass, candidates may receive more or less than their share at a price of 1e-4 (KL). The entropy is measured against
the product of the two marginals, as the released code does. That the matrix is streamed is ours.

Shapes: Q queries, N candidates, B picks, C picks looked at together.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from handpick.algorithms.protocol import Picks, Request, Similarity
from handpick.algorithms.queries import query_mass
from handpick.algorithms.sinkhorn import transport
from handpick.algorithms.tie_rule import first_columns, largest_similarity

_TOLERANCE = 1e-9  # of a log mass
_PLACES = 8  # of a log mass, for what is compared
_VALUES = 1 << 18  # similarities looked at together when picks are given their query


def uot(request: Request) -> Picks:
    """Rank by the mass a candidate receives; a pick's query is the one that sends it the most, the first of equals.

    Masses reach down to e^-100 and below, so what is compared are their logarithms in float64, rounded to 8 places:
    the same mass summed in another order stays the same mass. The scores are float32, where the least are 0.

    About seven passes over the similarity at the default settings; more where the relaxation is not small against
    epsilon. Holds a few vectors of length N.
    """
    similarity, settings = request.similarity, request.settings
    mass_Q = query_mass(request)
    scaling = transport(
        similarity,
        _cost,
        mass_Q,
        epsilon=settings.uot_epsilon,
        relaxation=settings.uot_relaxation,
        tolerance=_TOLERANCE,
    )
    log_mass_N = scaling.log_mass_N.round(_PLACES)
    largest_N, _ = largest_similarity(similarity)
    columns_B = first_columns(log_mass_N, largest_N, request.budget)
    queries_B = _senders(similarity, columns_B, np.log(mass_Q) + scaling.row_Q, settings.uot_epsilon)
    return Picks(columns_B, np.exp(log_mass_N[columns_B]).astype(np.float32), queries_B)


def _cost(similarity_QC: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    # In float64 and rows first, whatever comes, so that neither type nor memory layout changes a sum.
    return (1 - similarity_QC.astype(np.float64, order="C")) / 2


def _senders(
    similarity: Similarity, columns_B: NDArray[np.int64], weight_Q: NDArray[np.float64], epsilon: float
) -> NDArray[np.int64]:
    """Return the query that sends each column the most; what a column is scaled by is the same for all of them."""
    queries_B = np.empty(columns_B.size, dtype=np.int64)
    step = max(1, _VALUES // weight_Q.size)
    for start in range(0, columns_B.size, step):
        here = slice(start, start + step)
        log_sent_QC = weight_Q[:, None] - _cost(similarity.columns(columns_B[here])) / epsilon
        queries_B[here] = np.argmax(log_sent_QC.round(_PLACES), axis=0)
    return queries_B
