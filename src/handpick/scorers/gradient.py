"""The gradient representation: an example is the gradient of its loss at every checkpoint of a LoRA warmup.

The pool's side goes through Adam where the method says so, the queries' does not. Source: LESS, Xia et al. ICML 2024,
arXiv 2402.04333, section 4; round-robin and the comparison of methods: Nayak et al. 2026, arXiv 2602.14696.
"""

from functools import cached_property
from typing import Any, Self

import numpy as np

from handpick.algorithms.view import SimilarityView
from handpick.costs.cost import Extent, StageKind
from handpick.costs.probe import Probing
from handpick.executors import Executor
from handpick.fingerprint import Fingerprint
from handpick.scorers.feature_scorer import FeatureScorer
from handpick.scorers.gradient_costs import GradientCosts
from handpick.scorers.gradient_stores import GradientStores
from handpick.scorers.inputs import Inputs
from handpick.scorers.scorer import Queries, quarantine_unused
from handpick.scorers.scoring_problem import ScoringProblem
from handpick.scorers.stages import Stage
from handpick.similarity import StoredScores
from handpick.store import FeatureStore
from handpick.store.manifest import contents_of


class Gradient(FeatureScorer):
    """Compares gradients; with ``score_only`` the pool's are compared as they are made, and not kept."""

    nothing_to_say = "gradient at any checkpoint"

    def __init__(self, inputs: Inputs, like: GradientStores | None = None) -> None:
        super().__init__(inputs)
        self.gradients = GradientStores(inputs, like)
        self._pool_store: FeatureStore | None = None

    def preflight(self) -> None:
        """Refuse what would stop the run later, as ``GradientStores.check`` does."""
        self.gradients.check(None if self.inputs.query is None else self.inputs.query.pool)

    @cached_property
    def costs(self) -> GradientCosts:
        """What the stages will take."""
        return GradientCosts(self.inputs, self.gradients)

    def settings_of_part(self) -> dict[str, Any]:
        """Return the checkpoints; the warmup draws from the whole pool."""
        return self.gradients.settings_of_part()

    def lend_warmup(self, part: Self, probing: Probing) -> None:
        """Let a part be planned at the checkpoints that this one is planned at."""
        part.costs.share_warmup(self.costs.warmed(probing))

    def extent(self, probing: Probing) -> Extent:
        """Return what will be compared."""
        return self.costs.extent(probing)

    @cached_property
    def compared_queries(self) -> Queries:
        """The queries that have a gradient; their store is whole."""
        store = self.gradients.query_store(self.inputs.queries.pool)
        advice = getattr(self.gradients.objectives.query, "advice", "name other queries")
        return Queries(self.inputs, store, self.nothing_to_say, advice)

    @property
    def pool_store(self) -> FeatureStore:
        """The pool's features, or its similarities to the queries; whole."""
        return self.fill_pool_store(None)

    def fill_pool_store(self, executor: Executor | None) -> FeatureStore:
        """Return the pool's store; what is missing is made, once."""
        if self._pool_store is None:
            if executor is not None and not executor.is_here:
                self.gradients.drop_encoder()
            self._pool_store = self.make_pool_store(executor)
        return self._pool_store

    def make_pool_store(self, executor: Executor | None) -> FeatureStore:
        """Return the pool's store when all of it is there."""
        bad = self.pool.quarantine
        if self.settings.score_only:
            return self.gradients.score_store(self.compared_queries.store, executor, bad)
        return self.gradients.pool_store(executor, bad)

    def stages(self) -> list[Stage]:
        """Return the warmup, the queries' features (few, and without them the rest is for nothing), the pool's."""
        costs = self.costs
        checkpoints = Stage(
            StageKind.WARMUP,
            self.gradients.checkpoint_inputs,
            costs.warmup,
            lambda executor: self.gradients.checkpoints,
        )
        queries = Stage(StageKind.QUERY, self.query_inputs, costs.query, self.make_queries)
        pool = Stage(StageKind.POOL, self.pool_inputs, costs.pool, self.fill_pool_store)
        return [checkpoints, pool] if self.inputs.query is None else [checkpoints, queries, pool]

    def query_inputs(self) -> Fingerprint:
        """Return what the queries' features depend on."""
        gradients, files = self.gradients, contents_of(self.inputs.queries.pool.files)
        return {"side": gradients.side_inputs("sgd", gradients.objectives.query), "files": files}

    def pool_inputs(self) -> Fingerprint:
        """Return what the pool's features, or its similarities to the queries, depend on."""
        gradients = self.gradients
        own: Fingerprint = {"scores for": self.query_inputs()} if self.settings.score_only else {}
        return own | {
            "side": gradients.side_inputs(gradients.optimizer, gradients.objectives.pool),
            "files": contents_of(gradients.pool.files),
        }

    def make_queries(self, executor: Executor) -> None:
        """Make the queries' features, and refuse queries that all have no gradient."""
        self.gradients.query_store(self.inputs.queries.pool, executor)
        _ = self.compared_queries

    def pool_features(self) -> FeatureStore:
        """Return the pool's store, when what is not in it has been reported."""
        return self._reported

    @cached_property
    def _reported(self) -> FeatureStore:
        quarantine_unused(self.pool_store, self.pool, self.gradients.objectives.pool)
        return self.pool_store

    def problem(self) -> ScoringProblem:
        """Return the weighted similarity of both sides' features over the checkpoints."""
        pool_store, queries = self.pool_features(), self.compared_queries
        quarantine_unused(queries.store, self.inputs.queries, self.gradients.objectives.query)
        if self.settings.score_only:
            return self.state(
                pool_store, queries, SimilarityView(StoredScores(pool_store), np.array(queries.kept_Q)), None
            )
        return self.compare(pool_store, queries)
