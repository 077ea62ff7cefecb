"""Entropic optimal transport from queries to candidates, by scaling rows and columns in turn (Sinkhorn).

The plan P ≥ 0, (Q, N), is the one that makes

    Σ P·c + ε KL(P | a bᵀ) + ρ KL(column sums of P | b)    smallest, with row sums of exactly a

for costs c, query masses a and candidates of the same mass b = 1/N each. With ρ infinite the column sums are exactly b
and this is plain entropic transport.

Source: Chizat et al., "Scaling algorithms for unbalanced optimal transport problems", Mathematics of Computation 2018,
arXiv 1607.05816. All sums are taken in the log domain, where a cost of hundreds of ε is a number like any other and
not an underflow. That one pass does a step of both sides is ours.

Shapes: Q queries, N candidates, B columns of a block.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handpick.algorithms.protocol import Similarity
from handpick.progress import log

Array = NDArray[np.float64]
Cost = Callable[[NDArray[np.floating[Any]]], Array]  # from similarities to costs in float64, value by value

_MOST_PASSES = 1000


@dataclass(frozen=True, eq=False)
class Scaling:
    """P[q, n] = a_q · b · exp(row_q + column_n − c_qn / ε), all that there is of a plan without its Q·N values.

    ``log_mass_N`` is the logarithm of the plan's column sums.
    """

    row_Q: Array
    column_N: Array
    log_mass_N: Array


def transport(
    similarity: Similarity, cost: Cost, mass_Q: Array, *, epsilon: float, relaxation: float, tolerance: float
) -> Scaling:
    """Compute the plan between the queries and all candidates.

    Every step takes the row scalings to at most ρ/(ρ+ε) of their largest distance from their limit, whatever the costs.
    It ends when none moves by more than ``tolerance``: then no logarithm of a column's mass is further than that from
    its limit, and every row sum is right but for a factor of exp(±tolerance). It also ends, and says so, after 1,000
    steps; with ρ far below ε a handful is enough.

    A step is one pass over the similarity. Holds one vector of length N and a few of length Q.

    Args:
        similarity: read once per step.
        cost: what a similarity costs.
        mass_Q: a, positive, sum 1.
        epsilon: ε, weight of the entropy.
        relaxation: ρ, weight of the candidates' marginal; may be infinite.
        tolerance: in logarithms.
    """
    damping = 1 / (1 + epsilon / relaxation)
    soft_N = np.empty(similarity.shape[1])
    row_Q = np.zeros(similarity.shape[0])
    for _ in range(_MOST_PASSES):
        previous_Q = row_Q
        row_Q = _step(similarity, cost, epsilon, damping, np.log(mass_Q) + previous_Q, soft_N)
        moved = np.abs(row_Q - previous_Q).max()
        if moved <= tolerance:
            break
    else:
        log(
            f"optimal transport: after {_MOST_PASSES:,} passes a row scaling still moves by {moved:.1e}, "
            f"more than {tolerance:.1e}; the last plan is used. A larger epsilon or a smaller relaxation helps."
        )
    # soft_N is of the scalings before the last step, so those are the ones that go with it
    return Scaling(previous_Q, -damping * soft_N, (1 - damping) * soft_N - np.log(soft_N.size))


def _step(similarity: Similarity, cost: Cost, epsilon: float, damping: float, weight_Q: Array, soft_N: Array) -> Array:
    """Compute the next row scalings, (Q,), from log a + row.

    The columns' sums log Σ_q exp(weight_q − c_qn/ε) go to soft_N.
    """
    sum_Q = np.full(weight_Q.size, -np.inf)
    for start, block_QB in similarity.blocks():
        kernel_QB = cost(block_QB) / -epsilon
        soft_B = _log_sum_exp(kernel_QB + weight_Q[:, None], axis=0)
        soft_N[start : start + soft_B.size] = soft_B
        kernel_QB -= damping * soft_B
        sum_Q = np.logaddexp(sum_Q, _log_sum_exp(kernel_QB, axis=1))
    scaled_Q: Array = np.log(soft_N.size) - sum_Q
    return scaled_Q


def _log_sum_exp(values_QB: Array, axis: int) -> Array:
    largest = values_QB.max(axis=axis, keepdims=True)
    total: Array = np.log(np.exp(values_QB - largest).sum(axis=axis)) + largest.squeeze(axis)
    return total
