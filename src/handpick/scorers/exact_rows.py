"""Exact gradient rows of some candidates, in a folder of their own, and their similarity to the queries.

Shapes: R rows that are asked for, C of them that there are, Q queries.
"""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from handpick.executors import Executor, rows_of
from handpick.fingerprint import Fingerprint
from handpick.layout import PartLayout
from handpick.scorers.gradient import Gradient
from handpick.scorers.gradient_stores import GradientStores
from handpick.scorers.inputs import Inputs, part_of
from handpick.scorers.scorer import Queries, fingerprint
from handpick.similarity import StoredSimilarity, query_rows, write_similarity
from handpick.store import FeatureStore
from handpick.store.codec import Floats


class ExactRows:
    """The rows that a run on the whole pool would make of some examples, at the same checkpoints.

    Args:
        inputs: of the whole run.
        gradients: of the whole run, whose checkpoints are trained.
        rows_R: of the pool, ascending.
        layout: where they are made.
    """

    def __init__(self, inputs: Inputs, gradients: GradientStores, rows_R: Sequence[int], layout: PartLayout) -> None:
        part = part_of(inputs, rows_R, layout.folder, **gradients.settings_of_part())
        self._gradient = Gradient(part, gradients)

    def make(self, executor: Executor) -> None:
        """Make what is missing of them, and give the model back."""
        self._gradient.fill_pool_store(executor)
        self._gradient.gradients.drop_encoder()

    @property
    def store(self) -> FeatureStore:
        """The rows, whole; those that are not finite are reported."""
        return self._gradient.pool_features()

    @cached_property
    def places_C(self) -> NDArray[np.int64]:
        """Which of the rows that were asked for there are, ascending."""
        return rows_of(self.store, self._gradient.pool.pool)

    def similarity(self, queries: Queries) -> Floats:
        """Return the weighted similarity over the checkpoints, as a run on the whole pool has it, float32 (Q, C)."""
        return similarity_of(self.store, queries.store, queries.kept_Q)

    def fingerprint(self) -> Fingerprint:
        """Return what the rows are, and of which data."""
        return fingerprint(self.store)


def similarity_of(store: FeatureStore, query_store: FeatureStore, kept_Q: NDArray[np.int64]) -> Floats:
    """Return the similarity of some queries to all rows of a store, float32 (Q, C)."""
    rows_TQD = [rows_QD[kept_Q] for rows_QD in query_rows(store, query_store)]
    return write_similarity(StoredSimilarity(store, rows_TQD), None)
