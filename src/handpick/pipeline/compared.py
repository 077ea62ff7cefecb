"""From settings and data to what an algorithm chooses by: each representation's way to a similarity.

Shapes: Q queries, N candidates, B picks, C columns asked for, T checkpoints, D features.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handpick.algorithms import Picks, Similarity, find
from handpick.algorithms.matrix import Matrix
from handpick.algorithms.part import Part
from handpick.data.plain_text import contents, has_response
from handpick.data.pool import Pool
from handpick.data.quarantine import Quarantine
from handpick.data.render import Renderer
from handpick.errors import DataError, SettingsError
from handpick.fingerprint import Fingerprint, digest
from handpick.methods import REPRESENTATIONS
from handpick.pipeline.features import Features, check_max_length
from handpick.pipeline.gist import GistStores, subtask_means
from handpick.pipeline.made_with import pool_store_path
from handpick.pipeline.objective import Own
from handpick.pipeline.rows import NO_RESPONSE, RowStores
from handpick.progress import say
from handpick.represent.fill import Prepares, rows_of, set_aside_unusable
from handpick.represent.gradient import tokens_a_batch
from handpick.represent.protocol import Representation
from handpick.represent.whitening import kept_second_moment, whitened
from handpick.settings import Settings, not_given
from handpick.similarity import StoredScores, StoredSimilarity, candidate_features, query_rows, written, written_rows
from handpick.store import FeatureStore
from handpick.store.manifest import contents_of
from handpick.store.memory import available_bytes

Floats = NDArray[np.float32]

_READ = 1024  # records that are read together
_IN_MEMORY = 1 << 30  # bytes of a similarity that is computed once and kept, if that is a quarter of what is free


@dataclass(frozen=True, slots=True)
class Data:
    """A pool or a query set, and where its bad records go."""

    pool: Pool
    quarantine: Quarantine


@dataclass(frozen=True, eq=False)
class Compared:
    """What an algorithm chooses by.

    ``rows`` are the columns' rows in the pool. ``query_ids`` and ``subtasks`` belong to the similarity's rows, and are
    empty where one score a candidate stands for all queries. ``candidates`` gives features of columns, (C, E), and
    ``queries`` those of single queries in the same space, (Q, E). ``nearest`` says which query a pick is for where the
    similarity's rows are not single queries.
    """

    similarity: Similarity
    rows: NDArray[np.int64]
    fingerprints: Fingerprint
    query_ids: list[str] = field(default_factory=list)
    subtasks: list[str] = field(default_factory=list)
    candidates: Callable[[NDArray[np.int64]], Floats] | None = None
    queries: Callable[[], Floats] | None = None
    nearest: Callable[[Picks], list[str | None]] | None = None

    def picked_for(self, picks: Picks) -> list[str | None]:
        """The id of the query that each pick is for."""
        if self.nearest is not None:
            return self.nearest(picks)
        if not self.query_ids:
            return [None] * len(picks.columns)
        return [self.query_ids[query] if query >= 0 else None for query in picks.queries.tolist()]

    def without(self, rows: Collection[int]) -> "Compared":
        """The same, with the columns of some of the pool's rows left out."""
        kept_N = np.flatnonzero(~np.isin(self.rows, list(rows)))
        if len(kept_N) == len(self.rows):
            return self
        candidates, nearest = self.candidates, self.nearest
        return replace(
            self,
            similarity=Part(self.similarity, columns_N=kept_N),
            rows=self.rows[kept_N],
            candidates=None if candidates is None else lambda columns_C: candidates(kept_N[columns_C]),
            nearest=None
            if nearest is None
            else lambda picks: nearest(Picks(kept_N[picks.columns], picks.scores, picks.queries)),
        )


class Comparison:
    """A run's way from data to ``Compared``; checks all it can when it is made.

    Args:
        settings: of the run.
        renderer: of the model, where the representation needs one.
        pool: what to choose from.
        query: what to choose for, where the representation looks at it.
        own: what the user handed over in Python.

    Raises:
        HandpickError: as the representation's parts.
    """

    def __init__(
        self, settings: Settings, renderer: Renderer | None, pool: Data, query: Data | None, own: Own | None
    ) -> None:
        self.settings = settings
        self.pool = pool
        self.query = query
        self._name = settings.used_representation
        if query is None and REPRESENTATIONS[self._name].needs_query:
            raise not_given("query")
        self._gradients: Features | None = None
        self._representation: Representation | None = None
        if self._name in ("gradient", "whitened", "gist"):
            assert renderer is not None  # the table says that it needs a model
            if self._name == "whitened":
                check_room(settings.projection_dim)
            self._gradients = Features(settings, renderer, pool.pool, own)
            self._gradients.check(None if query is None else query.pool)
        elif self._name not in ("bm25", "dsir", "none"):
            self._representation = representation_of(settings, renderer)
            self._representation.space()  # what cannot be found is said now

    def made(self) -> Compared:
        """Compute what is missing, and give what there is to choose by."""
        if self._name in ("none", "bm25", "dsir"):  # the others say it when they have looked at every query
            if self.query is not None:
                tell(self.query)
            return self._nothing() if self._name == "none" else self._by_words()
        if self._representation is not None:
            stores = RowStores(self.settings, self._representation, pool_store_path(self.settings))
            if REPRESENTATIONS[self._name].gives == "scores":
                return self._by_scores(stores)
            return self._by_rows(stores)
        assert self._gradients is not None
        if self._name == "gist":
            return self._by_subspace(self._gradients)
        return self._by_gradients(self._gradients)

    def _by_gradients(self, features: Features) -> Compared:
        assert self.query is not None
        query_store = features.query_store(self.query.pool)  # first: small, and without it the rest is for nothing
        advice = getattr(features.query_objective, "advice", "name other queries")
        kept_Q = self._with_signal(query_store, advice)
        score_only = self.settings.score_only
        bad = self.pool.quarantine
        pool_store = features.score_store(query_store, bad) if score_only else features.pool_store(bad)
        set_aside(pool_store, self.pool, features.pool_objective)
        set_aside(query_store, self.query, features.query_objective)
        if score_only:
            similarity = Part(StoredScores(pool_store), np.array(kept_Q))
            return self._compared(pool_store, query_store, kept_Q, similarity)
        query_TQD = [rows_QD[kept_Q] for rows_QD in query_rows(pool_store, query_store)]
        if self._name == "whitened":
            damping = self.settings.whitening_damping
            query_TQD = [
                whitened(rows_QD, kept_second_moment(pool_store, t, moment_path(pool_store, t)), damping)
                for t, rows_QD in enumerate(query_TQD)
            ]
        return self._compared(pool_store, query_store, kept_Q, StoredSimilarity(pool_store, query_TQD), pool_store)

    def _by_subspace(self, features: Features) -> Compared:
        assert self.query is not None
        stores = GistStores(features, self.query.pool)
        query_store = stores.query_store()
        kept_Q = self._with_signal(query_store, "name other queries")
        pool_store = stores.pool_store(self.pool.quarantine)
        set_aside(pool_store, self.pool, features.pool_objective)
        set_aside(query_store, self.query, features.query_objective)
        ids, subtasks = self._queries(query_store, kept_Q)
        raw_QD = np.asarray(query_store.array(0, normalized=False))[kept_Q]
        means_SD, members = subtask_means(raw_QD, subtasks)
        single = StoredSimilarity(pool_store, [np.asarray(query_store.array(0))[kept_Q]])

        def nearest(picks: Picks) -> list[str | None]:
            """Of the subtask that a pick is for, the query that it is most similar to."""
            to_each_QB = single.columns(picks.columns)
            found: list[str | None] = []
            for place, subtask in enumerate(picks.queries.tolist()):
                if subtask < 0:
                    found.append(None)
                    continue
                own_M = np.array(members[subtask])
                found.append(ids[int(own_M[np.argmax(to_each_QB[own_M, place])])])
            return found

        return Compared(
            self._readable(StoredSimilarity(pool_store, [means_SD])),
            rows_of(pool_store, self.pool.pool),
            {"pool": fingerprint(pool_store), "query": fingerprint(query_store)},
            [name or "all queries" for name in dict.fromkeys(subtasks)],
            list(dict.fromkeys(subtasks)),
            partial(candidate_features, pool_store),
            partial(candidate_features, query_store, np.array(kept_Q)),
            nearest,
        )

    def _by_rows(self, stores: RowStores) -> Compared:
        assert self.query is not None
        assert self._representation is not None
        query_store = stores.query_store(self.query.pool)  # first, as with gradients
        set_aside(query_store, self.query, self._representation)
        kept_Q = self._with_signal(query_store, "name other queries")
        pool_store = stores.pool_store(self.pool.pool, self.settings.storage, self.pool.quarantine)
        set_aside(pool_store, self.pool, stores.of_pool)
        query_TQD = [rows_QD[kept_Q] for rows_QD in query_rows(pool_store, query_store)]
        return self._compared(pool_store, query_store, kept_Q, StoredSimilarity(pool_store, query_TQD), pool_store)

    def _by_scores(self, stores: RowStores) -> Compared:
        assert self._representation is not None
        store = stores.pool_store(self.pool.pool, "float32", self.pool.quarantine)
        set_aside(store, self.pool, stores.of_pool)
        scores_N = np.asarray(store.array(0, normalized=False))[:, 0]
        if self._name == "ifd":  # at 1 or more the prompt does not help, and the paper leaves such examples out
            scores_N = np.where(scores_N < 1, scores_N, 1 - scores_N)
        return Compared(Matrix(scores_N[None]), rows_of(store, self.pool.pool), {"pool": fingerprint(store)})

    def _by_words(self) -> Compared:
        from handpick.represent.bm25 import Bm25
        from handpick.represent.dsir import Dsir

        assert self.query is not None
        pool, query = self.pool.pool, self.query.pool
        query_texts = [contents(example.messages) for example in query.examples(0, len(query))]
        rows = self._answered()
        fingerprints: Fingerprint = {
            "pool": {"files": contents_of(pool.files)},
            "query": {"files": contents_of(query.files)},
        }
        if self._name == "dsir":
            weigh = Dsir.fit(texts_of(pool), query_texts, smoothing=self.settings.dsir_smoothing)
            fingerprints["representation"] = weigh.fingerprint()
            return Compared(Matrix(weigh.scores(texts_of(pool))[None]), rows, fingerprints)
        by = Bm25(texts_of(pool))
        fingerprints["representation"] = by.fingerprint()
        shape = (len(query_texts), len(rows))
        path = None if fits_in_memory(shape) else self.settings.folder / "similarity.npy"
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            say(f"bm25 gives all of the similarity: {4 * shape[0] * shape[1] / 1e9:.1f} GB in {path}")
        matches_QN = written_rows((by.scores([text])[0] for text in query_texts), shape, path)
        kept_Q = self._sharing_words(np.array([row_N.any() for row_N in matches_QN]))
        ids, subtasks = query.ids(), subtask_labels(self.settings, query)
        matches = Matrix(matches_QN) if len(kept_Q) == len(ids) else Part(Matrix(matches_QN), np.array(kept_Q))
        return Compared(matches, rows, fingerprints, [ids[q] for q in kept_Q], [subtasks[q] for q in kept_Q])

    def _sharing_words(self, shares_Q: NDArray[np.bool_]) -> list[int]:
        """The queries that share a word with the pool: the others are like nothing."""
        if not shares_Q.any():
            raise DataError(
                "no query shares a word with the pool, so there is nothing to choose by: name other queries"
            )
        if not shares_Q.all():
            say(
                f"{np.count_nonzero(~shares_Q)} of {len(shares_Q)} queries share no word with the pool and are left out"
            )
        return np.flatnonzero(shares_Q).tolist()

    def _nothing(self) -> Compared:
        pool, rows = self.pool.pool, self._answered()
        no_similarity_1N = np.broadcast_to(np.zeros((1, 1), np.float32), (1, len(rows)))
        return Compared(Matrix(no_similarity_1N), rows, {"pool": {"files": contents_of(pool.files)}})

    def _answered(self) -> NDArray[np.int64]:
        """The pool's rows that there is something to learn from; the others are set aside.

        Raises:
            DataError: there is none, or more are set aside than the quarantine's limit.
        """
        pool, quarantine = self.pool.pool, self.pool.quarantine
        rows: list[int] = []
        for start in range(0, len(pool), _READ):
            for row, example in enumerate(pool.examples(start, start + _READ), start):
                if has_response(example.messages):
                    rows.append(row)
                    continue
                file, line = pool.location(row)
                quarantine.add(file=file, line=line, id=example.id, reason=NO_RESPONSE, raw=example.raw)
        tell(self.pool)
        if not rows:
            raise DataError(f"no record of {', '.join(file.name for file in pool.files)} has a response to learn from")
        return np.array(rows, dtype=np.int64)

    def _compared(
        self,
        pool_store: FeatureStore,
        query_store: FeatureStore,
        kept_Q: list[int],
        similarity: Similarity,
        features: FeatureStore | None = None,
    ) -> Compared:
        ids, subtasks = self._queries(query_store, kept_Q)
        return Compared(
            self._readable(similarity),
            rows_of(pool_store, self.pool.pool),
            {"pool": fingerprint(pool_store), "query": fingerprint(query_store)},
            ids,
            subtasks,
            None if features is None else partial(candidate_features, features),
            partial(candidate_features, query_store, np.array(kept_Q)),
        )

    def _readable(self, similarity: Similarity) -> Similarity:
        """The similarity as the algorithm should read it: from memory where it is small, else from a file if it is
        gone through many times, else computed anew at every pass."""
        if isinstance(similarity, Matrix):
            return similarity
        if fits_in_memory(similarity.shape):
            return Matrix(written(similarity, None))
        several = self.settings.splits_budget
        if find(self.settings.used_algorithm).whole or several:
            why = "several targets read" if several else f"{self.settings.used_algorithm} reads"
            path = self.settings.folder / "similarity.npy"
            n_bytes = 4 * similarity.shape[0] * similarity.shape[1]
            say(f"{why} all of the similarity many times: {n_bytes / 1e9:.1f} GB in {path}")
            return Matrix(written(similarity, path))
        return similarity

    def _queries(self, query_store: FeatureStore, kept_Q: list[int]) -> tuple[list[str], list[str]]:
        """Ids and subtasks of the queries that are kept."""
        assert self.query is not None
        query = self.query.pool
        ids = [query_store.ids[row] for row in kept_Q]
        subtask_of = dict(zip(query.ids(), subtask_labels(self.settings, query), strict=True))
        return ids, [subtask_of[query_id] for query_id in ids]

    def _with_signal(self, query_store: FeatureStore, advice: str) -> list[int]:
        """The rows of the queries that say anything: a row that is zero at every checkpoint is like nothing.

        Raises:
            DataError: no query does.
        """
        norms_TQ = np.stack([query_store.norms(t) for t in range(len(query_store.checkpoints))])
        says_Q = norms_TQ.any(axis=0)
        silent = np.flatnonzero(~says_Q)
        what = "gradient at any checkpoint" if self._gradients is not None else "feature"
        if len(silent):
            names = ", ".join(query_store.ids[row] for row in silent[:3]) + (", …" if len(silent) > 3 else "")
            say(f"{len(silent)} of {len(query_store)} queries have no {what} and are left out: {names}")
        if len(silent) == len(query_store):
            raise DataError(f"no query has a {what.split()[0]}, so there is nothing to choose by: {advice}")
        return np.flatnonzero(says_Q).tolist()


def check_room(dim: int) -> None:
    """Raise SettingsError where the pool's covariance and its factor would not fit in memory."""
    needed, free = 2 * 8 * dim**2, available_bytes()
    if needed > free:
        raise SettingsError(
            f"whitening {dim:,} features takes {needed / 1e9:.0f} GB and {free / 1e9:.0f} GB are free: give a smaller "
            "--projection-dim"
        )


def fits_in_memory(shape: tuple[int, int]) -> bool:
    """Whether a similarity is small enough to be kept in memory."""
    return 4 * shape[0] * shape[1] <= min(_IN_MEMORY, available_bytes() / 4)


def representation_of(settings: Settings, renderer: Renderer | None) -> Representation:
    """What makes rows of examples by themselves.

    Raises:
        SettingsError: an extra is not installed.
        ModelError: a model cannot be used.
    """
    name = settings.used_representation
    if name == "embed":
        from handpick.represent.embedding import Embedding

        return Embedding(settings.encoder)
    assert renderer is not None  # the table says that the others need a model
    if name == "length":
        from handpick.represent.response_length import ResponseLength

        return ResponseLength(renderer)
    check_max_length(settings)
    from handpick.represent.base_model import Reader
    from handpick.represent.hidden_states import HiddenStates
    from handpick.represent.model_scores import IFD, Perplexity

    kinds: dict[str, Any] = {"rds+": HiddenStates, "perplexity": Perplexity, "ifd": IFD}
    reader = Reader(
        str(settings.model),
        renderer,
        settings.max_length,
        settings.dtype,
        settings.quantization,
        tokens_a_batch(settings),
    )
    made: Representation = kinds[name](reader)
    return made


def target_labels(settings: Settings, query: Pool) -> list[str]:
    """The target of every query, "" where there is but one."""
    names = [name for name, files in settings.target.items() for _ in files] or [""] * len(query.files)
    return [name for name, file in zip(names, query.files, strict=True) for _ in range(file.rows)]


def subtask_labels(settings: Settings, query: Pool) -> list[str]:
    """The subtask of every query; those of two targets are never the same."""
    labels = zip(target_labels(settings, query), query.column("subtask"), strict=True)
    return [f"{target}/{subtask or ''}" if target else subtask or "" for target, subtask in labels]


def texts_of(pool: Pool) -> Iterable[str]:
    """What every example of a pool with a response says, read again at every pass."""
    return _Texts(pool)


class _Texts:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self._pool), _READ):
            for example in self._pool.examples(start, start + _READ):
                if has_response(example.messages):
                    yield contents(example.messages)


def set_aside(store: FeatureStore, data: Data, prepares: Prepares) -> None:
    """Report what is in the pool and not in its store.

    Raises:
        DataError: nothing is left, or the quarantine's limit is passed.
    """
    set_aside_unusable(store, data.pool, prepares, data.quarantine)
    tell(data)


def tell(data: Data) -> None:
    """Say how many records were set aside, if any were."""
    if data.quarantine.count:
        say(data.quarantine.summary())


def fingerprint(store: FeatureStore) -> dict[str, Any]:
    """What a store's rows are, and of which data."""
    return store.manifest.settings() | {"files": contents_of(store.manifest.files)}


def moment_path(store: FeatureStore, checkpoint: int) -> Path:
    """Where the pool's covariance is kept: beside the shards it was computed from; another pool has another name."""
    return store.path / f"second-moment-{checkpoint}-{digest(fingerprint(store))}.npy"
