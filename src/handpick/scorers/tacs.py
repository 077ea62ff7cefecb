"""TACS: what gets easier once the model has learnt the queries (Yang, He and Cheng 2026, arXiv 2605.09404).

    score(z) = (ℓ(z; θ_1) − ℓ(z; θ_T)) / (ℓ(z; θ_1) + 1e-8)

ℓ is the mean loss of the response, θ_1 and θ_T the endpoints of the target's path (tacs_path.py), whose learning rate
and depth T are calibrated (tacs_calibration.py); the largest are taken. Ours: a path for each subtask or cluster of
queries (tacs_targets.py), which gives a row of scores each, so that queries can take turns.

A store keeps two numbers a candidate and path, ℓ at the first endpoint and by how much it drops: of two losses that are
nearly the same, their difference in float32 would be rounding.

Shapes: N candidates, P paths, B examples of a shard.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from handpick.algorithms import Picks
from handpick.algorithms.matrix import Matrix
from handpick.costs.cost import StageKind
from handpick.errors import DataError
from handpick.executors import Advance, Executor, fill_store, rows_of
from handpick.fingerprint import Fingerprint, digest
from handpick.in_memory import MODEL_IS_HERE_ALONE, is_in_memory
from handpick.layout import RunLayout
from handpick.model import free_memory, model_fingerprint, padding_id, tokenizer_fingerprint
from handpick.objectives.next_token import NextToken
from handpick.objectives.protocol import Prepared
from handpick.progress import log, progress
from handpick.random_streams import generator
from handpick.scorers.finished_run import POOL_GONE, FinishedRun, InMemory, Reopened, columns_of
from handpick.scorers.gradient_encoder import adapter_fingerprint, tokens_per_batch
from handpick.scorers.inputs import Inputs, check_max_length, model_name, open_renderer
from handpick.scorers.scorer import Scorer, fingerprint, quarantine_unused
from handpick.scorers.scoring_problem import ScoringProblem
from handpick.scorers.stages import Stage
from handpick.scorers.tacs_calibration import FOLDS, GENERIC, Calibration, Course, Grid, grid_of
from handpick.scorers.tacs_costs import TacsCosts
from handpick.scorers.tacs_path import PathModel, endpoints, is_there, path_fingerprint, train_path
from handpick.scorers.tacs_targets import (
    LearntQueries,
    QueryGroup,
    check_size,
    check_targets,
    cluster_labels,
    learnt_queries,
    n_clusters,
    stated_targets,
    token_digest,
)
from handpick.sealed import read_sealed_list, write_sealed
from handpick.settings import Settings
from handpick.store import Checkpoint, FeatureStore, Manifest, ManifestFile
from handpick.store.codec import Floats
from handpick.store.manifest import contents_of

EPSILON = 1e-8  # beside the first loss
_READ = 64  # records of the pool that are tried together, for those that can be learnt


class Tacs(Scorer):
    """Scores candidates by the drop of their loss along the paths of one target or several.

    Args:
        inputs: the run's settings and data.

    Raises:
        SettingsError: no model is given.
        ModelError: the model's folder cannot be used.
    """

    def __init__(self, inputs: Inputs) -> None:
        super().__init__(inputs)
        self.renderer = inputs.model_renderer
        self.objective = NextToken(self.renderer, inputs.settings.max_length)
        self.grid: Grid = grid_of(inputs.settings)
        self._layout = RunLayout(inputs.settings.folder)
        self._model: PathModel | None = None

    def preflight(self) -> None:
        """Refuse a model that cannot be read with, and queries that are too few for the paths that are asked for."""
        check_max_length(self.settings)
        check_targets(self.settings, self.queries)

    @cached_property
    def queries(self) -> LearntQueries:
        """The queries that leave a response to learn from."""
        return learnt_queries(self.inputs, self.objective)

    def model(self) -> PathModel:
        """Return the model, loaded once."""
        if self._model is None:
            self._model = PathModel(self.settings, padding_id(self.renderer.tokenizer))
        return self._model

    def drop_model(self) -> None:
        """Give back what the model held, where workers load it for themselves."""
        self._model = None
        free_memory()

    @cached_property
    def costs(self) -> TacsCosts:
        """What the stages will take."""
        return TacsCosts(self)

    def stages(self) -> list[Stage]:
        """Return the calibration, where anything is to be chosen; the paths; the pool's losses."""
        costs = self.costs
        calibration = Stage(StageKind.CALIBRATION, self._calibration_inputs, costs.calibration, self._calibrate)
        paths = Stage(StageKind.PATH, self._path_inputs, costs.paths, self._train_paths)
        pool = Stage(StageKind.POOL, self._pool_inputs, costs.pool, self._fill)
        return [paths, pool] if self.grid.only else [calibration, paths, pool]

    @cached_property
    def space(self) -> Fingerprint:
        """What every path and loss depends on: the model, and how it is given what it reads."""
        model = model_fingerprint(model_name(self.settings))
        return {"representation": "tacs", "model": model, **tokenizer_fingerprint(self.renderer)}

    @cached_property
    def reference(self) -> list[Any]:
        """The generic examples: drawn from the pool by the seed, of those that leave a response to learn from.

        Raises:
            DataError: there is none.
        """
        pool, found = self.pool.pool, list[Any]()
        rows = generator(self.settings.seed, "generic examples").permutation(len(pool)).tolist()
        for start in range(0, len(rows), _READ):
            found += self.objective.prepare([pool[row] for row in rows[start : start + _READ]]).items
            if len(found) >= GENERIC:
                break
        if not found:
            raise DataError(
                f"none of the pool's {len(pool):,} records leaves a response to learn from, so there is nothing to "
                "calibrate the path against; raise --max-length, or name another pool"
            )
        return found[:GENERIC]

    @property
    def _path_space(self) -> Fingerprint:
        return self.space | {"path": path_fingerprint(self.settings)}

    def _calibration_inputs(self) -> Fingerprint:
        return self._path_space | {
            "paths": self.settings.tacs_paths,
            "queries": token_digest(self.queries.sequences),
            "subtasks": [*self.queries.subtasks] if self.settings.tacs_paths == "subtask" else [],
            "grid": {"rates": list(self.grid.rates), "depths": list(self.grid.depths)},
            "reference": "" if self.grid.only else token_digest(self.reference),
            "batch_tokens": tokens_per_batch(self.settings),
        }

    def _path_inputs(self) -> Fingerprint:
        return {"courses": self._calibration_inputs()}

    def _pool_inputs(self) -> Fingerprint:
        return {"paths": self._path_inputs(), "files": contents_of(self.pool.pool.files)}

    @property
    def clusters_record(self) -> Path:
        """Where it is kept which cluster each query is of."""
        queries = token_digest(self.queries.sequences)
        made_from = self._path_space | {"queries": queries, "clusters": n_clusters(self.settings)}
        return self._layout.tacs_clusters(digest(made_from))

    @cached_property
    def targets(self) -> list[QueryGroup]:
        """The targets that have a path each; clusters are found out, once."""
        number = n_clusters(self.settings)
        if number is None:
            return stated_targets(self.settings, self.queries)
        record = self.clusters_record
        if not record.exists():
            model = self.model()
            model.restart()
            labels = cluster_labels(model.gradients(self.queries.sequences), number)
            record.parent.mkdir(parents=True, exist_ok=True)
            write_sealed(record, {"labels": labels}, indent=None)
        targets = self.queries.grouped(read_sealed_list(record, "labels", "remove it and run the same again"))
        sizes = ", ".join(str(len(each.ids)) for each in targets)
        log(f"{len(targets)} clusters of {len(self.queries.ids)} queries: {sizes}")
        for target in targets:
            check_size(self.settings, target)
        return targets

    def calibrations(self, targets: Sequence[QueryGroup] | None = None) -> list[Calibration]:
        """Return the calibration of every target's path, as far as each is done."""
        made = []
        for target in self.targets if targets is None else targets:
            made_from = self._path_space | {
                "target": target.digest,
                "grid": {"rates": list(self.grid.rates), "depths": list(self.grid.depths)},
                "reference": token_digest(self.reference),
                "batch_tokens": tokens_per_batch(self.settings),
            }
            folder = self._layout.tacs_calibration(digest(made_from))
            made.append(
                Calibration(
                    target.ids, target.sequences, self.reference, self.grid, self.settings.seed, folder, made_from
                )
            )
        return made

    def _calibrate(self, executor: Executor) -> None:
        _ = self.courses

    @cached_property
    def courses(self) -> list[Course]:
        """The rate and depth of every path."""
        if self.grid.only is not None:
            return [self.grid.only] * len(self.targets)
        calibrations = self.calibrations()
        left, total = (sum(counts) for counts in zip(*((c.n_left, c.n_learnt) for c in calibrations), strict=True))
        if left:
            log(
                f"calibration: {FOLDS} folds × {len(self.grid.rates)} rates, up to {max(self.grid.depths)} passes over "
                f"{len(self.queries.ids)} queries; --tacs-rate and --tacs-depth, where they are known, leave it out"
            )
            with progress(StageKind.CALIBRATION.value, total, total - left) as advance:
                for calibration in calibrations:
                    calibration.run(self.model, advance)
        found: list[Course] = []
        for target, calibration in zip(self.targets, calibrations, strict=True):
            course, specificity = calibration.best()
            found.append(course)
            log(
                f"the path of {target.name}: rate {course.rate:g}, {course.depth} passes (held-out specificity "
                f"{specificity:.3g})"
            )
        return found

    def path_of(self, target: QueryGroup, course: Course) -> tuple[Path, Fingerprint]:
        """Return the folder of a target's path, and what it is made from."""
        made_from = self._path_space | {"target": target.digest, "rate": course.rate, "depth": course.depth}
        return self._layout.tacs_path(digest(made_from)), made_from

    def _train_paths(self, executor: Executor) -> None:
        _ = self.endpoints

    @cached_property
    def endpoints(self) -> list[Path]:
        """The checkpoints that losses are taken at: the first and the last of every path, path by path."""
        paths = [
            (target, course, *self.path_of(target, course))
            for target, course in zip(self.targets, self.courses, strict=True)
        ]
        missing = [path for path in paths if not is_there(path[2], path[1].depth)]
        if missing:
            total = sum(len(target.ids) * course.depth for target, course, _, _ in missing)
            with progress(StageKind.PATH.value, total) as advance:
                for target, course, folder, made_from in missing:
                    train_path(self.model(), target.ids, target.sequences, *course, folder, made_from, advance)
        return [path for _, course, folder, _ in paths for path in endpoints(folder, course.depth)]

    def _losses_fingerprint(self, paths: Sequence[Path]) -> tuple[Fingerprint, Fingerprint]:
        """Return what the losses at some endpoints depend on, besides the records: the store's space and build."""
        space = self.space | {"paths": adapter_fingerprint(paths)}
        return space, path_fingerprint(self.settings) | {"batch_tokens": tokens_per_batch(self.settings)}

    def store_path(self, paths: Sequence[Path]) -> Path:
        """Return the folder of the pool's losses at some endpoints."""
        return self._layout.tacs_store(digest(self._losses_fingerprint(paths)))

    def _store(self) -> FeatureStore:
        space, build = self._losses_fingerprint(self.endpoints)
        manifest = Manifest(
            space=space,
            build=build,
            dim=len(self.endpoints),
            storage="float32",
            checkpoints=[Checkpoint(name="paths", weight=1.0)],
            files=ManifestFile.of(self.pool.pool.files),
            shard_rows=self.settings.shard_rows,
        )
        return FeatureStore.create(self.store_path(self.endpoints), manifest)

    def _fill(self, executor: Executor) -> None:
        store = self._store()
        if not executor.is_here:
            self.drop_model()
        spec = TacsSpec(self.settings, tuple(self.endpoints), host=self)
        fill_store(store, self.pool.pool, spec, StageKind.POOL.value, self.pool.quarantine, executor)

    def problem(self) -> ScoringProblem:
        """Return the scores on every path; which query a pick is for is known where its path has but one."""
        store = self._store()
        given = self.inputs.queries
        row_of = {query_id: row for row, query_id in enumerate(given.pool.ids())}
        for example, reason in self.queries.refused:
            given.pool.set_aside(row_of[example.id], reason, given.quarantine)
        given.quarantine.report()
        quarantine_unused(store, self.pool, self.objective)
        alone = [target.ids[0] if len(target.ids) == 1 else None for target in self.targets]

        def only_query(picks: Picks) -> list[str | None]:
            return [alone[path] if path >= 0 else None for path in picks.queries.tolist()]

        names = [target.name for target in self.targets]
        return ScoringProblem(
            Matrix(scores_of(store)),
            rows_of(store, self.pool.pool),
            {"pool": fingerprint(store), "query": {"files": contents_of(given.pool.files)}},
            names,
            names,
            nearest=only_query,
            sentence=tell_drop,
        )

    @classmethod
    def reopen(cls, run: FinishedRun) -> Reopened | str:
        """Return the scores, from the losses that the run left."""
        store = run.store("pool")
        if store is None:
            return POOL_GONE
        what = "relative drop of the loss once the queries are learnt"
        return Reopened(what, InMemory(scores_of(store)), columns_of(store))


def scores_of(store: FeatureStore) -> Floats:
    """Return the score of every candidate on every path, float32 (P, N)."""
    rows_NPE = np.asarray(store.array(0, normalized=False)).astype(np.float64).reshape(len(store), -1, 2)
    scores_NP = rows_NPE[..., 1] / (rows_NPE[..., 0] + EPSILON)
    return np.ascontiguousarray(scores_NP.T.astype(np.float32))


def tell_drop(chosen: Floats, pool: Floats) -> str:
    """Return how much easier the model finds what was chosen, and the pool, of the scores of both."""

    def describe_change(scores: Floats) -> str:
        drop = float(np.median(scores))
        return f"{'falls' if drop >= 0 else 'rises'} by {abs(drop):.2%}" if abs(drop) >= 5e-5 else "stays as it is"

    return (
        "After learning your queries the model finds the chosen examples easier by so much: its loss on them "
        f"{describe_change(chosen)} in the median, on the pool it {describe_change(pool)}"
    )


@dataclass(frozen=True)
class TacsSpec:
    """A description of the losses on some paths, which pickles without its ``host``: the scorer of this process, whose
    model is used again.

    ``endpoints`` are the first and the last checkpoint of every path, path by path.
    """

    settings: Settings
    endpoints: tuple[Path, ...]
    host: Tacs | None = field(default=None, compare=False, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "host": None}

    @property
    def not_portable(self) -> str | None:
        """Why another process cannot load it; None where it can."""
        return MODEL_IS_HERE_ALONE if is_in_memory(self.settings.model) else None

    def load(self) -> "TacsRows":
        """Return what takes the losses; the model is loaded when the first are."""
        if self.host is not None:
            return TacsRows(self.endpoints, self.host.objective, self.host.model)
        renderer = open_renderer(self.settings)
        loaded: list[PathModel] = []

        def model() -> PathModel:
            if not loaded:
                loaded.append(PathModel(self.settings, padding_id(renderer.tokenizer)))
            return loaded[0]

        return TacsRows(self.endpoints, NextToken(renderer, self.settings.max_length), model)


class TacsRows:
    """An encoder of losses: a row has two numbers a path, the loss at its first endpoint and by how much it drops.

    Args:
        endpoints: the first and the last checkpoint of every path, path by path.
        objective: prepares records.
        model: gives the model, loaded once.
    """

    def __init__(self, endpoints: Sequence[Path], objective: NextToken, model: Callable[[], PathModel]) -> None:
        self._endpoints = endpoints
        self._objective = objective
        self._model = model

    def prepare(self, examples: Sequence[Any]) -> Prepared:
        """Return a sequence per record; refused is one that leaves no response to learn from."""
        return self._objective.prepare(examples)

    def encode(self, checkpoint: int, items: Sequence[Any], advance: Advance) -> Floats:
        """Return rows (B, 2·P), float32."""
        model, n = self._model(), len(self._endpoints)
        losses_EB = np.empty((n, len(items)))
        for place, path in enumerate(self._endpoints):
            model.move_to(path)
            losses_EB[place] = model.losses(items, lambda done: advance(done / n))
        rows_BE = losses_EB.T.copy()
        rows_BE[:, 1::2] = rows_BE[:, 0::2] - rows_BE[:, 1::2]
        return rows_BE.astype(np.float32)
