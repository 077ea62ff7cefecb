"""What the stages of the gradient representations will take: the queries' features, the pool's at every checkpoint.

The probe is a warmup (warmup_costs.py) and a feature store (engine_probe.py) in small; both are made once a plan.

Legend: N candidates, D features, T checkpoints.
"""

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from handpick.costs.cost import Amount, Extent, StageCost, StageKind, Work
from handpick.costs.disk import checkpoint_bytes, count_shards
from handpick.costs.flops import count_labelled
from handpick.costs.probe import Probing, Size
from handpick.costs.tokens import PoolSample, sample_pool
from handpick.costs.training import size_of
from handpick.data.batching import token_batches
from handpick.data.pool import Pool
from handpick.data.render import IGNORED, Rendered
from handpick.errors import DataError
from handpick.fingerprint import Fingerprint
from handpick.layout import RunLayout, StoreLayout
from handpick.model import load_config
from handpick.model.mixing import mixing_of
from handpick.objectives.preference import Pair
from handpick.objectives.reward import PromptItem
from handpick.scorers.engine_probe import EngineProbe, batches_of, probe_engine
from handpick.scorers.gradient_encoder import tokens_per_batch
from handpick.scorers.gradient_stores import GradientStores
from handpick.scorers.inputs import Inputs, model_name
from handpick.scorers.provenance import pool_store_path
from handpick.scorers.warmup_costs import WarmupPlan, plan_warmup
from handpick.store import FeatureStore
from handpick.store.codec import Storage
from handpick.store.manifest import contents_of, read_manifest


class GradientCosts:
    """Prices the stages of ``gradient``, ``whitened`` and ``gist``.

    Args:
        inputs: the run's settings and data.
        gradients: as the run makes them.
    """

    def __init__(self, inputs: Inputs, gradients: GradientStores) -> None:
        self.inputs = inputs
        self.settings = inputs.settings
        self.gradients = gradients
        self._warmed: WarmupPlan | None = None
        self._probe: EngineProbe | None = None

    @cached_property
    def looked(self) -> PoolSample:
        """The pool's records, or some of them, as they are rendered.

        Raises:
            DataError: none of them can be used.
        """
        objective, settings = self.gradients.objectives.pool, self.settings
        pool_sample = sample_pool(self.inputs.pool.pool, objective, shard_rows=settings.shard_rows, seed=settings.seed)
        if not pool_sample.items:
            raise DataError(f"none of the {pool_sample.n_looked:,} records looked at leaves a response to learn from")
        return pool_sample

    def warmed(self, probing: Probing) -> WarmupPlan:
        """Return the warmup's line, and checkpoints to probe at."""
        if self._warmed is None:
            _ = self.looked  # a pool of which nothing can be used is found out first
            what: Fingerprint = {"warmup": self.gradients.checkpoint_inputs(), "folder": str(self.settings.folder)}
            self._warmed = probing.once(what, lambda own: plan_warmup(self.inputs, own))
        return self._warmed

    def share_warmup(self, warmed: WarmupPlan) -> None:
        """Take the warmup of a run that this one is a part of."""
        self._warmed = warmed

    def warmup(self, probing: Probing) -> Work:
        """Return what is left of the training."""
        line = self.warmed(probing).line
        return Work([] if line is None else [line])

    def probe(self, probing: Probing) -> EngineProbe | None:
        """Return what the engine takes; None where there is nothing to be made."""
        if self._probe is None and self.is_left():
            checkpoints = self.warmed(probing).checkpoints
            self._probe = probing.once(
                self._probe_inputs(),
                lambda own: probe_engine(self.inputs, self.gradients, self.looked, checkpoints, own.seconds * 0.5),
            )
        return self._probe

    def _probe_inputs(self) -> Fingerprint:
        """Return what the probe depends on: on a basis of the queries' gradients, their number alone."""
        gradients, files = self.gradients, contents_of(self.inputs.pool.pool.files)
        side = gradients.side_inputs(gradients.optimizer, gradients.objectives.pool)
        bound = self.settings.scorer.bound_to_queries
        basis = min(self.settings.gist_dim, len(self.inputs.queries.pool)) if bound else None
        return {"engine": side, "files": files, "basis": basis}

    def is_left(self) -> bool:
        """Return whether there are rows to be made."""
        return any(self.missing_rows()) or (self.inputs.query is not None and not self._query_is_there())

    def extent(self, probing: Probing) -> Extent:
        """Return what will be compared."""
        probe = self.probe(probing)
        dim = read_manifest(pool_store_path(self.settings)).dim if probe is None else probe.dim
        n_queries = 1 if self.inputs.query is None else len(self.inputs.query.pool)
        return Extent(self.looked.usable, dim, self._n_checkpoints(probing), n_queries)

    def _n_checkpoints(self, probing: Probing) -> int:
        warmed = self.warmed(probing)
        return 1 if self.settings.scorer.bound_to_queries else warmed.n_checkpoints

    def missing_rows(self) -> list[int]:
        """Return how many rows the pool's store lacks, per checkpoint; one entry, all rows, where there is none."""
        path, pool = pool_store_path(self.settings), self.inputs.pool.pool
        kept = not self.settings.scorer.bound_to_queries and not self.settings.score_only
        if not kept or not StoreLayout(path).manifest.exists():
            return [len(pool)]
        store = FeatureStore.open(path, allow_incomplete=True)
        new = len(pool) - sum(file.rows for file in store.manifest.files)
        return [
            new + sum(shard.stop - shard.start for shard in store.missing(t)) for t in range(len(store.checkpoints))
        ]

    def query(self, probing: Probing) -> Work:
        """Return what the queries' features will take, and the answers that are drawn for them."""
        probe = self.probe(probing)
        if probe is None or self._query_is_there():
            return Work([StageCost.left(StageKind.QUERY)])
        return Work(self._query(probe, self._n_checkpoints(probing)))

    def pool(self, probing: Probing) -> Work:
        """Return what the pool's features will take."""
        probe = self.probe(probing)
        lines = [StageCost.left(StageKind.POOL, note=f"an earlier run left them in {pool_store_path(self.settings)}")]
        cheaper: list[str] = []
        if probe is not None and any(self.missing_rows()):
            lines, cheaper = self._pool(probe, self._n_checkpoints(probing), self.missing_rows())
        return Work(lines, [self.looked.describe()], cheaper, self.extent(probing))

    def _pool(self, probe: EngineProbe, n_checkpoints: int, missing: list[int]) -> tuple[list[StageCost], list[str]]:
        settings, pool, pool_sample = self.settings, self.inputs.pool.pool, self.looked
        missing = missing if len(missing) == n_checkpoints else missing * n_checkpoints
        sequences: list[Rendered] = pool_sample.items
        tokens = pool_sample.total([len(s.input_ids) for s in sequences])
        flops = pool_sample.total(probe.flops(sequences)).value
        seconds = probe.batches.estimate(
            [size_of(batch) for batch in batches_of(settings, pool_sample.shards)], pool_sample.scale
        )
        seconds = _widen_for_sampling(seconds, tokens).plus(pool_sample.seconds * pool_sample.n_records)
        dim, storage = probe.dim, settings.storage
        if settings.score_only:
            dim, storage = len(self.inputs.queries.pool), "float32"
        n_bytes = self._bytes(pool, pool_sample.usable, dim, storage)
        found: list[StageCost] = []
        for place, rows in enumerate(missing):
            share = rows / len(pool)
            name = StageKind.POOL.value + ("" if n_checkpoints == 1 else f", checkpoint {place + 1}")
            if not rows:
                found.append(StageCost.left(StageKind.POOL, name))
                continue
            found.append(
                StageCost(
                    name,
                    round(pool_sample.usable * share),
                    tokens.times(share),
                    flops * share,
                    round(n_bytes * share),
                    probe.held,
                    seconds.times(share).plus(0.0 if found else probe.load_seconds),
                    note="" if share == 1 else f"{len(pool) - rows:,} rows are there already",
                    shards=math.ceil(count_shards(pool.files, settings.shard_rows) * share),
                    kind=StageKind.POOL,
                )
            )
        return found, self._cheaper(n_bytes, sum(rows / len(pool) for rows in missing), probe.dim)

    def _cheaper(self, n_bytes: int, n_checkpoints: float, dim: int) -> list[str]:
        """Return other ways to store the same, computed alike."""
        settings, pool, query = self.settings, self.inputs.pool.pool, self.inputs.query
        if settings.score_only:
            return []
        ways: list[tuple[str, int, Storage, str]] = [
            ("--storage float16", dim, "float16", ""),
            ("--storage int8", dim, "int8", ""),
        ]
        if query is not None and "score_only" in settings.scorer.reads:
            ways.append(("--score-only", len(query.pool), "float32", ", and keeps features for no other query"))
        cheaper = []
        for flag, width, storage, but in ways:
            saved = (n_bytes - self._bytes(pool, self.looked.usable, width, storage)) * n_checkpoints
            if saved > 0:
                cheaper.append(f"{flag} saves {saved / 1e9:.2f} GB of disk{but}")
        return cheaper

    def _bytes(self, examples: Pool, usable: int, dim: int, storage: Storage) -> int:
        """Return the bytes of a store of some examples, at one checkpoint."""
        shard_rows = self.settings.shard_rows
        return checkpoint_bytes(examples.files, examples.ids(), usable, dim=dim, storage=storage, shard_rows=shard_rows)

    def _query(self, probe: EngineProbe, n_checkpoints: int) -> list[StageCost]:
        query = self.inputs.queries.pool
        prepared = self.gradients.objectives.query.prepare(query.examples(0, len(query)))
        sequences, note, read_first = self._sequences(prepared.items)
        if sequences is None:
            return [StageCost(StageKind.QUERY.value, len(prepared.items), note=note, kind=StageKind.QUERY)]
        mixing = mixing_of(load_config(model_name(self.settings)))
        batches = token_batches([len(s.input_ids) for s in sequences], tokens_per_batch(self.settings), mixing)
        sizes = [Size(len(members), max(len(sequences[i].input_ids) for i in members)) for members in batches]
        lengths = [len(s.input_ids) for s in sequences]
        flops = sum(probe.flops(sequences)) + read_first * probe.shape.read(lengths, count_labelled(sequences))
        # a pass that only reads has about half of a gradient's operations
        seconds = probe.batches.estimate(sizes).times(n_checkpoints * (1 + 0.5 * read_first)).plus(probe.load_seconds)
        disk = n_checkpoints * self._bytes(query, len(prepared.items), probe.dim, "float32")
        held, shards = probe.held, n_checkpoints * count_shards(query.files, self.settings.shard_rows)
        if self.settings.scorer.bound_to_queries:  # their whole gradients, and a basis, which are the driver's
            held, shards = held + 8 * len(query) * probe.n_coordinates, 0
        found = [
            StageCost(
                StageKind.QUERY.value,
                len(prepared.items),
                Amount.exactly(n_checkpoints * sum(lengths)),
                n_checkpoints * flops,
                disk,
                held,
                seconds,
                note,
                shards=shards,
                kind=StageKind.QUERY,
            )
        ]
        if prepared.items and isinstance(prepared.items[0], PromptItem):
            found.insert(0, self._sampling(prepared.items, probe, n_checkpoints))
        return found

    def _sampling(self, asked: Sequence[PromptItem], probe: EngineProbe, n_checkpoints: int) -> StageCost:
        settings = self.settings
        n = len(asked) * settings.samples * n_checkpoints
        drawn = n * settings.max_new_tokens
        flops = sum(
            settings.samples * probe.shape.read([len(each.ids) + settings.max_new_tokens], settings.max_new_tokens)
            for each in asked
        )
        judged = settings.reward is not None and settings.reward.startswith("judge:")
        calls = f"; up to {n:,} calls of the judge" if judged else ""
        return StageCost(
            StageKind.ANSWERS.value,
            n,
            Amount(drawn, 0, drawn),
            n_checkpoints * flops,
            note=f"at most: {settings.samples} answers × {len(asked)} prompts × {n_checkpoints} checkpoints of up to "
            f"{settings.max_new_tokens} tokens{calls}; their time is not estimated",
            kind=StageKind.ANSWERS,
        )

    def _sequences(self, items: Sequence[Any]) -> tuple[list[Rendered] | None, str, int]:
        """Return the sequences of a query's items, a note, and how often each is read before its gradient."""
        if all(isinstance(item, Rendered) for item in items):
            return list(items), "", 0
        if all(isinstance(item, Pair) for item in items):
            reads = 1 if self.settings.preference_loss == "simpo" else 2
            return [side for pair in items for side in (pair.chosen, pair.rejected)], "pairs: two sequences each", reads
        if all(isinstance(item, PromptItem) for item in items):
            n = self.settings.max_new_tokens
            longest = [
                Rendered(each.ids + each.ids[-1:] * n, [IGNORED] * len(each.ids) + each.ids[-1:] * n, len(each.ids) + n)
                for each in items
            ]
            return [s for s in longest for _ in range(self.settings.samples)], "at most: answers may end early", 0
        return None, "an objective of one's own: not estimated", 0

    def _query_is_there(self) -> bool:
        """Return whether a store of these queries lies beside the pool's, made in the pool's space."""
        pool_store, query = pool_store_path(self.settings), self.inputs.queries.pool
        if not StoreLayout(pool_store).manifest.exists():
            return False
        space = read_manifest(pool_store).space
        for path in RunLayout(self.settings.folder).query_stores():
            manifest = read_manifest(path)
            same = manifest.space == space and contents_of(manifest.files) == contents_of(query.files)
            same = same and self.gradients.objectives.query.fingerprint().items() <= manifest.build.items()
            store = FeatureStore(path, manifest)
            if same and not any(store.missing(t) for t in range(len(store.checkpoints))):
                return True
        return False


def _widen_for_sampling(seconds: Amount, tokens: Amount) -> Amount:
    """Widen the interval by what the number of tokens may be off."""
    if not tokens.value:
        return seconds
    return Amount(seconds.value, seconds.low * tokens.low / tokens.value, seconds.high * tokens.high / tokens.value)
