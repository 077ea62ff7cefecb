"""How near candidates are to the queries, from the features that a run has left behind.

Of every candidate the largest of its similarities to single queries. It is the run's own similarity, whatever the
algorithm made of it, so that chosen and passed over stand on one scale. Scores that look at no query (length,
perplexity, DSIR's weight) are taken as they are.

Shapes: N candidates, C columns asked for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from handpick.errors import HandpickError
from handpick.random_streams import generator
from handpick.reporting.iterated import Iterated
from handpick.reporting.run_folder import SAMPLE, RunFolder, as_finished
from handpick.scorers.finished_run import Columns
from handpick.scorers.scorer import reopen_scorer
from handpick.store.codec import Floats

_SEED = 0
_COLUMNS = 1024
_WHOLE = 50_000  # candidates that are all searched for the best of them
BEST = 1_000


@dataclass(frozen=True)
class NearestSimilarities:
    """``what`` it is, in words. ``pool`` of the candidates, or of ``SAMPLE`` drawn from them; ``chosen`` of the picks;
    ``drawn`` of a random draw of as many. ``best`` are ids and values of the ``BEST`` largest, of all candidates or, of
    more than can be searched for a page, of the ``searched``."""

    what: str
    candidates: int
    pool: Floats
    chosen: Floats
    drawn: Floats
    best: list[tuple[str, float]]
    searched: int


def nearest_similarities(run: RunFolder) -> NearestSimilarities | str:
    """Return the similarities, or why there are none."""
    if isinstance(run.made_by, Iterated):
        return "iterselect has no queries, and so neither a similarity nor a distance to them"
    try:
        reopened = reopen_scorer(as_finished(run, run.made_by))
        if isinstance(reopened, str):
            return reopened
        column_of = reopened.column_of
        if any(each not in column_of for each in run.selection.ids):
            return "not every pick is among the features in the folder"
        chosen = [column_of[each] for each in run.selection.ids]
        return _compare(reopened.what, reopened.similarity, column_of, chosen)
    except (HandpickError, OSError) as error:
        return str(error)


def _compare(
    what: str, similarity: Columns, column_of: Mapping[str, int], chosen: Sequence[int]
) -> NearestSimilarities:
    n = len(column_of)
    stream = generator(_SEED, "shown beside the chosen")
    drawn = np.sort(stream.permutation(n)[: len(chosen)])
    some = np.arange(n) if n <= SAMPLE else np.sort(stream.choice(n, SAMPLE, replace=False))
    searched = np.arange(n) if n <= _WHOLE else some
    largest_C = _largest(similarity, searched)
    pool, of_chosen, of_drawn = (
        _largest(similarity, np.asarray(each, dtype=np.int64)) for each in (some, chosen, drawn)
    )
    order = np.argsort(-largest_C, kind="stable")[:BEST]
    place_of = {column: place for place, column in enumerate(searched[order].tolist())}
    best = [("", 0.0)] * len(order)
    for example_id, column in column_of.items():
        if column in place_of:
            place = place_of[column]
            best[place] = (example_id, float(largest_C[order[place]]))
    return NearestSimilarities(what, n, pool, of_chosen, of_drawn, best, len(searched))


def _largest(similarity: Columns, columns_C: NDArray[np.int64]) -> Floats:
    """Return the largest over the queries."""
    parts = [columns_C[start : start + _COLUMNS] for start in range(0, len(columns_C), _COLUMNS)]
    return np.concatenate([similarity.columns(part).max(axis=0) for part in parts])
