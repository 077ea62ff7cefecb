"""What the gradient engine takes: some of the pool's batches go through it at a checkpoint.

Legend: K features, D coordinates.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from handpick.data.batching import token_batches
from handpick.data.render import Rendered
from handpick.gradients.adam import AdamPreconditioner
from handpick.gradients.engine import GradientEngine
from handpick.gradients.memory import footprint
from handpick.gradients.projection import Projection, RademacherProjection, projection
from handpick.model import compute_dtype, device, load_base, padding_id
from handpick.objectives.next_token import mean_loss
from handpick.pipeline.features import Features
from handpick.planning import probe as probing
from handpick.planning.flops import Shape, shape_of
from handpick.planning.opened import Opened, resident_bytes
from handpick.planning.probe import Timed, timed
from handpick.planning.tokens import Looked
from handpick.planning.training import size_of, weight_bytes
from handpick.represent.gist import BasisProjection
from handpick.represent.gradient import encode_rows, tokens_a_batch
from handpick.training.checkpoint import load_moments
from handpick.training.warmup import load_trainable

_ALLOCATOR = 2  # a CPU's keeps freed blocks of other sizes (docs/gradients.md, growth)


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


def probe_engine(opened: Opened, features: Features, looked: Looked, checkpoints: Sequence[Path]) -> EngineProbe:
    """Time the pool's batches at the first checkpoint.

    Args:
        opened: the run's settings and data.
        features: as the run makes them.
        looked: the pool's records.
        checkpoints: to load.
    """
    assert opened.renderer is not None  # gradients are of a model
    settings = opened.settings
    before, began = resident_bytes(), probing.clock()
    model = load_trainable(
        load_base(str(settings.model), compute_dtype(settings.dtype), settings.quantization), checkpoints
    )
    engine = GradientEngine(model, recompute=settings.gradient_checkpointing)
    project, dense = _projection(opened, engine)
    precondition = None
    if features.optimizer == "adam":
        precondition = AdamPreconditioner(load_moments(checkpoints[0], model), settings.eps_mode)
    load_seconds = probing.clock() - began
    pad_id, batch_tokens = padding_id(opened.renderer.tokenizer), tokens_a_batch(settings)

    def compute(batch: list[Rendered]) -> None:
        encode_rows(engine, [mean_loss(s) for s in batch], pad_id, project, batch_tokens, precondition)

    batches = batches_of(opened, looked)
    times = timed(compute, batches, size_of, opened.seconds * 0.5)
    took = footprint(engine, project, adam=precondition is not None)
    peak = max(took.peak(*size) for size in {size_of(batch) for batch in batches})
    buffers = 0
    if device().type == "cpu":
        # a shard's rows while they are made, and the last's, as they are, at unit norm and as bytes to write
        buffers = 4 * 4 * min(settings.shard_rows, len(opened.pool)) * project.dim
        peak *= _ALLOCATOR
    return EngineProbe(
        times,
        shape_of(model),
        engine.n_coordinates,
        project.dim,
        dense,
        load_seconds,
        round(before + weight_bytes(model) + peak + buffers),
    )


def batches_of(opened: Opened, looked: Looked) -> list[list[Rendered]]:
    """As the run makes them, a shard at a time."""
    limit = tokens_a_batch(opened.settings)
    return [
        [shard[i] for i in members]
        for shard in looked.shards
        for members in token_batches([len(s.input_ids) for s in shard], limit)
    ]


def _projection(opened: Opened, engine: GradientEngine) -> tuple[Projection, int]:
    """What rows go through, and its weights where it is dense."""
    settings, n = opened.settings, engine.n_coordinates
    if settings.used_representation == "gist":
        assert opened.query is not None
        dim = min(settings.gist_dim, len(opened.query))
        return BasisProjection(torch.randn(n, dim)), n * dim
    made = projection(settings.projection, n, settings.projection_dim, settings.seed, settings.projection_nonzeros)
    return made, n * made.dim if isinstance(made, RademacherProjection) else 0
