"""Representations of examples by themselves: each becomes one row, at no checkpoint but the model's own.

Such a representation is a ``RowEncoder`` in a file of its own; ``RowScorer`` does the rest: the stores of both sides,
the stages, the similarity or the score, what they cost, and how a finished run is read again.

Shapes: N examples, D features.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from handpick.algorithms.matrix import Matrix
from handpick.costs.cost import Extent, StageKind
from handpick.costs.flops import Shape
from handpick.costs.probe import Probing
from handpick.data.examples import Example
from handpick.data.plain_text import has_response, no_response
from handpick.data.pool import Pool
from handpick.data.render import Renderer
from handpick.executors import Advance, Executor, Preparer, fill_store, rows_of
from handpick.fingerprint import Fingerprint, digest
from handpick.in_memory import MODEL_IS_HERE_ALONE, is_in_memory
from handpick.layout import RunLayout, StoreLayout
from handpick.objectives.protocol import Prepared
from handpick.representations import find_scorer
from handpick.scorers.feature_scorer import FeatureScorer
from handpick.scorers.finished_run import POOL_GONE, FinishedRun, Reopened, columns_of
from handpick.scorers.inputs import Inputs, open_renderer
from handpick.scorers.provenance import pool_store_path, write_provenance
from handpick.scorers.row_costs import RowCosts
from handpick.scorers.scorer import Queries, fingerprint, load_kind, no_features, quarantine_unused
from handpick.scorers.scoring_problem import ScoringProblem
from handpick.scorers.stages import Stage
from handpick.settings import Settings
from handpick.store import Checkpoint, FeatureStore, Manifest, ManifestFile
from handpick.store.codec import Floats, Storage
from handpick.store.manifest import contents_of, read_manifest


class RowEncoder(ABC):
    """One row per example. What ``prepare`` makes of a record only the encoder itself knows.

    ``counts`` says what a plan counts of an item: tokens that a model reads, characters, or nothing.
    ``cost_note`` is what a plan says beside that.
    """

    counts: ClassVar[Literal["tokens", "characters", "nothing"]] = "nothing"
    cost_note: ClassVar[str] = ""

    @classmethod
    @abstractmethod
    def open(cls, settings: Settings, renderer: Renderer | None) -> Self:
        """Return the encoder of a run's settings; a model is loaded when it is first needed.

        Args:
            settings: of the run.
            renderer: of the model, where the table says that one is needed.

        Raises:
            SettingsError: an extra is not installed, or a setting does not go with it.
            ModelError: a model cannot be used.
        """

    @property
    @abstractmethod
    def dim(self) -> int:
        """D."""

    @abstractmethod
    def space(self) -> Fingerprint:
        """Return what two sets of rows must share to be compared."""

    @abstractmethod
    def build(self) -> Fingerprint:
        """Return what else decides the rows, besides the records."""

    @abstractmethod
    def prepare(self, examples: Sequence[Example]) -> Prepared:
        """Return what can be done without the model, in another thread; and refused records, with reasons."""

    @abstractmethod
    def encode(self, items: Sequence[Any], advance: Callable[[float], None] = lambda n: None) -> Floats:
        """Return rows (N, D), float32, of what was prepared, in its order; ``advance`` is told how many are done."""

    def rank(self, rows_ND: Floats) -> Floats:
        """Return the score of every row, (N,), largest best: of one number each, the number."""
        return rows_ND[:, 0]

    def size(self, item: Any) -> int:
        """Return how much is read of an item, in what ``counts`` says."""
        return len(item) if isinstance(item, str) else 0

    def batches(self, items: Sequence[Any]) -> list[list[Any]]:
        """Return items that are read together; as ``encode`` does, or nearly so."""
        return [list(items)] if items else []

    def shape(self) -> Shape | None:
        """Return the shape of the language model that reads, for a plan; None where none does."""
        return None

    def flops(self, shape: Shape, item: Any) -> float:
        """Return the operations that a model of that shape takes for an item."""
        return 0.0


@dataclass(frozen=True)
class RowSpec:
    """A description of rows, which pickles without its ``host``: the encoder of this process, used again if there.

    ``to_train_on``: of an example to train on an answer is needed, of a query a prompt is enough.
    """

    settings: Settings
    to_train_on: bool
    host: RowEncoder | None = field(default=None, compare=False, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "host": None}

    @property
    def not_portable(self) -> str | None:
        """Why another process cannot load it; None where it can."""
        if self.settings.scorer.needs & {"model", "tokenizer"} and is_in_memory(self.settings.model):
            return MODEL_IS_HERE_ALONE
        return None

    def load(self) -> "RowsOfBothSides":
        """Return what makes the rows."""
        return RowsOfBothSides(self.host or open_encoder(self.settings, None), self.to_train_on)


def open_encoder(settings: Settings, renderer: Renderer | None) -> RowEncoder:
    """Return the encoder of a run's representation; without a renderer, with one of its own."""
    if renderer is None and settings.scorer.needs & {"model", "tokenizer"}:
        renderer = open_renderer(settings)
    encoder: RowEncoder = load_kind(find_scorer(settings.stored_representation)).open(settings, renderer)
    return encoder


class RowsOfBothSides:
    """An encoder at work on one side."""

    def __init__(self, encoder: RowEncoder, to_train_on: bool) -> None:
        self._encoder = encoder
        self.prepare = Trainable(encoder).prepare if to_train_on else encoder.prepare

    def encode(self, checkpoint: int, items: Sequence[Any], advance: Advance) -> Floats:
        """Return rows (N, D), float32; there is but one checkpoint."""
        return self._encoder.encode(items, advance)


class Trainable:
    """Refuses, before another prepares them, records that there is nothing to learn from."""

    def __init__(self, prepares: Preparer) -> None:
        self._prepares = prepares

    def prepare(self, examples: Sequence[Example]) -> Prepared:
        """Return what the other prepared, with its refusals and those without a response."""
        prepared = self._prepares.prepare([each for each in examples if has_response(each.messages)])
        refused = [(each, no_response(each.messages)) for each in examples if not has_response(each.messages)]
        return prepared._replace(refused=[*prepared.refused, *refused])


class RowStores:
    """Makes the stores of a pool and of queries, or finds them made; both sides are made in the same way.

    Args:
        settings: of the run.
        encoder: what makes the rows.
    """

    def __init__(self, settings: Settings, encoder: RowEncoder) -> None:
        self._settings = settings
        self._encoder = encoder
        self.path = pool_store_path(settings)

    @property
    def of_pool(self) -> Preparer:
        """What prepares the pool's records."""
        return Trainable(self._encoder)

    @property
    def storage(self) -> Storage:
        """What the pool's rows are stored in: scores as they are."""
        return "float32" if self._settings.scorer.output == "scores" else self._settings.storage

    def pool_store(self, pool: Pool) -> FeatureStore:
        """Return the pool's store, whole or begun, with what it is made with beside it."""
        store = FeatureStore.create(self.path, self._manifest(pool, self.storage))
        found = {k: v for k, v in self._encoder.build().items() if k in ("dtype", "batch_tokens")}
        write_provenance(store.path, self._settings, **found)
        return store

    def query_store(self, query: Pool) -> FeatureStore:
        """Return the queries' store, whole or begun: float32 whatever the pool's are stored in."""
        manifest = self._manifest(query, "float32")
        path = RunLayout(self._settings.folder).query_store(digest(manifest.fingerprint()))
        return FeatureStore.create(path, manifest)

    def _dim(self, space: Fingerprint) -> int:
        """Return D; as the pool's store has it where there is one, for the encoder may have to load a model to know."""
        there = read_manifest(self.path) if StoreLayout(self.path).manifest.exists() else None
        return there.dim if there is not None and there.space == space else self._encoder.dim

    def _manifest(self, examples: Pool, storage: Storage) -> Manifest:
        space = self._encoder.space()
        return Manifest(
            space=space,
            build=self._encoder.build(),
            dim=self._dim(space),
            storage=storage,
            checkpoints=[Checkpoint(name="base", weight=1.0)],
            files=ManifestFile.of(examples.files),
            shard_rows=self._settings.shard_rows,
        )


class RowScorer(FeatureScorer):
    """A ``RowEncoder`` at work: compares the rows of queries and pool, or takes the pool's as scores.

    Args:
        inputs: the run's settings and data.
        kind: the encoder's class.
    """

    def __init__(self, inputs: Inputs, kind: type[RowEncoder]) -> None:
        super().__init__(inputs)
        self._kind = kind

    @cached_property
    def encoder(self) -> RowEncoder:
        """What makes the rows."""
        return self._kind.open(self.settings, self.inputs.renderer)

    @cached_property
    def stores(self) -> RowStores:
        """The stores of both sides."""
        return RowStores(self.settings, self.encoder)

    @cached_property
    def costs(self) -> RowCosts:
        """What the stages will take."""
        return RowCosts(self.inputs, self.encoder, self.stores)

    @property
    def gives_scores(self) -> bool:
        """Whether a row is a score, and no query is looked at."""
        return self.settings.scorer.output == "scores"

    def preflight(self) -> None:
        """Refuse an encoder that cannot be found or used."""
        self.encoder.space()

    def stages(self) -> list[Stage]:
        """Return the queries' rows (first: few, and without them the rest is for nothing) and the pool's."""
        pool = Stage(
            StageKind.POOL,
            self.pool_inputs,
            self.costs.pool,
            self._make_pool_rows,
        )
        if self.inputs.query is None or self.gives_scores:
            return [pool]
        queries = Stage(
            StageKind.QUERY,
            lambda: self._inputs_of(self.inputs.queries.pool),
            self.costs.query,
            self._make_query_rows,
        )
        return [queries, pool]

    def pool_inputs(self) -> Fingerprint:
        """Return what the pool's rows depend on."""
        return self._inputs_of(self.pool.pool)

    def extent(self, probing: Probing) -> Extent:
        """Return what will be compared."""
        return self.costs.extent

    def _inputs_of(self, examples: Pool) -> Fingerprint:
        encoder = self.encoder
        return {"space": encoder.space(), "build": encoder.build(), "files": contents_of(examples.files)}

    def _make_query_rows(self, executor: Executor) -> None:
        """Make the queries' rows, and refuse queries that are all like nothing."""
        query = self.inputs.queries.pool
        store, spec = self.stores.query_store(query), self.spec(to_train_on=False)
        fill_store(store, query, spec, StageKind.QUERY.value, executor=executor)
        _ = self.compared_queries

    def _make_pool_rows(self, executor: Executor) -> None:
        pool, store, spec = self.pool, self.stores.pool_store(self.pool.pool), self.spec(to_train_on=True)
        fill_store(store, pool.pool, spec, StageKind.POOL.value, pool.quarantine, executor)

    def spec(self, *, to_train_on: bool) -> RowSpec:
        """Return the description of one side's rows."""
        return RowSpec(self.settings, to_train_on, host=self.encoder)

    @cached_property
    def compared_queries(self) -> Queries:
        """The queries that are like something; their store is whole."""
        query = self.inputs.queries
        store = self.stores.query_store(query.pool)
        fill_store(store, query.pool, self.spec(to_train_on=False), StageKind.QUERY.value)
        quarantine_unused(store, query, self.encoder)
        return Queries(self.inputs, store, self.nothing_to_say, "name other queries")

    def pool_features(self) -> FeatureStore:
        """Return the pool's store, when what is not in it has been reported."""
        if self.gives_scores:
            raise no_features(self.settings)
        return self._pool_store

    @cached_property
    def _pool_store(self) -> FeatureStore:
        store = self.stores.pool_store(self.pool.pool)
        quarantine_unused(store, self.pool, self.stores.of_pool)
        return store

    def problem(self) -> ScoringProblem:
        """Return the similarity of both sides' rows, or the pool's scores."""
        store = self._pool_store
        if not self.gives_scores:
            return self.compare(store, self.compared_queries)
        scores_N = self.encoder.rank(np.asarray(store.array(0, normalized=False)))
        return ScoringProblem(Matrix(scores_N[None]), rows_of(store, self.pool.pool), {"pool": fingerprint(store)})

    @classmethod
    def reopen(cls, run: FinishedRun) -> Reopened | str:
        """Return the similarities or scores, from the stores that the run left."""
        if run.settings.scorer.output != "scores":
            return super().reopen(run)
        store = run.store("pool")
        if store is None:
            return POOL_GONE
        return Reopened(f"score by {run.settings.used_representation}", _StoredColumn(store), columns_of(store))


class _StoredColumn:
    """The one score of every candidate, as a similarity to one query."""

    def __init__(self, store: FeatureStore) -> None:
        self._rows = store.on_disk(0, normalized=False)

    def columns(self, columns_C: NDArray[np.int64]) -> Floats:
        """Return those of some candidates, (1, C)."""
        return self._rows[columns_C].T
