"""Stages of the gradient representations: the warmup, the pool's features at every checkpoint, the query's.

The probe is a warmup (warmup.py) and a feature store (engine.py) in small.

Legend: N candidates, K features, T checkpoints.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from handpick.data.batching import token_batches
from handpick.data.render import IGNORED, Rendered
from handpick.errors import DataError
from handpick.objectives.preference import Pair
from handpick.objectives.reward import Asked
from handpick.pipeline.features import Features
from handpick.pipeline.made_with import pool_store_path
from handpick.planning.cost import Amount, Stage
from handpick.planning.disk import checkpoint_bytes
from handpick.planning.engine import EngineProbe, batches_of, probe_engine
from handpick.planning.flops import labelled
from handpick.planning.opened import Opened
from handpick.planning.probe import Size
from handpick.planning.tokens import look
from handpick.planning.training import size_of
from handpick.planning.warmup import warmup_stage
from handpick.represent.gradient import tokens_a_batch
from handpick.store import FeatureStore
from handpick.store.manifest import MANIFEST_NAME, contents_of, read_manifest


class ByGradients:
    """Plans ``gradient``, ``whitened`` and ``gist``; checks all that the run would check first.

    Args:
        opened: the run's settings and data.

    Raises:
        HandpickError: as the run itself would, before anything is probed.
    """

    def __init__(self, opened: Opened) -> None:
        assert opened.renderer is not None  # the table says that these need a model
        self.opened = opened
        self.settings = opened.settings
        self.renderer = opened.renderer
        self.features = Features(opened.settings, opened.renderer, opened.pool)
        self.features.check(opened.query)
        self.is_gist = self.settings.used_representation == "gist"
        self.looked = look(
            opened.pool, self.features.pool_objective, shard_rows=self.settings.shard_rows, seed=self.settings.seed
        )
        if not self.looked.items:
            raise DataError(f"none of the {self.looked.n_looked:,} records looked at leaves a response to learn from")
        self.notes = [self.looked.how()]
        self.cheaper: list[str] = []
        self.extent = (0, 0, 0)  # N, K, T, when the stages are made

    def stages(self) -> list[Stage]:
        """All lines up to the features."""
        with tempfile.TemporaryDirectory() as scratch:
            missing = self._missing()
            warmed = warmup_stage(self.opened, Path(scratch))
            to_be_made = any(missing) or (self.opened.query is not None and not self._query_is_there())
            probe = probe_engine(self.opened, self.features, self.looked, warmed.checkpoints) if to_be_made else None
        found = [] if warmed.stage is None else [warmed.stage]
        n_checkpoints = 1 if self.is_gist else warmed.n_checkpoints
        dim = read_manifest(pool_store_path(self.settings)).dim if probe is None else probe.dim
        self.extent = (self.looked.usable, dim, n_checkpoints)
        if self.opened.query is not None:
            if probe is None or self._query_is_there():
                found += self._query_there()
            else:
                found += self._query(probe, n_checkpoints)
        if probe is None:
            return [*found, *self._pool_there()]
        found += self._pool(probe, n_checkpoints, missing)
        return found

    def _missing(self) -> list[int]:
        """Rows that the pool's store still lacks, a checkpoint; one entry, all rows, where there is none."""
        path = pool_store_path(self.settings)
        if self.is_gist or self.settings.score_only or not (path / MANIFEST_NAME).exists():
            return [len(self.opened.pool)]
        return self.opened.rows_missing(FeatureStore.open(path, allow_incomplete=True))

    def _query_there(self) -> list[Stage]:
        return [Stage.left("query features")]

    def _pool_there(self) -> list[Stage]:
        path = pool_store_path(self.settings)
        return [Stage.left("pool features", f"an earlier run left them in {path}")]

    def _pool(self, probe: EngineProbe, n_checkpoints: int, missing: list[int]) -> list[Stage]:
        settings, pool, looked = self.settings, self.opened.pool, self.looked
        if not any(missing):
            return self._pool_there()
        missing = missing if len(missing) == n_checkpoints else missing * n_checkpoints
        sequences: list[Rendered] = looked.items
        tokens = looked.total([len(s.input_ids) for s in sequences])
        flops = looked.total(probe.flops(sequences)).value
        seconds = probe.batches.of([size_of(batch) for batch in batches_of(self.opened, looked)], looked.scale)
        seconds = _with_sampling(seconds, tokens).plus(looked.seconds * looked.n_records)
        dim, storage = probe.dim, settings.storage
        if settings.score_only:
            assert self.opened.query is not None
            dim, storage = len(self.opened.query), "float32"
        n_bytes = checkpoint_bytes(
            pool.files, pool.ids(), looked.usable, dim=dim, storage=storage, shard_rows=settings.shard_rows
        )
        found: list[Stage] = []
        for place, rows in enumerate(missing):
            share = rows / len(pool)
            name = "pool features" if n_checkpoints == 1 else f"pool features, checkpoint {place + 1}"
            if not rows:
                found.append(Stage.left(name))
                continue
            found.append(
                Stage(
                    name,
                    round(looked.usable * share),
                    tokens.times(share),
                    flops * share,
                    round(n_bytes * share),
                    probe.held,
                    seconds.times(share).plus(0.0 if found else probe.load_seconds),
                    note="" if share == 1 else f"{len(pool) - rows:,} rows are there already",
                )
            )
        self._say_cheaper(n_bytes, sum(rows / len(pool) for rows in missing), probe.dim)
        return found

    def _say_cheaper(self, n_bytes: int, n_checkpoints: float, dim: int) -> None:
        """Other ways to store the same, computed alike."""
        settings, pool = self.settings, self.opened.pool
        if settings.score_only:
            return
        for storage in ("float16", "int8"):
            other = checkpoint_bytes(
                pool.files,
                pool.ids(),
                self.looked.usable,
                dim=dim,
                storage=storage,
                shard_rows=settings.shard_rows,
            )
            if (saved := (n_bytes - other) * n_checkpoints) > 0:
                self.cheaper.append(f"--storage {storage} saves {saved / 1e9:.2f} GB of disk")
        if self.opened.query is not None and settings.used_representation == "gradient":
            other = checkpoint_bytes(
                pool.files,
                pool.ids(),
                self.looked.usable,
                dim=len(self.opened.query),
                storage="float32",
                shard_rows=settings.shard_rows,
            )
            if (saved := (n_bytes - other) * n_checkpoints) > 0:
                self.cheaper.append(
                    f"--score-only saves {saved / 1e9:.2f} GB of disk, and keeps features for no other query"
                )

    def _query(self, probe: EngineProbe, n_checkpoints: int) -> list[Stage]:
        query = self.opened.query
        assert query is not None
        prepared = self.features.query_objective.prepare(query.examples(0, len(query)))
        sequences, note, read_first = self._sequences(prepared.items)
        if sequences is None:
            return [Stage("query features", len(prepared.items), note=note)]
        batches = token_batches([len(s.input_ids) for s in sequences], tokens_a_batch(self.settings))
        sizes = [Size(len(members), max(len(sequences[i].input_ids) for i in members)) for members in batches]
        lengths = [len(s.input_ids) for s in sequences]
        flops = sum(probe.flops(sequences)) + read_first * probe.shape.read(lengths, labelled(sequences))
        # a pass that only reads has about half of a gradient's operations
        seconds = probe.batches.of(sizes).times(n_checkpoints * (1 + 0.5 * read_first)).plus(probe.load_seconds)
        dim = probe.dim
        disk = n_checkpoints * checkpoint_bytes(
            query.files,
            query.ids(),
            len(prepared.items),
            dim=dim,
            storage="float32",
            shard_rows=self.settings.shard_rows,
        )
        held = probe.held
        if self.is_gist:
            held += 8 * len(query) * probe.n_coordinates
        found = [
            Stage(
                "query features",
                len(prepared.items),
                Amount.exactly(n_checkpoints * sum(lengths)),
                n_checkpoints * flops,
                disk,
                held,
                seconds,
                note,
            )
        ]
        if prepared.items and isinstance(prepared.items[0], Asked):
            found.insert(0, self._sampling(prepared.items, probe, n_checkpoints))
        return found

    def _sampling(self, asked: Sequence[Asked], probe: EngineProbe, n_checkpoints: int) -> Stage:
        settings = self.settings
        n = len(asked) * settings.samples * n_checkpoints
        drawn = n * settings.max_new_tokens
        flops = sum(
            settings.samples * probe.shape.read([len(each.ids) + settings.max_new_tokens], settings.max_new_tokens)
            for each in asked
        )
        judged = settings.reward is not None and settings.reward.startswith("judge:")
        calls = f"; up to {n:,} calls of the judge" if judged else ""
        return Stage(
            "answers",
            n,
            Amount(drawn, 0, drawn),
            n_checkpoints * flops,
            note=f"at most: {settings.samples} answers × {len(asked)} prompts × {n_checkpoints} checkpoints of up to "
            f"{settings.max_new_tokens} tokens{calls}; their time is not estimated",
        )

    def _sequences(self, items: Sequence[Any]) -> tuple[list[Rendered] | None, str, int]:
        """The sequences of a query's items, a note, and how often each is read before its gradient."""
        if all(isinstance(item, Rendered) for item in items):
            return list(items), "", 0
        if all(isinstance(item, Pair) for item in items):
            reads = 1 if self.settings.preference_loss == "simpo" else 2
            return [side for pair in items for side in (pair.chosen, pair.rejected)], "pairs: two sequences each", reads
        if all(isinstance(item, Asked) for item in items):
            n = self.settings.max_new_tokens
            longest = [
                Rendered(each.ids + each.ids[-1:] * n, [IGNORED] * len(each.ids) + each.ids[-1:] * n, len(each.ids) + n)
                for each in items
            ]
            return [s for s in longest for _ in range(self.settings.samples)], "at most: answers may end early", 0
        return None, "an objective of one's own: not estimated", 0

    def _query_is_there(self) -> bool:
        """Whether a store of these queries lies beside the pool's, made in the pool's space."""
        pool_store, query = pool_store_path(self.settings), self.opened.query
        assert query is not None
        if not (pool_store / MANIFEST_NAME).exists():
            return False
        space = read_manifest(pool_store).space
        for path in (self.settings.folder / "features").glob("query-*"):
            manifest = read_manifest(path)
            same = manifest.space == space and contents_of(manifest.files) == contents_of(query.files)
            same = same and self.features.query_objective.fingerprint().items() <= manifest.build.items()
            store = FeatureStore(path, manifest)
            if same and not any(store.missing(t) for t in range(len(store.checkpoints))):
                return True
        return False


def _with_sampling(seconds: Amount, tokens: Amount) -> Amount:
    """Wider by what the number of tokens may be off."""
    if not tokens.value:
        return seconds
    return Amount(seconds.value, seconds.low * tokens.low / tokens.value, seconds.high * tokens.high / tokens.value)
