"""The feature stores of a run's gradients, the pool's and the queries', made by one model at one set of checkpoints.

Shapes: B examples of a shard, D features, Q queries.
"""

import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from handpick.choices import Optimizer
from handpick.data.pool import Pool
from handpick.data.quarantine import Quarantine
from handpick.data.render import Renderer
from handpick.errors import DataError, FingerprintMismatch, SettingsError
from handpick.executors import Advance, Executor, fill_store, refuse_queries
from handpick.fingerprint import Fingerprint, digest, require_same
from handpick.gradients.projection import NoProjection, Projection
from handpick.in_memory import MODEL_IS_HERE_ALONE, is_in_memory
from handpick.layout import RunLayout, StoreLayout
from handpick.model import device, free_memory, has_bfloat16, model_fingerprint, tokenizer_fingerprint
from handpick.objectives.next_token import NextToken
from handpick.objectives.protocol import Objective, Prepared
from handpick.progress import log, progress
from handpick.scorers.checkpoints import check_checkpoints, checkpoint_inputs, find_checkpoints, needs_training
from handpick.scorers.gist_subspace import BasisProjection, KeptSubspace
from handpick.scorers.gradient_encoder import (
    GradientEncoder,
    adapter_fingerprint,
    build_fingerprint,
    moments_fingerprint,
    space_fingerprint,
)
from handpick.scorers.inputs import Inputs, UserObjects, check_layers, check_max_length, open_renderer
from handpick.scorers.provenance import pool_store_path, write_provenance
from handpick.scorers.query_objective import query_objective
from handpick.settings import Settings
from handpick.store import Checkpoint, FeatureStore, Manifest, ManifestFile
from handpick.store.codec import Floats, Storage, row_norms, unit_rows
from handpick.store.manifest import contents_of, read_manifest
from handpick.store.memory import available_bytes


class GradientStores:
    """Makes the stores, or finds them made.

    Args:
        inputs: of the run.
        like: those of the whole pool, where this is a part of it: the model's bytes are not read again.

    Raises:
        SettingsError: no model is given.
        ModelError: the model's folder cannot be used.
    """

    def __init__(self, inputs: Inputs, like: "GradientStores | None" = None) -> None:
        self.settings = inputs.settings
        self.renderer = inputs.model_renderer
        self.pool = inputs.pool.pool
        self.optimizer: Optimizer = inputs.settings.used_optimizer
        self.objectives: Objectives = (
            Objectives(inputs.settings, self.renderer, model_fingerprint(str(inputs.settings.model)), inputs.own)
            if like is None
            else like.objectives
        )

    def check(self, query: Pool | None = None) -> None:
        """Find out, before anything costly, what would stop the run later.

        Raises:
            FingerprintMismatch: the output folder or the store was made from other settings, model or data.
            DataError: no query leaves a response to learn from.
            SettingsError: ``max_length`` is more than the model has positions for, it has no such layer, or two
                settings contradict.
        """
        check_max_length(self.settings)
        check_layers(self.settings)
        if query is not None:
            _ = self.objectives.query  # what it lacks is said first
        path = pool_store_path(self.settings)
        what = f"the feature store {path}"
        there = read_manifest(path) if StoreLayout(path).manifest.exists() else None
        if there is not None:
            require_same(_drop_key(there.space, "adapter"), self.objectives.space, what=what)
            build = build_fingerprint(self.settings, self.optimizer, self.objectives.pool)
            require_same(_drop_key(there.build, "moments"), build, what=what)
            _require_same_files(there, self.pool, what)
            stored: Fingerprint = {"storage": there.storage, "shard_rows": there.shard_rows}
            require_same(stored, {name: getattr(self.settings, name) for name in stored}, what=what)
        check_checkpoints(self.settings, self.optimizer, self.pool, self.renderer, self.objectives.model)
        if there is not None and needs_training(self.settings):
            raise FingerprintMismatch(
                f"{what} does not match: it was made at {', '.join(c.name for c in there.checkpoints)}, not at the "
                "checkpoints of the warmup that these settings ask for; use the same --warmup or --checkpoints, or "
                "build anew in another folder"
            )
        if query is not None:
            ids, _, refused = self.objectives.query.prepare(query.examples(0, len(query)))
            if not ids:
                name = self.objectives.query.fingerprint().get("objective")
                raise DataError(
                    f"no query can be used for the {name} objective; the first, {refused[0][0].id!r}: "
                    f"{refused[0][1]}" + ("; prompts alone are for --method nice" if name == "next-token" else "")
                )

    def pool_store(self, executor: Executor | None = None, quarantine: Quarantine | None = None) -> FeatureStore:
        """Return the pool's features, preconditioned as the method says; what is missing is made.

        What they are made with is written beside them. With a quarantine, ended when its limit is certain to be passed
        (``fill_store``).
        """
        store = FeatureStore.create(pool_store_path(self.settings), self.pool_manifest())
        # as they were here: another machine would choose otherwise, and the store would not fit its own settings
        build = build_fingerprint(self.settings, self.optimizer, self.objectives.pool)
        write_provenance(
            store.path,
            self.settings,
            checkpoints=[str(path.resolve()) for path in self.checkpoints[0]],
            dtype=build["dtype"],
            batch_tokens=build["batch_tokens"],
            optimizer=self.optimizer,
        )
        fill_store(store, self.pool, self.spec("pool"), "pool features", quarantine, executor)
        return store

    def query_store(self, query: Pool, executor: Executor | None = None) -> FeatureStore:
        """Return the queries' features: plain gradients of their objective, in the same space."""
        manifest = self._manifest(query, "sgd", self.objectives.query).model_copy(update={"storage": "float32"})
        path = RunLayout(self.settings.folder).query_store(digest(manifest.fingerprint()))
        store = FeatureStore.create(path, manifest)
        fill_store(store, query, self.spec("query"), "query features", executor=executor)
        return store

    def score_store(
        self, query_store: FeatureStore, executor: Executor | None = None, quarantine: Quarantine | None = None
    ) -> FeatureStore:
        """Return the pool's weighted similarities to the queries, (N, Q) per checkpoint; its features are not kept.

        S[q, n] is the sum of ``array(t, normalized=False)[n, q]`` over the checkpoints t.
        """
        query = digest(query_store.manifest.fingerprint())
        manifest = self.pool_manifest()
        manifest = manifest.model_copy(
            update={"space": manifest.space | {"scores for": query}, "dim": len(query_store), "storage": "float32"}
        )
        store = FeatureStore.create(RunLayout(self.settings.folder).score_store(query), manifest)
        spec = replace(self.spec("pool"), score_against=query_store.path)
        fill_store(store, self.pool, spec, "pool scores", quarantine, executor)
        return store

    def spec(self, side: Literal["pool", "query"]) -> "GradientSpec":
        """Return the description of one side's rows."""
        paths, model = tuple(self.checkpoints[0]), self.objectives.model
        if side == "pool":  # what the user handed over is the queries'
            return GradientSpec(self.settings, paths, side, self.optimizer, model, UserObjects(), host=self)
        return GradientSpec(self.settings, paths, side, "sgd", model, self.objectives.own, host=self)

    def raw_query_gradients(self, query: Pool) -> Floats:
        """Compute the queries' whole gradients at the last checkpoint, (Q, coordinates), unprojected.

        Raises:
            SettingsError: they do not fit in memory.
            DataError: one is not finite.
            ModelError: none is.
        """
        ids, items, _ = self.objectives.query.prepare(query.examples(0, len(query)))
        encoder = self.encoder
        needed, free = 8 * len(ids) * encoder.n_coordinates, available_bytes()
        if needed > free:
            raise SettingsError(
                f"the gradients of {len(ids)} queries and their basis take {needed / 1e9:.0f} GB and {free / 1e9:.0f} "
                "GB are free: give fewer queries, or a warmup of lower rank"
            )
        raw, last = NoProjection(encoder.n_coordinates), len(encoder.checkpoints) - 1
        with progress("query gradients", total=len(ids)) as advance:
            rows_QD = encoder.encode(last, "sgd", self.objectives.query, items, advance, raw)
        not_finite = np.flatnonzero(~np.isfinite(row_norms(rows_QD))).tolist()
        plan = self._manifest(query, "sgd", self.objectives.query)
        refuse_queries(plan, {ids[row]: [last] for row in not_finite}, len(ids))
        return rows_QD

    def last_manifest(
        self, examples: Pool, objective: Objective, projected: Fingerprint, dim: int, storage: Storage
    ) -> Manifest:
        """Return the plan of a store of plain gradients at the last checkpoint alone, projected otherwise than set."""
        manifest = self._manifest(examples, "sgd", objective)
        adapters: Any = manifest.space["adapter"]
        space = manifest.space | {"projection": projected, "adapter": adapters[-1:]}
        last = manifest.checkpoints[-1].model_copy(update={"weight": 1.0})
        return manifest.model_copy(update={"space": space, "dim": dim, "storage": storage, "checkpoints": [last]})

    def checkpoint_inputs(self) -> Fingerprint:
        """Return what the checkpoints depend on, known before any is trained."""
        return checkpoint_inputs(self.settings, self.pool, self.renderer, self.objectives.model)

    def side_inputs(self, optimizer: Optimizer, objective: Objective) -> Fingerprint:
        """Return what one side's rows depend on besides the records, known before anything is trained."""
        return {
            "checkpoints": self.checkpoint_inputs(),
            "space": self.objectives.space,
            "build": build_fingerprint(self.settings, optimizer, objective),
        }

    def pool_manifest(self) -> Manifest:
        """Return the plan of the pool's store."""
        return self._manifest(self.pool, self.optimizer, self.objectives.pool)

    def _manifest(self, examples: Pool, optimizer: Optimizer, objective: Objective) -> Manifest:
        paths, checkpoints = self.checkpoints
        space: Fingerprint = self.objectives.space | {"adapter": adapter_fingerprint(paths)}
        build = build_fingerprint(self.settings, optimizer, objective)
        if optimizer == "adam":
            build["moments"] = moments_fingerprint(paths)
        return Manifest(
            space=space,
            build=build,
            dim=self._dim(),
            storage=self.settings.storage,
            checkpoints=checkpoints,
            files=ManifestFile.of(examples.files),
            shard_rows=self.settings.shard_rows,
        )

    def _dim(self) -> int:
        if self.settings.projection != "none":
            return self.settings.projection_dim
        path = pool_store_path(self.settings)
        return read_manifest(path).dim if StoreLayout(path).manifest.exists() else self.encoder.dim

    @cached_property
    def checkpoints(self) -> tuple[list[Path], list[Checkpoint]]:
        """The checkpoints' folders, and what each weighs; trains the warmup where there is none yet."""
        return find_checkpoints(self.settings, self.pool, self.renderer, self.objectives.model)

    def settings_of_part(self) -> dict[str, Any]:
        """Return settings by which rows of a part of the pool are made at these checkpoints."""
        return {"checkpoints": [str(path) for path in self.checkpoints[0]], "warmup": "auto", "lora_targets": None}

    @cached_property
    def encoder(self) -> GradientEncoder:
        """The model with its adapter."""
        return load_encoder(self.settings, self.checkpoints[0], self.renderer)

    def drop_encoder(self) -> None:
        """Give back what the model held, where workers load it for themselves."""
        self.__dict__.pop("encoder", None)
        free_memory()


class Objectives:
    """What the rows of both sides are gradients of, and in which space.

    Args:
        settings: of the run.
        renderer: with the model's tokenizer.
        model: what the base model is.
        own: what the user handed over in Python.
    """

    def __init__(self, settings: Settings, renderer: Renderer, model: Fingerprint, own: UserObjects) -> None:
        self._settings = settings
        self._renderer = renderer
        self.model = model
        self.own = own
        tokenizer = tokenizer_fingerprint(renderer)
        self.space = space_fingerprint(settings, model, tokenizer)
        # the candidates' answers alone are cut: the queries are few, and their whole answers are what is wanted
        self.pool: Objective = NextToken(renderer, settings.max_length, settings.response_tokens)

    @cached_property
    def query(self) -> Objective:
        """The queries'; what it lacks is said when it is first asked for.

        Raises:
            SettingsError, ModelError: as ``query_objective``.
        """
        made_by = {name: value for name, value in self.space.items() if name not in ("projection", "layers")}
        return query_objective(self._settings, self._renderer, made_by, self.own)


def load_encoder(settings: Settings, checkpoints: Sequence[Path], renderer: Renderer) -> GradientEncoder:
    """Return the model of a run with its adapter, and say what it computes in."""
    dtype = build_fingerprint(settings, settings.used_optimizer, NextToken(renderer, settings.max_length))["dtype"]
    log(f"gradients in {dtype} on {device()} (--dtype {settings.dtype})")
    if dtype == "bfloat16" and not has_bfloat16():
        log(f"this {device()} has no instructions for bfloat16: --dtype float32 is several times faster here")
    return GradientEncoder(
        settings, checkpoints, renderer.tokenizer, settings.used_optimizer, shard_model=settings.shard_model
    )


@dataclass(frozen=True)
class GradientSpec:
    """A description of gradient rows, which pickles without its ``host``: the stores of this process, whose model is
    used again where there is one.

    ``basis`` is the folder of a subspace that rows are projected on, at the last checkpoint alone; ``score_against``
    that of a query store, to which rows become similarities.
    """

    settings: Settings
    checkpoints: tuple[Path, ...]
    side: Literal["pool", "query"]
    optimizer: Optimizer
    model: Fingerprint
    own: UserObjects
    basis: Path | None = None
    score_against: Path | None = None
    host: GradientStores | None = field(default=None, compare=False, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "host": None}

    @property
    def not_portable(self) -> str | None:
        """Why another process cannot load it; None where it can."""
        if is_in_memory(self.settings.model):
            return MODEL_IS_HERE_ALONE
        if self.side == "query" and self.settings.sampler == "vllm":
            return "vLLM draws its answers in one process"
        try:
            pickle.dumps(self.own)
        except (pickle.PicklingError, AttributeError, TypeError):
            return "what was handed over in Python cannot be sent to another process"
        return None

    def load(self) -> "GradientRows":
        """Return what makes the rows; the model is loaded when the first are computed."""
        host = self.host
        if host is not None:
            return GradientRows(self, host.objectives, lambda: host.encoder)
        renderer = open_renderer(self.settings)
        encoder = cache(partial(load_encoder, self.settings, self.checkpoints, renderer))
        return GradientRows(self, Objectives(self.settings, renderer, self.model, self.own), encoder)


class GradientRows:
    """An encoder of gradients, as its spec says.

    Args:
        spec: the description.
        objectives: of both sides.
        encoder: loads the model, once.
    """

    def __init__(self, spec: GradientSpec, objectives: Objectives, encoder: Callable[[], GradientEncoder]) -> None:
        self._spec = spec
        self._objective = objectives.pool if spec.side == "pool" else objectives.query
        self._encoder = encoder

    def prepare(self, examples: Sequence[Any]) -> Prepared:
        """Return what the objective makes of records."""
        return self._objective.prepare(examples)

    def encode(self, checkpoint: int, items: Sequence[Any], advance: Advance) -> Floats:
        """Return rows (B, D), float32."""
        spec = self._spec
        if self._basis is not None:
            checkpoint = len(spec.checkpoints) - 1
            return self._encoder().encode(checkpoint, spec.optimizer, self._objective, items, advance, self._basis)
        rows_BD = self._encoder().encode(checkpoint, spec.optimizer, self._objective, items, advance)
        if self._weighted_tQD is None:
            return rows_BD
        unit_BD = unit_rows(rows_BD, row_norms(rows_BD))
        scores_BQ: Floats = unit_BD @ self._weighted_tQD[checkpoint].T
        return scores_BQ

    def keep_company(self) -> None:
        """Make passes with the other ranks that hold the model, as ``GradientEncoder``."""
        self._encoder().keep_company()

    @cached_property
    def _basis(self) -> Projection | None:
        folder = self._spec.basis
        return None if folder is None else BasisProjection(KeptSubspace.open(folder).basis_DK)

    @cached_property
    def _weighted_tQD(self) -> list[Floats] | None:
        if self._spec.score_against is None:
            return None
        store = FeatureStore.open(self._spec.score_against)
        return [np.float32(w) * np.asarray(store.array(t)) for t, w in enumerate(store.weights)]


def _require_same_files(there: Manifest, pool: Pool, what: str) -> None:
    """Refuse a pool that does not begin with the files that a store was made from."""
    for place, file in enumerate(there.files):
        if place >= len(pool.files):
            problem = f"{file.name} is no longer in the pool"
        elif pool.files[place].sha256 != file.sha256:
            problem = f"file {place + 1} of the pool was {file.name} and now {pool.files[place].name} has other content"
        else:
            continue
        raise FingerprintMismatch(
            f"{what} does not match: {problem}; name the same files first, in the same order, or build anew in "
            "another folder"
        )
    same = pool.files[: len(there.files)]
    require_same({"files": contents_of(there.files)}, {"files": contents_of(same)}, what=what)


def _drop_key(fingerprint: Fingerprint, key: str) -> Fingerprint:
    return {name: value for name, value in fingerprint.items() if name != key}
