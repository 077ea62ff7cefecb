"""Landmarks: exact gradients of a few candidates, their similarity to every query spread over cheap features to all.

Source: Influence Distillation, Nikdan et al. NeurIPS 2025, arXiv 2505.19051: landmarks at random, ridge with an RBF
kernel (ridge.py), any algorithm on what comes of it. Ours: any cheap features, one landmark a cluster, the landmarks'
own exact similarities in the end, the error on held-out landmarks (held_out.py), and gradients after all of those that
are uncertain and could be chosen (refinement.py).

Shapes: N candidates, L landmarks, R rows, Q queries, D features.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handpick.algorithms import Similarity
from handpick.algorithms.matrix import Matrix
from handpick.algorithms.view import SimilarityView
from handpick.budget import Budget
from handpick.costs.cost import StageKind
from handpick.documents import DAMAGED
from handpick.errors import SettingsError, StoreError
from handpick.executors import Executor, Preparer, rows_of
from handpick.files import read_array, write_array
from handpick.fingerprint import Fingerprint, digest
from handpick.layout import LandmarksLayout, PartLayout, RunLayout
from handpick.progress import log
from handpick.scorers.cut import best_columns
from handpick.scorers.exact_rows import ExactRows, similarity_of
from handpick.scorers.finished_run import POOL_GONE, QUERIES_GONE, FinishedRun, Reopened
from handpick.scorers.gradient import Gradient
from handpick.scorers.held_out import POOR, HeldOutFit, measure_held_out
from handpick.scorers.inputs import Data, Inputs
from handpick.scorers.landmark_costs import LandmarkCosts
from handpick.scorers.landmark_draw import draw_from_clusters, draw_uniformly
from handpick.scorers.pool_features import PoolFeatures
from handpick.scorers.refinement import UpperBounds
from handpick.scorers.ridge import Ridge, fit_ridge, median_distance, ridge_bytes
from handpick.scorers.scorer import fingerprint, no_features, quarantine_unused
from handpick.scorers.scoring_problem import Remark, ScoringProblem, fits_in_memory
from handpick.scorers.spread import ExactColumns, SpreadSimilarity, deviations
from handpick.scorers.stages import Stage
from handpick.similarity import write_similarity
from handpick.store import FeatureStore
from handpick.store.codec import Floats
from handpick.store.manifest import contents_of
from handpick.store.memory import available_bytes

_LANDMARKS_GONE = "the landmarks and what was spread from them are not in the folder any more"
_READ_TOGETHER = 1_024  # records

Rows = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Spread:
    """What is foretold of all candidates, how well of landmarks held out, and which places among the candidates are to
    be made exact after all."""

    foretold: Similarity
    held_out: HeldOutFit
    refined_R: Rows


class Landmarks(Gradient):
    """Compares a few gradients, and foretells what others would come to.

    Rows are counted in the store of cheap features (``candidate_rows_N``, ``landmark_rows_L``).
    """

    nearest_words = "similarity to the nearest query, exact or spread from landmarks"

    def __init__(self, inputs: Inputs) -> None:
        super().__init__(inputs)
        self.features = PoolFeatures(inputs, self.settings.landmark_features)

    # before any work

    def preflight(self) -> None:
        """Refuse what would stop the run later, of gradients, of the cheap features or of the ridge."""
        super().preflight()
        self.features.check()
        self.check_count(len(self.pool.pool))

    def check_count(self, n_pool: int) -> None:
        """Refuse landmarks that are all of a pool of so many, one alone, or a ridge that does not fit in memory."""
        n = _count(self.settings.landmarks, n_pool)
        if n >= n_pool:
            raise SettingsError(
                f"{n:,} landmarks are all of a pool of {n_pool:,}, and nothing is left to spread to: --method less-rr "
                "is the same and does without the rest, or give fewer --landmarks"
            )
        if n < 2:
            raise SettingsError("one landmark alone has no distance to another: give more --landmarks")
        needed, free = ridge_bytes(n), available_bytes()
        if needed > free:
            raise SettingsError(
                f"the kernel of {n:,} landmarks takes {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free: give "
                "fewer --landmarks"
            )

    @property
    def n_landmarks(self) -> int:
        """L, as it was asked for."""
        return _count(self.settings.landmarks, len(self.pool.pool))

    @property
    def n_refined(self) -> int:
        """How many more are to be made exact, at most."""
        return 0 if self.settings.refine == "0" else _count(self.settings.refine, len(self.pool.pool))

    def pool_inputs(self) -> Fingerprint:
        """Return what the landmarks and their rows depend on."""
        return {
            "side": self.gradients.side_inputs(self.gradients.optimizer, self.gradients.objectives.pool),
            "files": contents_of(self.pool.pool.files),
            "features": self.features.inputs,
            "landmarks": self.n_landmarks,
            "draw": self.settings.landmark_draw,
            "seed": self.settings.seed,
        }

    @cached_property
    def name(self) -> str:
        """What the folder of these landmarks is named by."""
        return digest(self.pool_inputs())

    @property
    def layout(self) -> LandmarksLayout:
        """Where the landmarks are kept."""
        return LandmarksLayout(RunLayout(self.settings.folder).landmarks(self.name))

    @cached_property
    def costs(self) -> LandmarkCosts:
        """What the stages will take."""
        part = PartLayout(self.layout.exact)
        return LandmarkCosts(self.inputs, self.gradients, self.features, part, self.n_landmarks, self.n_refined)

    def stages(self) -> list[Stage]:
        """Return the warmup, the queries' rows, the cheap features, the landmarks' rows, the spread, the refined."""
        costs, (checkpoints, queries, _) = self.costs, super().stages()
        stages = [
            checkpoints,
            queries,
            self.features.stage(),
            Stage(StageKind.LANDMARKS, self.pool_inputs, costs.landmark_work, self.make_landmarks),
            Stage(StageKind.SPREAD, self.spread_inputs, costs.spread_work, self.make_spread),
        ]
        if self.n_refined:
            stages.append(Stage(StageKind.REFINED, self.spread_inputs, costs.refined_work, self.make_refined))
        return stages

    def spread_inputs(self) -> Fingerprint:
        """Return what the spread, and what is refined of it, depend on."""
        return {"landmarks": self.pool_inputs(), "queries": self.query_inputs(), "refined": self.n_refined}

    # landmarks

    def make_landmarks(self, executor: Executor) -> None:
        """Draw the landmarks, and make what is missing of their rows."""
        self.gradients.drop_encoder()  # the queries' rows are there
        self.exact.make(executor)
        _ = self.exact.store

    @cached_property
    def pool_rows(self) -> Rows:
        """The pool's row of every row of the cheap features."""
        return rows_of(self.features.store, self.pool.pool)

    @cached_property
    def usable_rows(self) -> Rows:
        """The cheap features' rows of which a gradient can be taken; found once, the others are set aside.

        Raises:
            DataError: more are set aside than the quarantine's limit.
        """
        path, objective = self.layout.candidates, self.gradients.objectives.pool
        if not path.exists():
            usable_N = np.concatenate(list(_usable(self.pool, self.pool_rows, objective)))
            path.parent.mkdir(parents=True, exist_ok=True)
            write_array(path, np.flatnonzero(usable_N))
        rows: Rows = _read(path)
        _set_aside(self.pool, np.delete(self.pool_rows, rows), objective)
        return rows

    @cached_property
    def drawn_rows(self) -> Rows:
        """The cheap features' rows that were drawn to be landmarks, ascending.

        Raises:
            SettingsError: as many were asked for as there are candidates, or more.
        """
        path, n = PartLayout(self.layout.exact).rows, self.n_landmarks
        if not path.exists():
            usable = self.usable_rows
            if n >= len(usable):
                raise SettingsError(
                    f"{n:,} landmarks were asked for, and of {len(usable):,} examples of the pool a gradient can be "
                    "taken: give fewer --landmarks, or --method less-rr"
                )
            path.parent.mkdir(parents=True, exist_ok=True)
            write_array(path, usable[self._draw(usable, n)])
        rows: Rows = _read(path)
        return rows

    def _draw(self, usable: Rows, n: int) -> Rows:
        seed, features = self.settings.seed, self.features.store.on_disk(0)
        if self.settings.landmark_draw == "random":
            return draw_uniformly(len(usable), n, seed)
        return draw_from_clusters(lambda places: features[usable[places]], len(usable), n, seed)

    @cached_property
    def exact(self) -> ExactRows:
        """The landmarks' gradient rows."""
        rows = self.pool_rows[self.drawn_rows].tolist()
        return ExactRows(self.inputs, self.gradients, rows, PartLayout(self.layout.exact))

    @cached_property
    def landmark_rows_L(self) -> Rows:
        """The cheap features' rows of landmarks that have an exact row."""
        return self.drawn_rows[self.exact.places_C]

    @cached_property
    def candidate_rows_N(self) -> Rows:
        """The cheap features' rows to choose from: without landmarks whose exact row is not finite."""
        return np.setdiff1d(self.usable_rows, np.setdiff1d(self.drawn_rows, self.landmark_rows_L))

    # spread

    def make_spread(self, executor: Executor) -> None:
        """Fit the ridge, foretell what it can, and find what is to be made exact after all."""
        _ = self.spread

    @cached_property
    def spread(self) -> Spread:
        """What is foretold."""
        store, queries = self.features.store, self.compared_queries
        exact_QL = self.exact.similarity(queries)
        fitted = fit_ridge(store.on_disk(0)[self.landmark_rows_L], exact_QL.T)
        write_array(self.layout.coefficients(self.query_digest), fitted.ridge.coefficients_LQ)
        similarity = SpreadSimilarity(store, self.candidate_rows_N, fitted.ridge)
        path = None if fits_in_memory(similarity.shape) else RunLayout(self.settings.folder).similarity
        if path is not None:
            n_bytes = 4 * similarity.shape[0] * similarity.shape[1]
            log(f"the spread gives all of the similarity: {n_bytes / 1e9:.1f} GB in {path}")
        foretold = Matrix(write_similarity(similarity, path))
        refined_R = np.zeros(0, np.int64)
        if self.n_refined:
            bounds = UpperBounds(foretold, fitted.scale_Q, deviations(store, self.candidate_rows_N, fitted))
            without_N = np.isin(self.candidate_rows_N, self.landmark_rows_L)
            refined_R = best_columns(bounds, self.n_refined, without_N)
        held_out = measure_held_out(queries.ids, exact_QL.T.astype(np.float64), fitted.left_out_LQ)
        return Spread(foretold, held_out, refined_R)

    @property
    def query_digest(self) -> str:
        """What the coefficients for these queries are named by."""
        return digest(fingerprint(self.compared_queries.store))

    def make_refined(self, executor: Executor) -> None:
        """Make the rows of what is to be made exact after all."""
        refined = self.refined
        if refined is not None:
            refined.make(executor)

    @cached_property
    def refined_rows(self) -> Rows:
        """The cheap features' rows that are made exact after all, ascending."""
        return self.candidate_rows_N[self.spread.refined_R]

    @cached_property
    def refined(self) -> ExactRows | None:
        """The gradient rows of what is made exact after all; None where nothing is."""
        rows = self.pool_rows[self.refined_rows].tolist()
        if not rows:
            return None
        layout = PartLayout(self.layout.refined(digest(rows)))
        layout.folder.mkdir(parents=True, exist_ok=True)
        write_array(layout.rows, self.refined_rows)
        return ExactRows(self.inputs, self.gradients, rows, layout)

    # what to choose by

    def pool_features(self) -> FeatureStore:
        """Raise SettingsError: candidates have no features that similarities are products of."""
        raise no_features(self.settings)

    def problem(self) -> ScoringProblem:
        """Return the similarity: exact of landmarks and of what was refined, foretold of all others."""
        queries, spread, refined = self.compared_queries, self.spread, self.refined
        quarantine_unused(queries.store, self.inputs.queries, self.gradients.objectives.query)
        exact = [(self.landmark_rows_L, self.exact.similarity(queries))]
        rows_N = self.candidate_rows_N
        similarity, kept_N = spread.foretold, np.ones(len(rows_N), np.bool_)
        if refined is not None:
            alive_R = self.refined_rows[refined.places_C]
            exact.append((alive_R, refined.similarity(queries)))
            kept_N = ~np.isin(rows_N, np.setdiff1d(self.refined_rows, alive_R))
        similarity = put_exact(similarity, rows_N, exact)
        if not kept_N.all():
            similarity = SimilarityView(similarity, columns_N=np.flatnonzero(kept_N))
        n_exact = sum(len(rows) for rows, _ in exact)
        return ScoringProblem(
            similarity,
            self.pool_rows[rows_N[kept_N]],
            {
                "pool": fingerprint(self.features.store),
                "query": fingerprint(queries.store),
                "landmarks": {
                    "folder": self.name,
                    "rows": digest(self.exact.fingerprint()),
                    "query": self.query_digest,
                    "refined": None if refined is None else digest(self.pool_rows[self.refined_rows].tolist()),
                },
            },
            queries.ids,
            queries.subtasks,
            remarks=(_remark(spread.held_out, n_exact, int(kept_N.sum())),),
        )

    @classmethod
    def reopen(cls, run: FinishedRun) -> Reopened | str:
        """Return the similarities to single queries, exact and foretold, from what the run left."""
        features, query_store, made = run.store("pool"), run.store("query"), run.fingerprints.get("landmarks", {})
        if features is None:
            return POOL_GONE
        if query_store is None:
            return QUERIES_GONE
        layout = LandmarksLayout(RunLayout(run.folder).landmarks(made["folder"]))
        parts = [PartLayout(layout.exact)]
        if made["refined"] is not None:
            parts.append(PartLayout(layout.refined(made["refined"])))
        coefficients = layout.coefficients(made["query"])
        if not coefficients.exists() or not all(part.rows.exists() and part.pool_stores() for part in parts):
            return _LANDMARKS_GONE
        return _reopen_spread(cls.nearest_words, features, query_store, layout, parts, _read(coefficients))


def put_exact(similarity: Similarity, rows_N: Rows, exact: Sequence[tuple[Rows, Floats]]) -> ExactColumns:
    """Return a similarity with exact columns in it.

    Args:
        similarity: what is foretold.
        rows_N: the row of every column, ascending.
        exact: rows, and their similarities (Q, rows).
    """
    columns_E = np.searchsorted(rows_N, np.concatenate([rows for rows, _ in exact]))
    order_E = np.argsort(columns_E)
    exact_QE = np.concatenate([values for _, values in exact], axis=1)
    return ExactColumns(similarity, columns_E[order_E], exact_QE[:, order_E])


def _reopen_spread(
    what: str,
    features: FeatureStore,
    query_store: FeatureStore,
    layout: LandmarksLayout,
    parts: Sequence[PartLayout],
    coefficients_LQ: NDArray[np.float64],
) -> Reopened:
    says_Q = np.flatnonzero(np.any([query_store.norms(t) for t in range(len(query_store.checkpoints))], axis=0))
    ids, rows_N = features.ids, _read(layout.candidates)
    exact: list[tuple[Rows, Floats]] = []
    for part in parts:
        store = FeatureStore.open(part.pool_stores()[0])
        asked_R: Rows = _read(part.rows)
        there = set(store.ids)
        alive_R = np.array([row for row in asked_R.tolist() if ids[row] in there], dtype=np.int64)
        rows_N = np.setdiff1d(rows_N, np.setdiff1d(asked_R, alive_R))
        exact.append((alive_R, similarity_of(store, query_store, says_Q)))
    features_LD = features.on_disk(0)[exact[0][0]].astype(np.float64)
    ridge = Ridge(features_LD, median_distance(features_LD), coefficients_LQ)
    similarity = put_exact(SpreadSimilarity(features, rows_N, ridge), rows_N, exact)
    return Reopened(what, similarity, {ids[row]: column for column, row in enumerate(rows_N.tolist())})


def _remark(held_out: HeldOutFit, n_exact: int, n_candidates: int) -> Remark:
    said = f"{n_exact:,} of {n_candidates:,} similarities are exact, and {held_out.sentence()}"
    if held_out.is_poor:
        said += (
            f"; below a rank correlation of {POOR:g} the others are in poor order: give more --landmarks, other "
            "--landmark-features or --refine, or take the method less-rr"
        )
    return Remark("Landmarks", said, held_out.is_poor, held_out.to_json())


def _read(path: Path) -> NDArray[Any]:
    """Read an array that a run has left.

    Raises:
        StoreError: it is damaged.
    """
    try:
        return read_array(path)
    except DAMAGED as error:
        raise StoreError(f"{path} is damaged ({error}); delete {path.parent} and run the same again") from error


def _count(amount: str, n_pool: int) -> int:
    """Return how many examples of a pool are meant by a number or a share."""
    budget = Budget.parse(amount)
    return budget.examples_needed(n_pool) if budget.kind == "percent" else int(budget.amount)


def _usable(pool: Data, rows_N: Rows, prepares: Preparer) -> Iterator[NDArray[np.bool_]]:
    """Yield, some rows at a time, which of them can be prepared."""
    for start in range(0, len(rows_N), _READ_TOGETHER):
        examples = [pool.pool[row] for row in rows_N[start : start + _READ_TOGETHER].tolist()]
        ids = set(prepares.prepare(examples).ids)
        yield np.array([each.id in ids for each in examples], dtype=np.bool_)


def _set_aside(pool: Data, rows: Rows, prepares: Preparer) -> None:
    """Report rows of the pool that cannot be prepared, each with the reason."""
    for row in rows.tolist():
        for _, reason in prepares.prepare([pool.pool[row]]).refused:
            pool.pool.set_aside(row, reason, pool.quarantine)
    if len(rows):
        pool.quarantine.report()
