"""What the gradient engine takes: some of the pool's batches go through it at a checkpoint.

Legend: K features, D coordinates.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from handpick.costs import probe as clocks
from handpick.costs.flops import Shape, shape_of
from handpick.costs.machine import resident_bytes
from handpick.costs.probe import TimedBatches, time_batches
from handpick.costs.tokens import PoolSample
from handpick.costs.training import size_of, weight_bytes
from handpick.data.batching import token_batches
from handpick.data.render import Rendered
from handpick.gradients.adam import AdamPreconditioner
from handpick.gradients.check import check_rows
from handpick.gradients.engine import GradientEngine
from handpick.gradients.memory import footprint
from handpick.gradients.projection import Projection, RademacherProjection, projection
from handpick.model import compute_dtype, device, load_base, load_config, padding_id
from handpick.model.mixing import mixing_of
from handpick.objectives.next_token import mean_loss
from handpick.scorers.gist_subspace import BasisProjection
from handpick.scorers.gradient_encoder import encode_rows, tokens_per_batch
from handpick.scorers.gradient_stores import GradientStores
from handpick.scorers.inputs import Inputs
from handpick.settings import Settings
from handpick.training.checkpoint import load_moments
from handpick.training.warmup import load_trainable

_ALLOCATOR = 2  # a CPU's keeps freed blocks of other sizes (docs/gradients.md, growth)


@dataclass(frozen=True, slots=True)
class EngineProbe:
    """What the engine was found to take. ``held`` are bytes beside what the process had before it was loaded."""

    batches: TimedBatches
    shape: Shape
    n_coordinates: int
    dim: int
    dense: int  # weights of the projection where it is a dense matrix
    load_seconds: float
    held: int

    def flops(self, sequences: Sequence[Rendered]) -> list[float]:
        """Return the operations of each sequence's row."""
        return [self.shape.gradient([len(s.input_ids)], s.n_labels) + 2 * self.dense for s in sequences]


def probe_engine(
    inputs: Inputs, gradients: GradientStores, pool_sample: PoolSample, checkpoints: Sequence[Path], seconds: float
) -> EngineProbe:
    """Return what the pool's batches were found to take at the first checkpoint.

    Args:
        inputs: of the run.
        gradients: as the run makes them.
        pool_sample: the pool's records.
        checkpoints: to load.
        seconds: to compute for, about.
    """
    settings = inputs.settings
    before, began = resident_bytes(), clocks.clock()
    base = load_base(str(settings.model), compute_dtype(settings.dtype), settings.quantization)
    model = load_trainable(base, checkpoints, settings.layers)
    engine = GradientEngine(model, recompute=settings.gradient_checkpointing)
    check_rows(engine)
    project, dense = _projection(inputs, engine)
    precondition = None
    if gradients.optimizer == "adam":
        precondition = AdamPreconditioner(load_moments(checkpoints[0], model), settings.eps_mode)
    load_seconds = clocks.clock() - began
    pad_id, batch_tokens = padding_id(gradients.renderer.tokenizer), tokens_per_batch(settings)

    def compute(batch: list[Rendered]) -> None:
        encode_rows(engine, [mean_loss(s) for s in batch], pad_id, project, batch_tokens, precondition)

    batches = batches_of(settings, pool_sample.shards)
    times = time_batches(compute, batches, size_of, seconds)
    took = footprint(engine, project, adam=precondition is not None)
    peak = max(took.peak(*size) for size in {size_of(batch) for batch in batches})
    buffers = 0
    if device().type == "cpu":
        # a shard's rows while they are made, and the last's, as they are, at unit norm and as bytes to write
        buffers = 4 * 4 * min(settings.shard_rows, len(inputs.pool.pool)) * project.dim
        peak *= _ALLOCATOR
    return EngineProbe(
        times,
        replace(shape_of(model), way_back=engine.way_back),
        engine.n_coordinates,
        project.dim,
        dense,
        load_seconds,
        round(before + weight_bytes(model) + peak + buffers),
    )


def batches_of(settings: Settings, shards: Sequence[Sequence[Rendered]]) -> list[list[Rendered]]:
    """Return the batches as the run makes them, a shard at a time."""
    limit, mixing = tokens_per_batch(settings), mixing_of(load_config(str(settings.model)))
    return [
        [shard[i] for i in members]
        for shard in shards
        for members in token_batches([len(s.input_ids) for s in shard], limit, mixing)
    ]


def _projection(inputs: Inputs, engine: GradientEngine) -> tuple[Projection, int]:
    """Return what rows go through, and its weights where it is dense."""
    settings, n = inputs.settings, engine.n_coordinates
    if settings.scorer.bound_to_queries:  # projected on a basis that is not there yet
        dim = min(settings.gist_dim, len(inputs.queries.pool))
        return BasisProjection(torch.randn(n, dim)), n * dim
    made = projection(settings.projection, n, settings.projection_dim, settings.seed, settings.projection_nonzeros)
    return made, n * made.dim if isinstance(made, RademacherProjection) else 0
