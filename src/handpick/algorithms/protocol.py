"""What an algorithm is given, what it gives back, and its line in the table.

Shapes: Q queries, N candidates, B budget or columns of a block, C columns asked for, E features; A and B rows of two
sets of features.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from handpick.algorithms.settings import AlgorithmSettings

Values = NDArray[np.floating[Any]]
Kernel = Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.float32]]


def inner_products(rows_AE: NDArray[np.float32], rows_BE: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the inner products of all pairs of rows, (A, B)."""
    products_AB: NDArray[np.float32] = rows_AE @ rows_BE.T
    return products_AB


class Similarity(Protocol):
    """Q × N similarities, all finite, that need not fit in memory: read in passes, a block of columns at a time."""

    @property
    def shape(self) -> tuple[int, int]:
        """(Q, N)."""

    def blocks(self) -> Iterator[tuple[int, Values]]:
        """Yield all columns in order, in one pass: the first one's number and the values (Q, B), not to be written to.

        Every pass gives the same values. A block may be a view that the next one overwrites.
        """

    def columns(self, columns_C: NDArray[np.int64]) -> Values:
        """Return the values of some columns, (Q, C), in new memory."""


class ColumnBlocks(Protocol):
    """Some of a similarity's columns, one behind the other, which can be read in passes."""

    @property
    def shape(self) -> tuple[int, int]: ...

    def blocks(self) -> Iterator[tuple[int, Values]]: ...


@runtime_checkable
class SharedSimilarity(Protocol):
    """A similarity that several workers read, a share of the columns each."""

    def shares(self) -> Sequence[tuple[int, ColumnBlocks]]:
        """Return the shares in order, with the first column's number; as many as there are workers, or fewer."""


@dataclass(frozen=True, eq=False)
class Request:
    """All that an algorithm may look at, checked before it gets here.

    An algorithm reads the fields it needs and no others, so that a field added for a new algorithm
    changes none of the old ones.

    ``budget`` is from 1 to N. ``subtasks`` has a label for every query. With ``balanced`` every subtask counts the
    same, however many queries it has. ``candidates`` gives the features of some columns, float32 (C, E); None where
    there are no features. ``kernel`` makes of two sets of these the candidates' similarities to each other.
    """

    similarity: Similarity
    budget: int
    subtasks: tuple[str, ...] | None = None
    seed: int = 0
    balanced: bool = False
    candidates: Callable[[NDArray[np.int64]], NDArray[np.float32]] | None = None
    kernel: Kernel = inner_products
    settings: AlgorithmSettings = field(default_factory=AlgorithmSettings)


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
    ``whole`` says that it goes through the similarity many times or in no order, so that one which is computed as it
    is read should be written down first.
    """

    choose: Callable[[Request], Picks]
    summary: str
    source: str
    reads: frozenset[str] = frozenset()
    whole: bool = False
