"""Stages of the gradient representations: the warmup, the pool's features at every checkpoint, the query's.

The probe is a warmup and a feature store in small: some micro-batches of the warmup's own examples are trained on, the
adapter is written as a checkpoint, and some of the pool's batches go through the engine at it. Where checkpoints are
there already, it starts from them.

Legend: Q queries, T checkpoints, K features, D coordinates.
"""

import gc
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from handpick.choices import Optimizer
from handpick.data.batching import token_batches
from handpick.data.render import IGNORED, Rendered
from handpick.errors import DataError
from handpick.gradients.adam import AdamPreconditioner
from handpick.gradients.engine import GradientEngine
from handpick.gradients.memory import footprint
from handpick.gradients.projection import Projection, RademacherProjection, projection
from handpick.methods import find_method
from handpick.model import compute_dtype, device, load_base, padding_id
from handpick.objectives.next_token import NextToken, mean_loss
from handpick.objectives.preference import Pair
from handpick.objectives.reward import Asked
from handpick.pipeline.checkpoints import new_lora, to_be_trained, warmup_of
from handpick.pipeline.features import Features
from handpick.pipeline.made_with import pool_store_path
from handpick.plan import probe as probing
from handpick.plan.cost import Amount, Stage
from handpick.plan.disk import adapter_bytes, checkpoint_bytes
from handpick.plan.flops import Shape, labelled, shape_of
from handpick.plan.opened import Opened, resident_bytes
from handpick.plan.probe import Size, Timed, timed
from handpick.plan.tokens import Looked, estimated_total, look
from handpick.plan.training import TrainingProbe, micro_batches, probe_training, size_of
from handpick.represent.gist import BasisProjection
from handpick.represent.gradient import encode_rows, tokens_a_batch
from handpick.store import FeatureStore
from handpick.store.manifest import MANIFEST_NAME, contents_of, read_manifest
from handpick.training.checkpoint import RECORD_FILE, load_moments
from handpick.training.settings import WarmupSettings
from handpick.training.warmup import load_trainable, new_adapter, warmup_rows

_OF_WARMUP = 2_000  # of its examples that are tokenised
_ALLOCATOR = 2  # a CPU's keeps freed blocks of other sizes (docs/gradients.md, growth)


@dataclass(frozen=True, slots=True)
class Warmed:
    """The warmup's stage, where one is needed; the checkpoints to probe at; how many a run will have."""

    stage: Stage | None
    checkpoints: list[Path]
    n_checkpoints: int


@dataclass(frozen=True, slots=True)
class EngineProbe:
    """What the engine was found to take. ``held`` are bytes beside what the process had before it was loaded."""

    batches: Timed
    shape: Shape
    n_coordinates: int
    dim: int
    dense: int  # weights of the projection where it is a dense matrix
    load_seconds: float
    held: int

    def flops(self, sequences: Sequence[Rendered]) -> list[float]:
        """Of each sequence's row."""
        return [self.shape.gradient([len(s.input_ids)], s.n_labels) + 2 * self.dense for s in sequences]


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
        own: Optimizer = "sgd" if self.is_gist else find_method(self.settings.method).optimizer
        self.optimizer: Optimizer = self.settings.optimizer or own
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
            warmed = self._warmup(Path(scratch))
            to_be_made = any(missing) or (self.opened.query is not None and not self._query_is_there())
            probe = self._probe(warmed.checkpoints) if to_be_made else None
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

    def _warmup(self, scratch: Path) -> Warmed:
        settings = self.settings
        warmup, name = warmup_of(settings) if not settings.checkpoints else (None, "")
        if settings.checkpoints:
            stage = Stage("warmup", there=True, seconds=Amount.exactly(0.0), note="checkpoints are given")
            return Warmed(stage, [Path(path) for path in settings.checkpoints], len(settings.checkpoints))
        if warmup is None:
            base = load_base(str(settings.model), compute_dtype(settings.dtype), settings.quantization)
            new_adapter(base, new_lora(settings), settings.seed, in_float32=True).save_pretrained(  # type: ignore[operator]
                scratch
            )
            return Warmed(None, [scratch], 1)
        folder = settings.folder / "warmup"
        if not to_be_trained(settings):
            names = json.loads((folder / "warmup.json").read_text())["checkpoints"]
            stage = Stage("warmup", there=True, seconds=Amount.exactly(0.0), note=f"an earlier run left it in {folder}")
            return Warmed(stage, [folder / name for name in names], len(names))
        return Warmed(self._trained(warmup, name, folder, scratch), [scratch], warmup.epochs)

    def _trained(self, warmup: WarmupSettings, name: str, folder: Path, scratch: Path) -> Stage:
        settings, pool = self.settings, self.opened.pool
        rows = warmup_rows(len(pool), warmup, settings.seed)
        some = rows[:_OF_WARMUP]
        _, sequences, _ = NextToken(self.renderer, settings.max_length).prepare([pool[row] for row in some])
        if not sequences:
            raise DataError("none of the records drawn for the warmup leaves a response to learn from")
        scale = len(rows) / len(some)
        batches = micro_batches(sequences, warmup.batch, warmup.micro_batch, settings.seed)
        before, began = resident_bytes(), probing.clock()
        dtype = compute_dtype(settings.dtype)
        base = load_base(str(settings.model), dtype, settings.quantization)
        model = new_adapter(base, warmup.lora, settings.seed, in_float32=True)
        load_seconds = probing.clock() - began
        weights = weight_bytes(model)
        probe = probe_training(
            model, batches, pad_id=padding_id(self.renderer.tokenizer), dtype=dtype,
            recompute=settings.gradient_checkpointing, seconds=self.opened.seconds * 0.35, keep=scratch,
        )  # fmt: skip
        del model, base
        gc.collect()
        done = len(list(folder.glob(f"checkpoint-*/{RECORD_FILE}")))
        epochs = max(0, warmup.epochs - done)
        n = round(len(sequences) * scale)
        steps = -(-n // warmup.batch) * epochs
        left = f"; {done} of {warmup.epochs} epochs are done already" if done else ""
        return training_stage(
            "warmup", probe, sequences, batches, scale=scale, examples=n, epochs=epochs, steps=steps,
            load_seconds=load_seconds, memory=before + weights + probe.held,
            disk=epochs * adapter_bytes(probe.n_trained, adam=True),
            note=f"{name} settings: {n:,} examples × {epochs}, {steps:,} steps{left}",
        )  # fmt: skip

    def _probe(self, checkpoints: Sequence[Path]) -> EngineProbe:
        settings = self.settings
        before, began = resident_bytes(), probing.clock()
        model = load_trainable(
            load_base(str(settings.model), compute_dtype(settings.dtype), settings.quantization), checkpoints
        )
        engine = GradientEngine(model, recompute=settings.gradient_checkpointing)
        project, dense = self._projection(engine)
        precondition = None
        if self.optimizer == "adam":
            precondition = AdamPreconditioner(load_moments(checkpoints[0], model), settings.eps_mode)
        load_seconds = probing.clock() - began
        pad_id, batch_tokens = padding_id(self.renderer.tokenizer), tokens_a_batch(settings)

        def compute(batch: list[Rendered]) -> None:
            encode_rows(engine, [mean_loss(s) for s in batch], pad_id, project, batch_tokens, precondition)

        batches = self._batches(self.looked)
        times = timed(compute, batches, size_of, self.opened.seconds * 0.5)
        took = footprint(engine, project, adam=precondition is not None)
        peak = max(took.peak(*size) for size in {size_of(batch) for batch in batches})
        buffers = 0
        if device().type == "cpu":
            # a shard's rows while they are made, and the last's, as they are, at unit norm and as bytes to write
            buffers = 4 * 4 * min(settings.shard_rows, len(self.opened.pool)) * project.dim
            peak *= _ALLOCATOR
        return EngineProbe(
            times, shape_of(model), engine.n_coordinates, project.dim, dense, load_seconds,
            round(before + weight_bytes(model) + peak + buffers),
        )  # fmt: skip

    def _projection(self, engine: GradientEngine) -> tuple[Projection, int]:
        """What rows go through, and its weights where it is dense."""
        settings, n = self.settings, engine.n_coordinates
        if self.is_gist:
            assert self.opened.query is not None
            dim = min(settings.gist_dim, len(self.opened.query))
            return BasisProjection(torch.randn(n, dim)), n * dim
        made = projection(settings.projection, n, settings.projection_dim, settings.seed, settings.projection_nonzeros)
        return made, n * made.dim if isinstance(made, RademacherProjection) else 0

    def _batches(self, looked: Looked) -> list[list[Rendered]]:
        """As the run makes them, a shard at a time."""
        limit = tokens_a_batch(self.settings)
        return [
            [shard[i] for i in members]
            for shard in looked.shards
            for members in token_batches([len(s.input_ids) for s in shard], limit)
        ]

    def _missing(self) -> list[int]:
        """Rows that the pool's store still lacks, a checkpoint; one entry, all rows, where there is none."""
        path = pool_store_path(self.settings)
        if self.is_gist or self.settings.score_only or not (path / MANIFEST_NAME).exists():
            return [len(self.opened.pool)]
        store = FeatureStore.open(path, allow_incomplete=True)
        new = len(self.opened.pool) - sum(file.rows for file in store.manifest.files)
        return [
            new + sum(shard.stop - shard.start for shard in store.missing(t)) for t in range(len(store.checkpoints))
        ]

    def _query_there(self) -> list[Stage]:
        return [Stage("query features", there=True, seconds=Amount.exactly(0.0), note="an earlier run left them")]

    def _pool_there(self) -> list[Stage]:
        path = pool_store_path(self.settings)
        return [
            Stage("pool features", there=True, seconds=Amount.exactly(0.0), note=f"an earlier run left them in {path}")
        ]

    def _pool(self, probe: EngineProbe, n_checkpoints: int, missing: list[int]) -> list[Stage]:
        settings, pool, looked = self.settings, self.opened.pool, self.looked
        if not any(missing):
            return self._pool_there()
        missing = missing if len(missing) == n_checkpoints else missing * n_checkpoints
        sequences: list[Rendered] = looked.items
        tokens = looked.total([len(s.input_ids) for s in sequences])
        flops = looked.total(probe.flops(sequences)).value
        seconds = probe.batches.of([size_of(batch) for batch in self._batches(looked)], looked.scale)
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
                found.append(Stage(name, there=True, seconds=Amount.exactly(0.0), note="an earlier run left them"))
                continue
            found.append(
                Stage(
                    name, round(looked.usable * share), tokens.times(share), flops * share, round(n_bytes * share),
                    probe.held, seconds.times(share).plus(0.0 if found else probe.load_seconds),
                    note="" if share == 1 else f"{len(pool) - rows:,} rows are there already",
                )
            )  # fmt: skip
        self._say_cheaper(n_bytes, sum(rows / len(pool) for rows in missing), probe.dim)
        return found

    def _say_cheaper(self, n_bytes: int, n_checkpoints: float, dim: int) -> None:
        """Other ways to store the same, computed alike."""
        settings, pool = self.settings, self.opened.pool
        if settings.score_only:
            return
        for storage in ("float16", "int8"):
            other = checkpoint_bytes(
                pool.files, pool.ids(), self.looked.usable, dim=dim, storage=storage,
                shard_rows=settings.shard_rows,
            )  # fmt: skip
            if (saved := (n_bytes - other) * n_checkpoints) > 0:
                self.cheaper.append(f"--storage {storage} saves {saved / 1e9:.2f} GB of disk")
        if self.opened.query is not None and settings.used_representation == "gradient":
            other = checkpoint_bytes(
                pool.files, pool.ids(), self.looked.usable, dim=len(self.opened.query), storage="float32",
                shard_rows=settings.shard_rows,
            )  # fmt: skip
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
            query.files, query.ids(), len(prepared.items), dim=dim, storage="float32",
            shard_rows=self.settings.shard_rows,
        )  # fmt: skip
        held = probe.held
        if self.is_gist:
            held += 8 * len(query) * probe.n_coordinates
        found = [
            Stage(
                "query features", len(prepared.items), Amount.exactly(n_checkpoints * sum(lengths)),
                n_checkpoints * flops, disk, held, seconds, note,
            )
        ]  # fmt: skip
        if prepared.items and isinstance(prepared.items[0], Asked):
            found.insert(0, self._sampling(prepared.items, probe, n_checkpoints))
        return found

    def _sampling(self, asked: Sequence[Asked], probe: EngineProbe, n_checkpoints: int) -> Stage:
        settings = self.settings
        n = len(asked) * settings.samples * n_checkpoints
        drawn = n * settings.max_new_tokens
        flops = sum(
            settings.samples
            * probe.shape.read([len(each.ids) + settings.max_new_tokens], settings.max_new_tokens)
            for each in asked
        )  # fmt: skip
        judged = settings.reward is not None and settings.reward.startswith("judge:")
        calls = f"; up to {n:,} calls of the judge" if judged else ""
        return Stage(
            "answers", n, Amount(drawn, 0, drawn), n_checkpoints * flops,
            note=f"at most: {settings.samples} answers × {len(asked)} prompts × {n_checkpoints} checkpoints of up to "
            f"{settings.max_new_tokens} tokens{calls}; their time is not estimated",
        )  # fmt: skip

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


def training_stage(
    name: str, probe: TrainingProbe, sequences: Sequence[Rendered], batches: Sequence[list[Rendered]], *, scale: float,
    examples: int, epochs: int, steps: int, load_seconds: float, memory: int, disk: int, note: str,
) -> Stage:  # fmt: skip
    """A stage that trains on some sequences, of which ``scale`` times as many there are."""
    lengths = [len(s.input_ids) for s in sequences]
    sizes = [size_of(batch) for batch in batches]
    flops = probe.shape.gradient(lengths, sum(lengths))  # the trainer's logits stand at every position
    tokens = estimated_total(lengths, len(lengths), round(len(lengths) * scale)).times(epochs)
    return Stage(
        name, examples, tokens, flops * scale * epochs, disk, memory,
        probe.seconds(sizes, steps, scale * epochs).plus(load_seconds), note,
    )  # fmt: skip


def weight_bytes(model: torch.nn.Module) -> int:
    """Bytes of a model's weights; none of them twice."""
    return sum(weight.numel() * weight.element_size() for weight in model.parameters())


def _with_sampling(seconds: Amount, tokens: Amount) -> Amount:
    """Wider by what the number of tokens may be off."""
    if not tokens.value:
        return seconds
    return Amount(seconds.value, seconds.low * tokens.low / tokens.value, seconds.high * tokens.high / tokens.value)
