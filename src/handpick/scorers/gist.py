"""GIST: what is near the mean of a subtask's queries, in the subspace of their gradients (gist_subspace.py).

The queries' coordinates and the pool's are kept in two stores, at the last checkpoint alone, as the paper has it.

Shapes: Q queries, S subtasks, K dimensions of the subspace, B picks.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np

from handpick.algorithms import Picks
from handpick.algorithms.queries import members_of
from handpick.data.pool import Pool
from handpick.data.quarantine import Quarantine
from handpick.executors import Executor, fill_store, rows_of
from handpick.fingerprint import Fingerprint, digest
from handpick.layout import RunLayout
from handpick.scorers.gist_subspace import KeptSubspace, query_subspace
from handpick.scorers.gradient import Gradient
from handpick.scorers.gradient_stores import GradientStores
from handpick.scorers.scorer import Queries, fingerprint, quarantine_unused
from handpick.scorers.scoring_problem import ScoringProblem, make_readable
from handpick.similarity import StoredSimilarity
from handpick.store import FeatureStore
from handpick.store.codec import Floats, row_norms, unit_rows
from handpick.store.manifest import contents_of


class GistStores:
    """Makes the stores, or finds them made.

    The queries' subspace is kept beside them (``KeptSubspace``), and its digest is part of both stores' space.

    Args:
        gradients: the run's.
        query: the queries.
    """

    def __init__(self, gradients: GradientStores, query: Pool) -> None:
        self._gradients = gradients
        self._query = query
        self._layout = RunLayout(gradients.settings.folder)

    def query_store(self) -> FeatureStore:
        """Return the queries' coordinates, at the norms they have."""
        gradients, subspace = self._gradients, self.subspace
        objective = gradients.objectives.query
        manifest = gradients.last_manifest(self._query, objective, self._projected, subspace.dim, "float32")
        store = FeatureStore.create(self._layout.gist_query_store(self.name), manifest)
        if not store.missing(0):
            return store
        query_QK, row = subspace.query_QK, 0
        for shard in store.shards():  # the queries' own gradients, in their order
            ids, _, _ = objective.prepare(self._query.examples(shard.start, shard.stop))
            if shard in store.missing(0):
                store.write_shard(0, shard, ids, query_QK[row : row + len(ids)])
            row += len(ids)
        return store

    def create_pool_store(self) -> FeatureStore:
        """Return the store of the pool's coordinates, whole or begun."""
        gradients = self._gradients
        manifest = gradients.last_manifest(
            gradients.pool,
            gradients.objectives.pool,
            self._projected,
            self.subspace.dim,
            gradients.settings.storage,
        )
        return FeatureStore.create(self._layout.gist_store(self.name), manifest)

    def pool_store(self, executor: Executor | None = None, quarantine: Quarantine | None = None) -> FeatureStore:
        """Return the pool's coordinates: K numbers per example, of its plain gradient.

        With a quarantine, ended when its limit is certain to be passed (``fill_store``).
        """
        gradients, store = self._gradients, self.create_pool_store()
        spec = replace(gradients.spec("pool"), optimizer="sgd", basis=self._layout.subspace(self.name))
        fill_store(store, gradients.pool, spec, "pool features", quarantine, executor)
        return store

    @cached_property
    def subspace(self) -> KeptSubspace:
        """The queries' subspace."""
        gradients = self._gradients
        dim = 1  # to be found out; it is no part of what the subspace is made from
        like = gradients.last_manifest(self._query, gradients.objectives.query, self.basis(), dim, "float32")
        made_from: Fingerprint = {"space": like.space, "build": like.build}
        return KeptSubspace(
            self._layout.subspace(self.name),
            made_from,
            lambda: query_subspace(gradients.raw_query_gradients(self._query), gradients.settings.gist_dim),
        )

    def basis(self) -> Fingerprint:
        """Return what the subspace comes from: the queries and their objective."""
        return {
            "kind": "subspace",
            "dim": self._gradients.settings.gist_dim,
            "queries": digest(contents_of(self._query.files)),
            "objective": digest(self._gradients.objectives.query.fingerprint()),
        }

    @property
    def _projected(self) -> Fingerprint:
        """What two rows must have been projected on to be compared: the very same basis."""
        return self.basis() | {"basis": self.subspace.digest}

    @property
    def name(self) -> str:
        """What the stores of these queries are named by."""
        return digest(self.basis())


class Gist(Gradient):
    """Compares the pool with the mean of every subtask's queries."""

    @cached_property
    def stores(self) -> GistStores:
        """Both stores."""
        return GistStores(self.gradients, self.inputs.queries.pool)

    @cached_property
    def compared_queries(self) -> Queries:
        """The queries that have a gradient."""
        return Queries(self.inputs, self.stores.query_store(), self.nothing_to_say, "name other queries")

    def make_pool_store(self, executor: Executor | None) -> FeatureStore:
        """Return the pool's coordinates when all are there."""
        return self.stores.pool_store(executor, self.pool.quarantine)

    def query_inputs(self) -> Fingerprint:
        """Return what the queries' subspace depends on."""
        return {"basis": self.stores.basis(), "of": super().query_inputs()}

    def pool_inputs(self) -> Fingerprint:
        """Return what the pool's coordinates depend on."""
        objective = self.gradients.objectives.pool.fingerprint()
        return {"subspace": self.query_inputs(), "objective": objective, "files": contents_of(self.pool.pool.files)}

    def make_queries(self, executor: Executor) -> None:
        """Compute the subspace of the queries' whole gradients, and refuse queries that all have none."""
        _ = self.compared_queries

    def problem(self) -> ScoringProblem:
        """Return the similarity to each subtask's mean query."""
        pool_store, queries = self.pool_features(), self.compared_queries
        quarantine_unused(queries.store, self.inputs.queries, self.gradients.objectives.query)
        raw_QK = np.asarray(queries.store.array(0, normalized=False))[queries.kept_Q]
        means_SK, members = subtask_means(raw_QK, queries.subtasks)
        single = StoredSimilarity(pool_store, [np.asarray(queries.store.array(0))[queries.kept_Q]])
        names = list(dict.fromkeys(queries.subtasks))

        def nearest_query(picks: Picks) -> list[str | None]:
            """Return, of the subtask that a pick is for, the query that it is most similar to."""
            to_each_QB = single.columns(picks.columns)
            found: list[str | None] = []
            for place, subtask in enumerate(picks.queries.tolist()):
                if subtask < 0:
                    found.append(None)
                    continue
                own_M = np.array(members[subtask])
                found.append(queries.ids[int(own_M[np.argmax(to_each_QB[own_M, place])])])
            return found

        return ScoringProblem(
            make_readable(StoredSimilarity(pool_store, [means_SK]), self.settings),
            rows_of(pool_store, self.pool.pool),
            {"pool": fingerprint(pool_store), "query": fingerprint(queries.store)},
            [name or "all queries" for name in names],
            names,
            self.space(pool_store, queries),
            nearest_query,
        )


def subtask_means(raw_QK: Floats, subtasks: Sequence[str]) -> tuple[Floats, list[list[int]]]:
    """Return the mean raw row of every subtask at unit norm, float32 (S, K), and whose rows they are of.

    As the released code has it: averaged before they are normalised, so that a query with a large gradient counts
    for more.
    """
    members = members_of(tuple(subtasks), len(raw_QK))
    means_SK = np.stack([raw_QK[own].mean(axis=0) for own in members]).astype(np.float32)
    return unit_rows(means_SK, row_norms(means_SK)), members
