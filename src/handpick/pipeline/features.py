"""The two feature stores of a run, the pool's and the query's, made by one model at one set of checkpoints."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from handpick.choices import Optimizer
from handpick.data.pool import Pool
from handpick.data.quarantine import Quarantine
from handpick.data.render import Renderer
from handpick.errors import DataError, FingerprintMismatch, SettingsError
from handpick.fingerprint import Fingerprint, digest, require_same
from handpick.gradients.projection import NoProjection, Projection
from handpick.model import (
    device,
    has_bfloat16,
    load_tokenizer,
    model_fingerprint,
    position_limit,
    tokenizer_fingerprint,
)
from handpick.objectives.next_token import NextToken
from handpick.objectives.protocol import Objective
from handpick.pipeline.checkpoints import check_checkpoints, find_checkpoints, to_be_trained
from handpick.pipeline.made_with import pool_store_path, write_made_with
from handpick.pipeline.objective import Own, query_objective
from handpick.progress import progress, say
from handpick.represent.fill import Advance, fill
from handpick.represent.gradient import (
    GradientEncoder,
    adapter_fingerprint,
    build_fingerprint,
    moments_fingerprint,
    space_fingerprint,
)
from handpick.settings import Settings
from handpick.store import Checkpoint, DataFile, FeatureStore, Manifest
from handpick.store.codec import Storage, row_norms, unit_rows
from handpick.store.manifest import MANIFEST_NAME, read_manifest
from handpick.store.memory import available_bytes


def open_renderer(settings: Settings) -> Renderer:
    """What turns conversations into the model's tokens: the first look at the model, before any data is read.

    Raises:
        SettingsError: no model is given.
        ModelError: it is none, or its tokenizer cannot be used.
    """
    if settings.model is None:
        raise SettingsError("no model given: name a folder or a model on the Hub with --model")
    return Renderer(load_tokenizer(settings.model))


def check_max_length(settings: Settings) -> None:
    """Raise SettingsError where ``max_length`` is more than the model has positions for."""
    limit = position_limit(str(settings.model))
    if limit is not None and settings.max_length > limit:
        raise SettingsError(
            f"the model reads {limit} tokens at most, and max_length is {settings.max_length}; give "
            f"--max-length {limit} or less"
        )


class Features:
    """Makes the stores, or finds them made.

    Args:
        settings: of the run.
        renderer: with the model's tokenizer, from ``open_renderer``.
        pool: what to choose from.
        own: what the user handed over in Python.

    Raises:
        ModelError: the model's folder cannot be used.
    """

    def __init__(self, settings: Settings, renderer: Renderer, pool: Pool, own: Own | None = None) -> None:
        assert settings.model is not None  # `open_renderer` has checked
        self.settings = settings
        self.renderer = renderer
        self.pool = pool
        self.optimizer: Optimizer = settings.used_optimizer
        self._model = model_fingerprint(settings.model)
        self.pool_objective: Objective = NextToken(renderer, settings.max_length)
        self._own = own or Own()
        self._query_objective: Objective | None = None
        tokenizer = tokenizer_fingerprint(renderer.tokenizer, renderer.template)
        self._space = space_fingerprint(settings, self._model, tokenizer)
        self._found: tuple[list[Path], list[Checkpoint]] | None = None
        self._encoder: GradientEncoder | None = None

    @property
    def query_objective(self) -> Objective:
        """What the query's rows are the gradient of.

        Raises:
            SettingsError, ModelError: as ``query_objective``.
        """
        if self._query_objective is None:
            made_by = {name: value for name, value in self._space.items() if name != "projection"}
            self._query_objective = query_objective(self.settings, self.renderer, made_by, self._own)
        return self._query_objective

    def check(self, query: Pool | None = None) -> None:
        """Find out, before anything costly, what would stop the run later.

        Raises:
            FingerprintMismatch: the output folder or the store was made from other settings, model or data.
            DataError: no query leaves a response to learn from.
            SettingsError: ``max_length`` is more than the model has positions for, or two settings contradict.
        """
        check_max_length(self.settings)
        if query is not None:
            _ = self.query_objective  # what it lacks is said first
        path = pool_store_path(self.settings)
        what = f"the feature store {path}"
        there = read_manifest(path) if (path / MANIFEST_NAME).exists() else None
        if there is not None:
            require_same(_without(there.space, "adapter"), self._space, what=what)
            build = build_fingerprint(self.settings, self.optimizer, self.pool_objective)
            require_same(_without(there.build, "moments"), build, what=what)
            _require_same_files(there, self.pool, what)
            stored: Fingerprint = {"storage": there.storage, "shard_rows": there.shard_rows}
            require_same(stored, {name: getattr(self.settings, name) for name in stored}, what=what)
        check_checkpoints(self.settings, self.optimizer, self.pool, self.renderer, self._model)
        if there is not None and to_be_trained(self.settings):
            raise FingerprintMismatch(
                f"{what} does not match: it was made at {', '.join(c.name for c in there.checkpoints)}, not at the "
                "checkpoints of the warmup that these settings ask for; use the same --warmup or --checkpoints, or "
                "build anew in another folder"
            )
        if query is not None:
            ids, _, refused = self.query_objective.prepare(query.examples(0, len(query)))
            if not ids:
                name = self.query_objective.fingerprint().get("objective")
                raise DataError(
                    f"no query can be used for the {name} objective: the first, {refused[0][0].id!r}, has "
                    f"{refused[0][1]}" + ("; prompts alone are for --method nice" if name == "next-token" else "")
                )

    def pool_store(self, quarantine: Quarantine | None = None) -> FeatureStore:
        """The pool's features: preconditioned as the method says.

        With a quarantine, ended when its limit is certain to be passed (``fill``).
        """
        manifest = self._manifest(self.pool, self.optimizer, self.pool_objective)
        store = FeatureStore.create(pool_store_path(self.settings), manifest)
        # as they were here: another machine would choose otherwise, and the store would not fit its own settings
        build = build_fingerprint(self.settings, self.optimizer, self.pool_objective)
        write_made_with(
            store.path,
            self.settings,
            checkpoints=[str(path.resolve()) for path in self._checkpoints()[0]],
            dtype=build["dtype"],
            batch_tokens=build["batch_tokens"],
            optimizer=self.optimizer,
        )
        self._fill(store, self.pool, self.optimizer, self.pool_objective, "pool features", quarantine)
        return store

    def query_store(self, query: Pool) -> FeatureStore:
        """The query's features: plain gradients of its objective, in the same space."""
        manifest = self._manifest(query, "sgd", self.query_objective).model_copy(update={"storage": "float32"})
        path = self.settings.folder / "features" / f"query-{digest(manifest.fingerprint())}"
        store = FeatureStore.create(path, manifest)
        self._fill(store, query, "sgd", self.query_objective, "query features")
        return store

    def score_store(self, query_store: FeatureStore, quarantine: Quarantine | None = None) -> FeatureStore:
        """The pool's weighted similarities to the queries, (N, Q) a checkpoint; its features are not kept.

        S[q, n] is the sum of ``array(t, normalized=False)[n, q]`` over the checkpoints t.
        """
        query = digest(query_store.manifest.fingerprint())
        manifest = self._manifest(self.pool, self.optimizer, self.pool_objective)
        manifest = manifest.model_copy(
            update={"space": manifest.space | {"scores for": query}, "dim": len(query_store), "storage": "float32"}
        )
        store = FeatureStore.create(self.settings.folder / "features" / f"scores-{query}", manifest)
        weighted_tQK = [np.float32(w) * np.asarray(query_store.array(t)) for t, w in enumerate(query_store.weights)]

        def encode(t: int, items: Sequence[Any], advance: Advance) -> npt.NDArray[np.float32]:
            features_BK = self._loaded().encode(t, self.optimizer, self.pool_objective, items, advance)
            unit_BK = unit_rows(features_BK, row_norms(features_BK))
            scores_BQ: npt.NDArray[np.float32] = unit_BK @ weighted_tQK[t].T
            return scores_BQ

        fill(store, self.pool, self.pool_objective, encode, "pool scores", quarantine)
        return store

    def raw_query_gradients(self, query: Pool) -> npt.NDArray[np.float32]:
        """The queries' whole gradients at the last checkpoint, (Q, coordinates), unprojected.

        Raises:
            SettingsError: they do not fit in memory.
        """
        ids, items, _ = self.query_objective.prepare(query.examples(0, len(query)))
        encoder = self._loaded()
        needed, free = 8 * len(ids) * encoder.n_coordinates, available_bytes()
        if needed > free:
            raise SettingsError(
                f"the gradients of {len(ids)} queries and their basis take {needed / 1e9:.0f} GB and {free / 1e9:.0f} "
                "GB are free: give fewer queries, or a warmup of lower rank"
            )
        raw = NoProjection(encoder.n_coordinates)
        with progress("query gradients", total=len(ids)) as advance:
            return encoder.encode(self._last, "sgd", self.query_objective, items, advance, raw)

    def encode_last(
        self, objective: Objective, items: Sequence[Any], advance: Advance, project: Projection
    ) -> npt.NDArray[np.float32]:
        """Plain gradients at the last checkpoint, projected as asked for."""
        return self._loaded().encode(self._last, "sgd", objective, items, advance, project)

    def last_manifest(
        self, examples: Pool, objective: Objective, projected: Fingerprint, dim: int, storage: Storage
    ) -> Manifest:
        """The plan of a store of plain gradients at the last checkpoint alone, projected otherwise than set."""
        manifest = self._manifest(examples, "sgd", objective)
        adapters: Any = manifest.space["adapter"]
        space = manifest.space | {"projection": projected, "adapter": adapters[-1:]}
        last = manifest.checkpoints[-1].model_copy(update={"weight": 1.0})
        return manifest.model_copy(update={"space": space, "dim": dim, "storage": storage, "checkpoints": [last]})

    @property
    def _last(self) -> int:
        return len(self._checkpoints()[0]) - 1

    def _fill(
        self,
        store: FeatureStore,
        examples: Pool,
        optimizer: Optimizer,
        objective: Objective,
        what: str,
        quarantine: Quarantine | None = None,
    ) -> None:
        def encode(t: int, items: Sequence[Any], advance: Advance) -> npt.NDArray[np.float32]:
            return self._loaded().encode(t, optimizer, objective, items, advance)

        fill(store, examples, objective, encode, what, quarantine)

    def _manifest(self, examples: Pool, optimizer: Optimizer, objective: Objective) -> Manifest:
        paths, checkpoints = self._checkpoints()
        space: Fingerprint = self._space | {"adapter": adapter_fingerprint(paths)}
        build = build_fingerprint(self.settings, optimizer, objective)
        if optimizer == "adam":
            build["moments"] = moments_fingerprint(paths)
        return Manifest(
            space=space,
            build=build,
            dim=self._dim(),
            storage=self.settings.storage,
            checkpoints=checkpoints,
            files=DataFile.of(examples.files),
            shard_rows=self.settings.shard_rows,
        )

    def _dim(self) -> int:
        if self.settings.projection != "none":
            return self.settings.projection_dim
        path = pool_store_path(self.settings)
        return read_manifest(path).dim if (path / MANIFEST_NAME).exists() else self._loaded().dim

    def _checkpoints(self) -> tuple[list[Path], list[Checkpoint]]:
        if self._found is None:
            self._found = find_checkpoints(self.settings, self.pool, self.renderer, self._model)
        return self._found

    def _loaded(self) -> GradientEncoder:
        if self._encoder is None:
            dtype = build_fingerprint(self.settings, self.optimizer, self.pool_objective)["dtype"]
            say(f"gradients in {dtype} on {device()} (--dtype {self.settings.dtype})")
            if dtype == "bfloat16" and not has_bfloat16():
                say(f"this {device()} has no instructions for bfloat16: --dtype float32 is several times faster here")
            self._encoder = GradientEncoder(self.settings, self._checkpoints()[0], self.renderer.tokenizer)
        return self._encoder


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


def _without(fingerprint: Fingerprint, key: str) -> Fingerprint:
    return {name: value for name, value in fingerprint.items() if name != key}
