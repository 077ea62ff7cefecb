"""How near candidates are to the queries, from the features that a run has left behind.

Of every candidate the largest of its similarities to single queries. It is the run's own similarity, whatever the
algorithm made of it, so that chosen and passed over stand on one scale. Scores that look at no query (length,
perplexity, DSIR's weight) are taken as they are.

Shapes: Q queries, N candidates, B picks, C columns asked for, D features, T checkpoints.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from handpick.data.plain_text import contents, has_response
from handpick.data.pool import Pool
from handpick.draws import generator
from handpick.errors import HandpickError
from handpick.methods import REPRESENTATIONS
from handpick.pipeline.compared import fingerprint, moment_path, texts_of
from handpick.reporting.iterated import Iterated
from handpick.reporting.run_folder import SAMPLE, RunFolder
from handpick.settings import Settings
from handpick.similarity import StoredScores, StoredSimilarity, query_rows
from handpick.store import FeatureStore

Floats = NDArray[np.float32]

_WORDS = 50_000  # examples of a pool whose words are indexed again
_SEED = 0
_COLUMNS = 1024


@dataclass(frozen=True)
class Nearest:
    """``what`` it is, in words. ``pool`` of the candidates, or of ``SAMPLE`` drawn from them; ``chosen`` of the picks;
    ``drawn`` of a random draw of as many."""

    what: str
    candidates: int
    pool: Floats
    chosen: Floats
    drawn: Floats


class _Columns(Protocol):
    def columns(self, columns_C: NDArray[np.int64]) -> Floats: ...


def nearest(run: RunFolder) -> Nearest | str:
    """The similarities, or why there are none."""
    settings = run.made_by
    if isinstance(settings, Iterated):
        return "iterselect has no queries, and so neither a similarity nor a distance to them"
    name = settings.used_representation
    kind = REPRESENTATIONS[name]
    if kind.gives == "nothing":
        return f"the method {settings.method} looks at no similarity"
    try:
        if name in ("bm25", "dsir"):
            return _by_words(run, settings)
        return _by_features(run, settings)
    except (HandpickError, OSError) as error:
        return str(error)


def _by_features(run: RunFolder, settings: Settings) -> Nearest | str:
    stores = _stores(run, settings)
    pool_store = _like(stores, run.selection.fingerprints.get("pool"))
    if pool_store is None:
        return "the pool's features are not in the folder any more"
    name = settings.used_representation
    if REPRESENTATIONS[name].gives == "scores":
        similarity: _Columns = _OneScore(pool_store)
        what = f"score by {name}"
    elif "scores for" in pool_store.manifest.space:
        similarity, what = StoredScores(pool_store), "similarity to the nearest query"
    else:
        query_store = _like(stores, run.selection.fingerprints.get("query"))
        if query_store is None:
            return "the queries' features are not in the folder any more"
        query_TQD = query_rows(pool_store, query_store)
        if name == "whitened":
            moments = [moment_path(pool_store, t) for t in range(len(query_TQD))]
            if not all(path.exists() for path in moments):
                return "the pool's covariance is not in the folder any more"
            query_TQD = [_whitened(rows, path, settings) for rows, path in zip(query_TQD, moments, strict=True)]
        says_Q = np.any([np.abs(rows_QD).max(axis=1) > 0 for rows_QD in query_TQD], axis=0)
        similarity = StoredSimilarity(pool_store, [rows_QD[says_Q] for rows_QD in query_TQD])
        what = "similarity to the nearest query"
    column_of = {example_id: column for column, example_id in enumerate(pool_store.rows().iter_ids())}
    if any(each not in column_of for each in run.selection.ids):
        return "not every pick is among the features in the folder"
    return _measured(what, similarity, len(pool_store), [column_of[each] for each in run.selection.ids])


class _OneScore:
    """The one score of every candidate, as a similarity to one query."""

    def __init__(self, store: FeatureStore) -> None:
        self._rows = store.on_disk(0, normalized=False)

    def columns(self, columns_C: NDArray[np.int64]) -> Floats:
        return self._rows[columns_C].T


def _measured(what: str, similarity: _Columns, n: int, chosen: Sequence[int]) -> Nearest:
    stream = generator(_SEED, "shown beside the chosen")
    drawn = np.sort(stream.permutation(n)[: len(chosen)])
    some = np.arange(n) if n <= SAMPLE else np.sort(stream.choice(n, SAMPLE, replace=False))
    each = [_largest(similarity, np.asarray(columns, dtype=np.int64)) for columns in (some, chosen, drawn)]
    return Nearest(what, n, *each)


def _largest(similarity: _Columns, columns_C: NDArray[np.int64]) -> Floats:
    """Over the queries."""
    parts = [columns_C[start : start + _COLUMNS] for start in range(0, len(columns_C), _COLUMNS)]
    return np.concatenate([similarity.columns(part).max(axis=0) for part in parts])


def _stores(run: RunFolder, settings: Settings) -> list[FeatureStore]:
    folders = [path.parent for path in sorted((run.path / "features").glob("*/manifest.json"))]
    if settings.store is not None:
        folders.append(Path(settings.store))
    return [FeatureStore.open(folder, allow_incomplete=True) for folder in folders]


def _like(stores: Sequence[FeatureStore], wanted: Any) -> FeatureStore | None:
    """The complete store that the selection was made with."""
    for store in stores:
        complete = not any(store.missing(t) for t in range(len(store.checkpoints)))
        if complete and json.loads(json.dumps(fingerprint(store))) == wanted:
            return store
    return None


def _whitened(rows_QD: Floats, moment: Path, settings: Settings) -> Floats:
    from handpick.represent.whitening import whitened

    return whitened(rows_QD, np.load(moment), settings.whitening_damping)


def _by_words(run: RunFolder, settings: Settings) -> Nearest | str:
    if run.pool is None or run.queries is None:
        return "the words of pool and queries are needed, and not both can be read"
    pool = run.pool.pool
    if len(pool) > _WORDS:
        return f"the pool has more than {_WORDS:,} examples, whose words would have to be read again"
    column_of = _columns_with_response(pool)
    texts = [contents(messages) for messages in run.queries.values()]
    if settings.used_representation == "dsir":
        from handpick.represent.dsir import Dsir

        by = Dsir.fit(texts_of(pool), texts, smoothing=settings.dsir_smoothing)
        similarity, what = _Given(by.scores(texts_of(pool))[None]), "log importance weight"
    else:
        from handpick.represent.bm25 import Bm25

        index = Bm25(texts_of(pool))
        largest_N = np.max([index.scores([text])[0] for text in texts], axis=0)
        similarity, what = _Given(largest_N[None]), "BM25 of the nearest query"
    return _measured(what, similarity, len(column_of), [column_of[each] for each in run.selection.ids])


class _Given:
    """Scores in memory."""

    def __init__(self, scores_QN: NDArray[Any]) -> None:
        self._scores_QN = scores_QN

    def columns(self, columns_C: NDArray[np.int64]) -> Floats:
        return self._scores_QN[:, columns_C].astype(np.float32)


def _columns_with_response(pool: Pool) -> dict[str, int]:
    """What ``texts_of`` gives, by the example's id."""
    examples = pool.examples(0, len(pool))
    ids = [example.id for example in examples if has_response(example.messages)]
    return {example_id: column for column, example_id in enumerate(ids)}
