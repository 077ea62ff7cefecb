"""Cuts a query set in two, several times over, so that whoever chooses by a half is judged by the other (ours).

Queries that say the same are kept on one side: else a candidate would be judged by what it has chosen by. Of every
subtask each side has its share.

Legend: Q queries, R repeats.
"""

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array  # type: ignore[import-untyped]
from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped]

from handpick.data.words import words_of
from handpick.errors import DataError

HALVES = 2
LEAST = 8  # different queries, so that a half has four


def group_queries(prompts: Sequence[str], examples: Sequence[str | None] | None = None) -> NDArray[np.int64]:
    """Number the queries by what they ask: those with the same words, in whatever case and spacing, are one group.

    Args:
        prompts: of the queries.
        examples: what each is a repetition of, in other words or another language; those of one are one group too.
            None, of one or of all: of nothing that is known.
    """
    keys: list[Hashable] = [tuple(words_of(prompt)) or prompt for prompt in prompts]
    number_Q = _number(keys)
    if examples is not None:
        label_Q = _number([("alone", place) if each is None else each for place, each in enumerate(examples)])
        ends = (number_Q, label_Q + number_Q.max() + 1)  # words on one side, examples on the other; a query joins two
        n = int(ends[1].max()) + 1
        _, joined = connected_components(coo_array((np.ones(len(keys)), ends), shape=(n, n)), directed=False)
        number_Q = _number(joined[number_Q].tolist())
    return number_Q


def _number(keys: Sequence[Hashable]) -> NDArray[np.int64]:
    """Number keys in the order in which they first come."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)


def split_queries(
    group_Q: NDArray[np.int64], subtasks: Sequence[str | None], repeats: int, seed: int
) -> NDArray[np.int64]:
    """Return the side of every query in every repeat, 0 or 1, int (R, Q).

    A subtask's groups are dealt in a random order, each to the side that has fewer of its queries, and of all.

    Raises:
        DataError: there are too few different queries.
    """
    groups, first_of, size_of = np.unique(group_Q, return_index=True, return_counts=True)
    if len(groups) < LEAST:
        raise DataError(
            f"an audition splits the queries, and there are {len(groups)} different ones: give {LEAST} at least, or "
            "choose with a --method of your own"
        )
    side_RQ = np.empty((repeats, len(group_Q)), dtype=np.int64)
    for repeat in range(repeats):
        rng = np.random.default_rng([seed, repeat])
        totals = np.zeros(HALVES, dtype=np.int64)
        side_of: dict[int, int] = {}
        by_subtask: dict[str, list[int]] = {}
        for place in rng.permutation(len(groups)).tolist():
            by_subtask.setdefault(str(subtasks[first_of[place]] or ""), []).append(place)
        for subtask in sorted(by_subtask):
            own = np.zeros(HALVES, dtype=np.int64)
            for place in by_subtask[subtask]:
                side = min(range(HALVES), key=lambda each: (int(own[each]), int(totals[each]), each))
                side_of[int(groups[place])] = side
                own[side] += size_of[place]
                totals[side] += size_of[place]
        side_RQ[repeat] = [side_of[group] for group in group_Q.tolist()]
    return side_RQ
