"""How much each query counts.

Shapes: Q queries.
"""

from collections.abc import Iterator
from itertools import cycle

import numpy as np
from numpy.typing import NDArray

from handpick.algorithms.protocol import Request


def members_of(subtasks: tuple[str, ...] | None, n_queries: int) -> list[list[int]]:
    """Return the queries of each subtask, subtasks in order of first appearance; without labels all are of one."""
    members: dict[str, list[int]] = {}
    for query, subtask in enumerate(subtasks or [""] * n_queries):
        members.setdefault(subtask, []).append(query)
    return list(members.values())


def query_mass(request: Request) -> NDArray[np.float64]:
    """Return what each query weighs, (Q,), sum 1: all the same, or with ``balanced`` every subtask the same."""
    n_queries = request.similarity.shape[0]
    if not request.balanced:
        return np.full(n_queries, 1 / n_queries)
    members = members_of(request.subtasks, n_queries)
    mass_Q = np.empty(n_queries)
    for queries in members:
        mass_Q[queries] = 1 / (len(members) * len(queries))
    return mass_Q


def take_turns(request: Request) -> Iterator[int]:
    """Yield whose turn it is, without end: each query's in order.

    ``balanced`` each subtask's, and in it each query's.
    """
    n_queries = request.similarity.shape[0]
    members = members_of(request.subtasks, n_queries) if request.balanced else [list(range(n_queries))]
    for own in cycle([cycle(queries) for queries in members]):
        yield next(own)
