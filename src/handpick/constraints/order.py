"""An algorithm's order, asked for in blocks as far as it is looked at."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from handpick.algorithms import Picks

Order = Callable[[int], Picks]  # the first so many picks; fewer are the head of more

# Columns whose features are read together. The order is asked for in multiples of it, so that a column is always
# looked at beside the same others and a product has the same last bits whatever the budget.
BLOCK = 256


class Pick(NamedTuple):
    """As a row of ``Picks``; ``target`` is whose turn it was, where several take turns."""

    column: int
    score: float
    query: int
    target: str = ""


def combine_picks(picks: Iterable[Pick]) -> Picks:
    """Return single picks, at least one, put together."""
    columns, scores, queries, _ = zip(*picks, strict=True)
    return Picks(np.array(columns, np.int64), np.array(scores, np.float32), np.array(queries, np.int64))


def pick_blocks(order: Order, n: int, expected: int, target: str) -> Iterator[list[Pick]]:
    """Yield a target's order in blocks: first a little beyond what is expected, twice as far when that runs out."""
    asked = 0
    while asked < n:
        until = min(n, max(2 * asked, (expected // BLOCK + 1) * BLOCK))
        picks = order(until)
        for start in range(asked, until, BLOCK):
            here = slice(start, start + BLOCK)
            rows = (picks.columns[here].tolist(), picks.scores[here].tolist(), picks.queries[here].tolist())
            yield [Pick(*row, target) for row in zip(*rows, strict=True)]
        asked = until


def column_blocks(columns: Sequence[int]) -> Iterator[Sequence[int]]:
    """Yield columns in blocks of the same size."""
    for start in range(0, len(columns), BLOCK):
        yield columns[start : start + BLOCK]
