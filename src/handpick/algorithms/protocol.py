"""What an algorithm is given, what it gives back, and its line in the table.

Shapes: Q queries, N candidates, B budget.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Similarity = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class Request:
    """All that an algorithm may look at, checked before it gets here.

    An algorithm reads the fields it needs and no others, so that a field added for a new algorithm
    changes none of the old ones.

    ``similarity`` (Q, N) is finite, of any float type, and may be a memory map: it is read, never written,
    and never copied whole. ``budget`` is from 1 to N. ``subtasks`` has a label for every query.
    """

    similarity: Similarity
    budget: int
    subtasks: tuple[str, ...] | None = None
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Picks:
    """The chosen candidates, in order of choice.

    ``columns`` int64 (B,), no repeats. ``scores`` float32 (B,), the values ranked on; 0 where the
    algorithm ranks on none. ``queries`` int64 (B,), the row each was picked for; -1 where there is none.
    """

    columns: NDArray[np.int64]
    scores: NDArray[np.float32]
    queries: NDArray[np.int64]


@dataclass(frozen=True)
class Algorithm:
    """One line of the table of algorithms.

    ``reads`` names the fields of Request it reads beside the similarity and the budget; it ignores the rest.
    """

    choose: Callable[[Request], Picks]
    summary: str
    source: str
    reads: frozenset[str] = frozenset()
