"""Which candidates a prefilter leaves: of every query its own best, so that each still finds its candidates. Ours.

    left = the first n, each once, of: the best of query 1, of query 2, …, the second best of query 1, …

which is the union of the queries' top lists, all of the same depth, but that the last places go to the first queries.
Never a global top: a query that nothing is very similar to would be left with nothing. Lists are in the order that all
algorithms share (``algorithms/tie_rule.py``).

Shapes: Q queries, N candidates, L places of a list, B columns of a block.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from handpick.algorithms import Similarity
from handpick.algorithms.nearest import nearest_columns
from handpick.algorithms.tie_rule import largest_similarity
from handpick.documents import DAMAGED
from handpick.errors import SettingsError, StoreError
from handpick.files import read_array, write_array
from handpick.fingerprint import Fingerprint, digest
from handpick.layout import CutLayout, RunLayout
from handpick.sealed import unseal, write_sealed
from handpick.store.memory import available_bytes

_PLACE = 4 * 24  # bytes that a place of a list takes while lists are made


def best_columns(similarity: Similarity, n: int, without_N: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
    """Return the ``n`` columns that are left, ascending, int64; fewer where there are no more.

    One pass over the similarity gives every query a list of twice its share. Where the queries agree so much that their
    lists hold too few, another gives lists twice as long: log2 Q passes at most. Holds lists of up to twice the depth
    that is reached, Q · n places where all queries are the same.

    Args:
        similarity: gone through by blocks.
        n: at least 1.
        without_N: columns to leave out.

    Raises:
        SettingsError: the lists do not fit in memory.
    """
    n_queries, n_candidates = similarity.shape
    n = min(n, n_candidates if without_N is None else int(np.count_nonzero(~without_N)))
    length = min(n, 2 * math.ceil(n / n_queries))
    while True:
        _check_room(n_queries, length)
        lists_QL = nearest_columns(similarity, length, without_N).columns
        in_turn = lists_QL.T.ravel()  # place by place, and at each the queries in order
        columns, first = np.unique(in_turn, return_index=True)
        if len(columns) >= n:
            return np.sort(columns[np.argsort(first)[:n]])
        length = min(n, 2 * length)


def _check_room(n_queries: int, length: int) -> None:
    needed, free = n_queries * length * _PLACE, available_bytes()
    if needed > free:
        raise SettingsError(
            f"lists of {n_queries:,} queries with {length:,} places each take {needed / 1e9:.0f} GB and "
            f"{free / 1e9:.0f} GB are free: give a smaller --prefilter-share or --refine, or fewer queries"
        )


def list_depths(similarity: Similarity, left_N: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return how deep each query's list goes: how many of its best are all left, int64 (Q,).

    Args:
        similarity: gone through by blocks, three times.
        left_N: which columns are left.
    """
    n_queries, n_candidates = similarity.shape
    if left_N.all():
        return np.full(n_queries, n_candidates)
    missed = nearest_columns(similarity, 1, without_N=left_N)  # the best of those that are not
    column_Q, score_Q = missed.columns, missed.scores  # (Q, 1)
    largest_N, _ = largest_similarity(similarity)
    largest_Q = largest_N[column_Q]
    depth_Q = np.zeros(n_queries, dtype=np.int64)
    for start, block_QB in similarity.blocks():
        index_B = np.arange(start, start + block_QB.shape[1])
        largest_B = largest_N[index_B]
        first_QB = (largest_B > largest_Q) | ((largest_B == largest_Q) & (index_B < column_Q))  # of those that tie
        depth_Q += np.count_nonzero((block_QB > score_Q) | ((block_QB == score_Q) & first_QB), axis=1)
    return depth_Q


@dataclass(frozen=True, eq=False)
class Cut:
    """What was left of a pool, in its rows, ascending.

    ``checked`` were drawn from those that were not, and ``checked_ids`` are their ids. ``depths`` is as in
    ``Prefiltered``. ``made_from`` is what all that depends on.
    """

    left: NDArray[np.int64]
    checked: NDArray[np.int64]
    checked_ids: Sequence[str]
    depths: Mapping[str, int]
    made_from: Fingerprint

    @property
    def rows(self) -> NDArray[np.int64]:
        """The rows that are scored, ascending: those left, and those that are checked."""
        return np.union1d(self.left, self.checked)

    def folder_in(self, run: RunLayout) -> CutLayout:
        """Return the folder of the cut and all that is made of what it left."""
        return run.cut(digest(self.made_from))


def write_cut(cut: Cut, folder: CutLayout) -> None:
    """Write down which rows are left and checked, and how deep the lists go.

    Raises:
        StoreError: the folder cannot be written.
    """
    try:
        folder.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"cannot make {folder.folder}: {error.strerror}; choose another --out") from error
    write_array(folder.left, cut.left)
    write_array(folder.checked, cut.checked)
    record = {"made_from": cut.made_from, "checked": list(cut.checked_ids), "depths": dict(cut.depths)}
    write_sealed(folder.record, record)


def read_cut(folder: CutLayout) -> Cut | None:
    """Read a cut that was written down; None where there is none, or it was not written to its end.

    Raises:
        StoreError: it is damaged.
    """
    if not folder.record.exists():
        return None
    try:
        record = unseal(json.loads(folder.record.read_bytes()))
        left, checked = read_array(folder.left), read_array(folder.checked)
        return Cut(left, checked, record["checked"], record["depths"], record["made_from"])
    except DAMAGED as error:
        raise StoreError(f"{folder.record} cannot be read ({error}); remove {folder.folder}, and run again") from error
