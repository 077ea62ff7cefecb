"""How near candidates are to the queries, from the features that a run has left behind.

Of every candidate the largest of its similarities to single queries. It is the run's own similarity, whatever the
algorithm made of it, so that chosen and passed over stand on one scale. Scores that look at no query (length,
perplexity, DSIR's weight) are taken as they are.

Shapes: N candidates, C columns asked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from handpick.data.plain_text import contents
from handpick.errors import HandpickError
from handpick.random_streams import generator
from handpick.reporting.iterated import Iterated
from handpick.reporting.run_folder import SAMPLE, RunFolder
from handpick.scorers.finished_run import Columns, FinishedRun
from handpick.scorers.scorer import reopen_scorer
from handpick.store.codec import Floats

_SEED = 0
_COLUMNS = 1024


@dataclass(frozen=True)
class NearestSimilarities:
    """``what`` it is, in words. ``pool`` of the candidates, or of ``SAMPLE`` drawn from them; ``chosen`` of the picks;
    ``drawn`` of a random draw of as many. ``sentence`` is what the representation says of the choice, where it has
    something to say."""

    what: str
    candidates: int
    pool: Floats
    chosen: Floats
    drawn: Floats
    sentence: str | None = None


def nearest_similarities(run: RunFolder) -> NearestSimilarities | str:
    """Return the similarities, or why there are none."""
    if isinstance(run.made_by, Iterated):
        return "iterselect has no queries, and so neither a similarity nor a distance to them"
    finished = FinishedRun(
        run.path,
        run.made_by,
        run.selection.fingerprints,
        None if run.pool is None else run.pool.pool,
        None if run.queries is None else [contents(messages) for messages in run.queries.values()],
    )
    try:
        reopened = reopen_scorer(finished)
        if isinstance(reopened, str):
            return reopened
        column_of = reopened.column_of
        if any(each not in column_of for each in run.selection.ids):
            return "not every pick is among the features in the folder"
        chosen = [column_of[each] for each in run.selection.ids]
        near = _compare(reopened.what, reopened.similarity, len(column_of), chosen)
        tell = reopened.sentence
        return near if tell is None else replace(near, sentence=tell(near.chosen, near.pool))
    except (HandpickError, OSError) as error:
        return str(error)


def _compare(what: str, similarity: Columns, n: int, chosen: Sequence[int]) -> NearestSimilarities:
    stream = generator(_SEED, "shown beside the chosen")
    drawn = np.sort(stream.permutation(n)[: len(chosen)])
    some = np.arange(n) if n <= SAMPLE else np.sort(stream.choice(n, SAMPLE, replace=False))
    of_some, of_chosen, of_drawn = (
        _largest(similarity, np.asarray(columns, dtype=np.int64)) for columns in (some, chosen, drawn)
    )
    return NearestSimilarities(what, n, of_some, of_chosen, of_drawn)


def _largest(similarity: Columns, columns_C: NDArray[np.int64]) -> Floats:
    """Return the largest over the queries."""
    parts = [columns_C[start : start + _COLUMNS] for start in range(0, len(columns_C), _COLUMNS)]
    return np.concatenate([similarity.columns(part).max(axis=0) for part in parts])
