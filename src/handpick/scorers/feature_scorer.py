"""What scorers have in common that compare features in stores.

Shapes: Q queries, N candidates, D features, T checkpoints.
"""

from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import ClassVar

import numpy as np

from handpick.algorithms import Similarity
from handpick.algorithms.protocol import inner_products
from handpick.costs.cost import Extent
from handpick.costs.probe import Probing
from handpick.executors import rows_of
from handpick.fingerprint import Fingerprint
from handpick.scorers.finished_run import POOL_GONE, QUERIES_GONE, FinishedRun, Reopened, columns_of
from handpick.scorers.scorer import Queries, Scorer, fingerprint
from handpick.scorers.scoring_problem import FeatureSpace, ScoringProblem, make_readable
from handpick.similarity import StoredScores, StoredSimilarity, candidate_features, query_rows
from handpick.store import FeatureStore
from handpick.store.codec import Floats
from handpick.store.sign_rows import SignKernel, query_slope


def feature_space(pool_store: FeatureStore, queries: Callable[[], Floats]) -> FeatureSpace:
    """Return the features of a store and of some queries, which are float32, with what makes similarities of them."""
    storage = pool_store.manifest.storage
    kernel = SignKernel(len(pool_store.weights)) if storage == "1bit" else inner_products
    return FeatureSpace(partial(candidate_features, pool_store), queries, kernel, query_slope(storage))


class FeatureScorer(Scorer):
    """Compares every query's features with every candidate's."""

    nearest_words: ClassVar[str] = "similarity to the nearest query"

    @abstractmethod
    def pool_inputs(self) -> Fingerprint:
        """Return what the pool's features depend on."""

    @abstractmethod
    def extent(self, probing: Probing) -> Extent:
        """Return what will be compared."""

    def compare(self, pool_store: FeatureStore, queries: Queries) -> ScoringProblem:
        """Return the problem of two stores that share a space."""
        query_TQD = self.query_rows(pool_store, [r[queries.kept_Q] for r in query_rows(pool_store, queries.store)])
        similarity = StoredSimilarity(pool_store, query_TQD, workers=self.settings.workers or 1)
        return self.state(pool_store, queries, similarity, self.space(pool_store, queries))

    def query_rows(self, pool_store: FeatureStore, rows_TQD: list[Floats]) -> list[Floats]:
        """Return the queries' rows as they are compared: as they are, where nothing else is said."""
        return rows_TQD

    def space(self, pool_store: FeatureStore, queries: Queries) -> FeatureSpace:
        """Return the features of both sides."""
        return feature_space(pool_store, partial(candidate_features, queries.store, queries.kept_Q))

    def state(
        self, pool_store: FeatureStore, queries: Queries, similarity: Similarity, features: FeatureSpace | None
    ) -> ScoringProblem:
        """Return the problem of a similarity whose rows are single queries."""
        return ScoringProblem(
            make_readable(similarity, self.settings),
            rows_of(pool_store, self.pool.pool),
            {"pool": fingerprint(pool_store), "query": fingerprint(queries.store)},
            queries.ids,
            queries.subtasks,
            features,
        )

    @classmethod
    def reopen(cls, run: FinishedRun) -> Reopened | str:
        """Return the similarities to single queries, from the two stores that the run left."""
        pool_store = run.store("pool")
        if pool_store is None:
            return POOL_GONE
        if "scores for" in pool_store.manifest.space:
            return Reopened(cls.nearest_words, StoredScores(pool_store), columns_of(pool_store))
        query_store = run.store("query")
        if query_store is None:
            return QUERIES_GONE
        rows_TQD = cls.reopen_query_rows(run, pool_store, query_rows(pool_store, query_store))
        if isinstance(rows_TQD, str):
            return rows_TQD
        says_Q = np.any([np.abs(rows_QD).max(axis=1) > 0 for rows_QD in rows_TQD], axis=0)
        similarity = StoredSimilarity(pool_store, [rows_QD[says_Q] for rows_QD in rows_TQD])
        return Reopened(cls.nearest_words, similarity, columns_of(pool_store))

    @classmethod
    def reopen_query_rows(
        cls, run: FinishedRun, pool_store: FeatureStore, rows_TQD: list[Floats]
    ) -> list[Floats] | str:
        """Return the queries' rows as the run compared them, or why they cannot be had."""
        return rows_TQD
