"""GIST's two stores: the queries' coordinates in the subspace of their gradients, and the pool's (represent/gist.py).

Shapes: Q queries, S subtasks, K dimensions of the subspace.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handpick.algorithms.queries import members_of
from handpick.data.pool import Pool
from handpick.data.quarantine import Quarantine
from handpick.fingerprint import Fingerprint, digest
from handpick.pipeline.features import Features
from handpick.represent.fill import Advance, fill
from handpick.represent.gist import BasisProjection, KeptSubspace, query_subspace
from handpick.store import FeatureStore
from handpick.store.codec import row_norms, unit_rows
from handpick.store.manifest import contents_of

Floats = NDArray[np.float32]


class GistStores:
    """Makes the stores, or finds them made; at the last checkpoint alone, as the paper has it.

    The queries' subspace is kept beside them (``KeptSubspace``), and its digest is part of both stores' space.

    Args:
        features: the run's gradients.
        query: the queries.
    """

    def __init__(self, features: Features, query: Pool) -> None:
        self._features = features
        self._query = query

    def query_store(self) -> FeatureStore:
        """The queries' coordinates, at the norms they have."""
        features, subspace = self._features, self._subspace
        manifest = features.last_manifest(
            self._query, features.query_objective, self._projected, subspace.dim, "float32"
        )
        store = FeatureStore.create(self._folder(f"query-gist-{self._name}"), manifest)
        if not store.missing(0):
            return store
        query_QK, row = subspace.query_QK, 0
        for shard in store.shards():  # the queries' own gradients, in their order
            ids, _, _ = features.query_objective.prepare(self._query.examples(shard.start, shard.stop))
            if shard in store.missing(0):
                store.write_shard(0, shard, ids, query_QK[row : row + len(ids)])
            row += len(ids)
        return store

    def pool_store(self, quarantine: Quarantine | None = None) -> FeatureStore:
        """The pool's coordinates: K numbers an example, of its plain gradient.

        With a quarantine, ended when its limit is certain to be passed (``fill``).
        """
        features = self._features
        manifest = features.last_manifest(
            features.pool, features.pool_objective, self._projected, self._subspace.dim, features.settings.storage
        )
        store = FeatureStore.create(self._folder(f"gist-{self._name}"), manifest)
        if not store.missing(0):
            return store
        project = BasisProjection(self._subspace.basis_DK)

        def encode(_: int, items: Sequence[Any], advance: Advance) -> Floats:
            return features.encode_last(features.pool_objective, items, advance, project)

        fill(store, features.pool, features.pool_objective, encode, "pool features", quarantine)
        return store

    @cached_property
    def _subspace(self) -> KeptSubspace:
        features = self._features
        dim = 1  # to be found out; it is no part of what the subspace is made from
        like = features.last_manifest(self._query, features.query_objective, self._basis(), dim, "float32")
        made_from: Fingerprint = {"space": like.space, "build": like.build}
        return KeptSubspace(
            self._folder(f"subspace-{self._name}"),
            made_from,
            lambda: query_subspace(features.raw_query_gradients(self._query), features.settings.gist_dim),
        )

    def _basis(self) -> Fingerprint:
        """What the subspace comes from: the queries and their objective."""
        return {
            "kind": "subspace",
            "dim": self._features.settings.gist_dim,
            "queries": digest(contents_of(self._query.files)),
            "objective": digest(self._features.query_objective.fingerprint()),
        }

    @property
    def _projected(self) -> Fingerprint:
        """What two rows must have been projected on to be compared: the very same basis."""
        return self._basis() | {"basis": self._subspace.digest}

    def _folder(self, name: str) -> Path:
        return self._features.settings.folder / "features" / name

    @property
    def _name(self) -> str:
        return digest(self._basis())


def subtask_means(raw_QK: Floats, subtasks: Sequence[str]) -> tuple[Floats, list[list[int]]]:
    """The mean raw row of every subtask at unit norm, float32 (S, K), and whose rows they are of.

    As the released code has it: averaged before they are normalised, so that a query with a large gradient counts
    for more.
    """
    members = members_of(tuple(subtasks), len(raw_QK))
    means_SK = np.stack([raw_QK[own].mean(axis=0) for own in members]).astype(np.float32)
    return unit_rows(means_SK, row_norms(means_SK)), members
