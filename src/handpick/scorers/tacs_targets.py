"""The targets that paths are trained for: all queries together, as published; or each subtask, or each cluster (ours).

Clusters are Ward's, of the queries' gradients at unit norm where every path begins.

Legend: Q queries, D coordinates of the adapter.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from handpick.algorithms.queries import members_of
from handpick.data.examples import Example
from handpick.data.render import Rendered
from handpick.errors import DataError, SettingsError
from handpick.executors import Preparer
from handpick.fingerprint import digest
from handpick.scorers.inputs import Inputs, subtask_labels
from handpick.scorers.tacs_calibration import FOLDS, grid_of
from handpick.settings import Settings
from handpick.store.codec import row_norms, unit_rows


@dataclass(frozen=True)
class QueryGroup:
    """Queries that a path is trained on together."""

    name: str
    ids: list[str]
    sequences: list[Rendered]

    @property
    def digest(self) -> str:
        """What its path learns, whatever else there is."""
        return token_digest(self.sequences)


@dataclass(frozen=True)
class LearntQueries:
    """The queries that leave a response to learn from, in order, with their subtasks; the others, with the reason."""

    ids: list[str]
    sequences: list[Rendered]
    subtasks: list[str]
    refused: list[tuple[Example, str]]

    def grouped(self, labels: Sequence[str]) -> list[QueryGroup]:
        """Return a target for every label of a query, in order of first appearance."""
        return [
            QueryGroup(labels[own[0]], [self.ids[i] for i in own], [self.sequences[i] for i in own])
            for own in members_of(tuple(labels), len(labels))
        ]


def token_digest(sequences: Sequence[Rendered]) -> str:
    """Return a digest of what a model is given to learn."""
    return digest([[each.input_ids, each.labels] for each in sequences])


def learnt_queries(inputs: Inputs, objective: Preparer) -> LearntQueries:
    """Return the queries of a run.

    Raises:
        DataError: none leaves a response to learn from.
    """
    query = inputs.queries.pool
    prepared = objective.prepare(query.examples(0, len(query)))
    if not prepared.ids:
        example, reason = prepared.refused[0]
        raise DataError(
            f"no query can be learnt; the first, {example.id!r}: {reason}; a path is trained on prompts with answers"
        )
    subtask_of = dict(zip(query.ids(), subtask_labels(inputs.settings, query), strict=True))
    return LearntQueries(prepared.ids, prepared.items, [subtask_of[i] for i in prepared.ids], prepared.refused)


def n_clusters(settings: Settings) -> int | None:
    """Return how many clusters are asked for; None where the paths are others."""
    kind, _, number = settings.tacs_paths.partition(":")
    return int(number) if kind == "clusters" else None


def stated_targets(settings: Settings, queries: LearntQueries) -> list[QueryGroup]:
    """Return the targets as the settings have them, where they are not clusters: those are found out.

    Raises:
        SettingsError: the queries are of one subtask, and a path for each is asked for.
    """
    if settings.tacs_paths == "one":
        return [QueryGroup("all queries", queries.ids, queries.sequences)]
    if len(set(queries.subtasks)) < 2:
        raise SettingsError(
            "tacs_paths subtask trains a path for each subtask of the queries, and they have fewer than two: name each "
            "query's in its field `subtask`, or leave tacs_paths out"
        )
    return queries.grouped([name or "no subtask" for name in queries.subtasks])


def check_targets(settings: Settings, queries: LearntQueries) -> None:
    """Refuse queries that are too few for the paths that are asked for.

    Raises:
        SettingsError: as ``stated_targets``, or there are fewer queries than clusters.
        DataError: as ``check_size``.
    """
    number = n_clusters(settings)
    if number is None:
        targets = stated_targets(settings, queries)
    elif number > len(queries.ids):
        raise SettingsError(
            f"tacs_paths asks for {number} clusters, and {len(queries.ids)} queries can be learnt: give fewer clusters"
        )
    else:
        targets = [QueryGroup("all queries", queries.ids, queries.sequences)]
    for target in targets:
        check_size(settings, target)


def check_size(settings: Settings, target: QueryGroup) -> None:
    """Raise DataError where a target's path is to be calibrated and its queries are fewer than folds."""
    n = len(target.ids)
    if n < FOLDS and grid_of(settings).only is None:
        raise DataError(
            f"a path's rate and depth are calibrated on {FOLDS} folds of its queries, and {target.name} has {n} that "
            "can be learnt: give more queries or fewer paths, or set both --tacs-rate and --tacs-depth"
        )


def cluster_labels(gradients_QD: NDArray[np.float32], number: int) -> list[str]:
    """Return which cluster each query is of, numbered by first appearance: at most so many, fewer where queries are
    the same.

    Raises:
        DataError: a gradient is not finite.
    """
    from scipy.cluster.hierarchy import fcluster, linkage  # type: ignore[import-untyped]

    norms_Q = row_norms(gradients_QD)
    if not np.isfinite(norms_Q).all():
        raise DataError(
            f"the gradient of query {int(np.argmin(np.isfinite(norms_Q))) + 1} is not finite, so the queries cannot be "
            "clustered: give --dtype float32, or take it out"
        )
    raw_Q = fcluster(linkage(unit_rows(gradients_QD, norms_Q), "ward"), number, "maxclust").tolist()
    names = {raw: f"cluster {place}" for place, raw in enumerate(dict.fromkeys(raw_Q), start=1)}
    return [names[raw] for raw in raw_Q]
