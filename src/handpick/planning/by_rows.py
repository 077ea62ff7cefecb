"""Stages of representations of examples by themselves (hidden states, embeddings, scores) and by their words.

The probe is the representation's own ``encode`` on batches of the pool, or the index itself on some of its texts.

Legend: Q queries, N candidates.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from handpick.choices import RepresentationName
from handpick.data.batching import token_batches
from handpick.data.plain_text import contents, has_response
from handpick.data.pool import Pool
from handpick.data.render import Rendered
from handpick.errors import DataError
from handpick.fingerprint import require_same
from handpick.methods import REPRESENTATIONS
from handpick.objectives.protocol import Prepared
from handpick.pipeline.compared import fits_in_memory, representation_of
from handpick.pipeline.made_with import pool_store_path
from handpick.pipeline.rows import RowStores
from handpick.planning import probe
from handpick.planning.cost import Amount, Stage
from handpick.planning.disk import checkpoint_bytes
from handpick.planning.flops import Shape, labelled, shape_of
from handpick.planning.opened import Opened, resident_bytes
from handpick.planning.probe import Size, once, timed
from handpick.planning.tokens import look
from handpick.represent.gradient import tokens_a_batch
from handpick.represent.hidden_states import HiddenStates
from handpick.represent.model_scores import IFD, Answer, Perplexity
from handpick.represent.protocol import Representation
from handpick.store import FeatureStore
from handpick.store.codec import Storage
from handpick.store.manifest import MANIFEST_NAME

_TEXTS = 2_000  # that are indexed in the probe
_QUERIES = 8  # that are looked up in it
_TOGETHER = 32  # texts that an encoder reads at a time


class ByRows:
    """Plans ``rds+``, ``embed``, ``perplexity``, ``ifd`` and ``length``.

    Args:
        opened: the run's settings and data.

    Raises:
        HandpickError: as the run itself would, before anything is probed.
    """

    def __init__(self, opened: Opened) -> None:
        self.opened = opened
        self.settings = opened.settings
        self.name: RepresentationName = opened.settings.used_representation
        self._before = resident_bytes()
        self._representation: Representation = representation_of(opened.settings, opened.renderer)
        space = self._representation.space()
        path = pool_store_path(self.settings)
        self._store = FeatureStore.open(path, allow_incomplete=True) if (path / MANIFEST_NAME).exists() else None
        if self._store is not None:
            require_same(self._store.manifest.space, space, what=f"the feature store {path}")
        stores = RowStores(self.settings, self._representation, path)
        self.looked = look(opened.pool, stores.of_pool, shard_rows=self.settings.shard_rows, seed=self.settings.seed)
        if not self.looked.items:
            raise DataError(f"none of the {self.looked.n_looked:,} records looked at can be used")
        how = self.looked.how()
        self.notes = [how if self.name != "embed" else how.replace("tokenised", "read").replace("tokens", "characters")]
        self.cheaper: list[str] = []
        self.extent = (0, 0, 0)  # N, K, T, when the stages are made

    def stages(self) -> list[Stage]:
        """The pool's features and the query's."""
        pool, query = self.opened.pool, self.opened.query
        began = probe.clock()
        dim = self._representation.dim  # loads the model
        load_seconds = probe.clock() - began
        self.extent = (self.looked.usable, dim, 1)
        share = self._missing() / len(pool)
        if share == 0 and query is None:
            return [Stage.left("pool features")]
        batches = [batch for shard in self.looked.shards for batch in self._batches(shard)]
        times = timed(self._representation.encode, batches, _size_of, self.opened.seconds * 0.8)
        held = max(resident_bytes(), self._before)
        shape = self._shape()
        found: list[Stage] = []
        kind = REPRESENTATIONS[self.name]
        if query is not None and kind.needs_query:
            items = self._representation.prepare(query.examples(0, len(query))).items
            seconds = times.of([_size_of(batch) for batch in self._batches(items)]).plus(load_seconds)
            disk = self._bytes(query, len(items), dim, "float32")
            found.append(self._stage("query features", items, Amount.exactly, shape, disk, held, seconds))
            load_seconds = 0.0
        if share == 0:
            return [*found, Stage.left("pool features")]
        seconds = times.of([_size_of(batch) for batch in batches], self.looked.scale * share)
        seconds = seconds.plus(self.looked.seconds * self.looked.n_records * share + load_seconds)
        storage: Storage = "float32" if kind.gives == "scores" else self.settings.storage
        disk = round(self._bytes(pool, self.looked.usable, dim, storage) * share)
        found.append(self._stage("pool features", self.looked.items, self._total(share), shape, disk, held, seconds))
        if kind.gives == "features" and storage == "float32":
            saved = (disk - self._bytes(pool, self.looked.usable, dim, "int8") * share) / 1e9
            self.cheaper.append(f"--storage int8 saves {saved:.2f} GB of disk")
        return found

    def _total(self, share: float) -> Callable[[Sequence[float] | float], Amount]:
        def total(each: Sequence[float] | float) -> Amount:
            assert not isinstance(each, float)
            return self.looked.total(each).times(share)

        return total

    def _stage(
        self,
        name: str,
        items: Sequence[Any],
        total: Callable[..., Amount],
        shape: Shape | None,
        disk: int,
        held: int,
        seconds: Amount,
    ) -> Stage:
        exact = total == Amount.exactly
        tokens, flops = [float(_tokens(item)) for item in items], None
        if shape is not None:
            each = [_flops(self.name, shape, item) for item in items]
            flops = (Amount.exactly(sum(each)) if exact else total(each)).value
        counted = Amount.exactly(sum(tokens)) if exact else total(tokens)
        examples = len(items) if exact else self.looked.usable
        is_text = self.name in ("embed", "length")
        return Stage(name, examples, None if is_text else counted, flops, disk, held, seconds, self._note())

    def _note(self) -> str:
        if self.name == "embed":
            return "the encoder's tokens and operations are not counted"
        return "tokens are counted, and nothing computed" if self.name == "length" else ""

    def _missing(self) -> int:
        if self._store is None:
            return len(self.opened.pool)
        return self.opened.rows_missing(self._store)[0]

    def _bytes(self, pool: Pool, usable: int, dim: int, storage: Storage) -> int:
        return checkpoint_bytes(
            pool.files, pool.ids(), usable, dim=dim, storage=storage, shard_rows=self.settings.shard_rows
        )

    def _shape(self) -> Shape | None:
        """Of the model that reads; None where none is looked at, or it is a sentence encoder."""
        if isinstance(self._representation, HiddenStates | Perplexity | IFD):
            return shape_of(self._representation.reader.model)
        return None

    def _batches(self, items: Sequence[Any]) -> list[list[Any]]:
        """Items that are read together; as the representation will, or nearly so."""
        if self.name == "length":
            return [list(items)] if items else []
        order = sorted(range(len(items)), key=lambda i: _tokens(items[i]))
        if self.name == "embed":
            starts = [*range(0, len(items), _TOGETHER), len(items)]
            return [[items[i] for i in order[start:stop]] for start, stop in pairwise(starts)]
        members = token_batches([_tokens(item) for item in items], tokens_a_batch(self.settings))
        return [[items[i] for i in own] for own in members]


def _tokens(item: Any) -> int:
    """Tokens that are read of an item; characters of a text; nothing of a number."""
    if isinstance(item, Answer):
        return len(item.prompted.input_ids) + len(item.alone.input_ids)
    if isinstance(item, Rendered):
        return len(item.input_ids)
    return len(item) if isinstance(item, str) else 0


def _size_of(batch: Sequence[Any]) -> Size:
    return Size(len(batch), max(_tokens(item) for item in batch))


def _flops(name: RepresentationName, shape: Shape, item: Any) -> float:
    if isinstance(item, Answer):
        both = (item.prompted, item.alone)
        return shape.read([len(s.input_ids) for s in both], labelled(both))
    return shape.read([len(item.input_ids)], item.n_labels if name == "perplexity" else 0)


def by_words(opened: Opened) -> tuple[Stage, str]:
    """The stage of ``bm25`` and ``dsir``, and how they were estimated: some texts are indexed, and looked up in.

    Raises:
        DataError: no record has a response.
        SettingsError: an extra is not installed.
    """
    settings, pool, query = opened.settings, opened.pool, opened.query
    assert query is not None  # both look at the query
    looked = look(pool, _Texts(), shard_rows=settings.shard_rows, seed=settings.seed, at_most=_TEXTS, sample=_TEXTS)
    if not looked.items:
        raise DataError(f"no record of {', '.join(file.name for file in pool.files)} has a response to learn from")
    queries = [contents(example.messages) for example in query.examples(0, len(query))]
    texts: list[str] = looked.items
    # records are read once to see who has a response, and again at every pass
    if settings.used_representation == "bm25":
        from handpick.represent.bm25 import Bm25

        index_seconds = once(lambda: Bm25(texts))
        by, some = Bm25(texts), queries[:_QUERIES]
        each = once(lambda: by.scores(some)) / len(some)
        reads, n_rows = 2, len(queries)
    else:
        from handpick.represent.dsir import Dsir

        weigh = Dsir.fit(texts, queries)
        index_seconds = once(lambda: Dsir.fit(texts, queries)) + once(lambda: weigh.scores(texts))
        each, reads, n_rows = 0.0, 3, 1
    seconds = looked.scale * (index_seconds + each * len(queries) + reads * looked.seconds * looked.n_looked)
    usable = round(looked.usable)
    held = resident_bytes() + 4 * usable * (n_rows if fits_in_memory((n_rows, usable)) else 1)
    note = f"from {looked.n_looked:,} texts, in proportion; of one trial"
    name = "index and scores" if settings.used_representation == "bm25" else "n-grams and weights"
    stage = Stage(name, looked.usable, memory=held, seconds=Amount.exactly(seconds), note=note)
    return stage, "texts are counted in words, which takes no model: no tokens and no operations are given"


class _Texts:
    """Prepares what bm25 and dsir read."""

    def prepare(self, examples: Sequence[Any]) -> Prepared:
        read = [example for example in examples if has_response(example.messages)]
        return Prepared([each.id for each in read], [contents(each.messages) for each in read], [])
