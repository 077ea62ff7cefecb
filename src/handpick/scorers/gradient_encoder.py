"""The gradient representation: an example is the gradient of its loss, at every checkpoint of the warmup.

The pool's side goes through Adam where the method says so, the query's does not (LESS, Xia et al. ICML 2024, arXiv
2402.04333, and its released code, whose validation gradients are plain; docs/sources.md).

Legend: B examples, K features.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from handpick.choices import Optimizer
from handpick.data.batching import collate, token_batches
from handpick.data.render import Rendered
from handpick.fingerprint import JSON, Fingerprint, file_digest
from handpick.gradients.adam import AdamPreconditioner
from handpick.gradients.check import check_rows
from handpick.gradients.engine import GradientEngine
from handpick.gradients.forward import causal_of
from handpick.gradients.projection import Discarding, Projection, projection
from handpick.gradients.sharded_model import PassesInStep, load_sharded
from handpick.layer_numbers import ALL
from handpick.model import compute_dtype, device, load_base, padding_id
from handpick.model.mixing import mixing_of
from handpick.model.tokens import plain_tokens
from handpick.objectives.protocol import Objective, Policy, Row
from handpick.progress import log_once
from handpick.scorers.inputs import model_name
from handpick.settings.representation import GradientSettings
from handpick.training.checkpoint import (
    check_matrices_alone,
    check_moments,
    load_adapter,
    load_moments,
    moments_file,
)
from handpick.training.sealed_checkpoint import ADAPTER_FILE, check_file
from handpick.training.warmup import load_trainable


def space_fingerprint(settings: GradientSettings, model: Fingerprint, tokenizer: Fingerprint) -> Fingerprint:
    """Return what two sets of gradient features must share to be compared, but for the checkpoints."""
    projected: Fingerprint = {"kind": settings.projection}
    if settings.projection != "none":
        projected |= {"dim": settings.projection_dim, "seed": settings.seed}
    if settings.projection == "sparse":
        projected |= {"nonzeros": settings.projection_nonzeros, "runs": "rotated"}
    quantized: Fingerprint = {} if settings.quantization == "none" else {"quantization": settings.quantization}
    carried: Fingerprint = {} if settings.layers == ALL else {"layers": settings.layers}
    return {"representation": "gradient", "model": model, **quantized, **tokenizer, **carried, "projection": projected}


def build_fingerprint(settings: GradientSettings, optimizer: Optimizer, objective: Objective) -> Fingerprint:
    """Return what else decides the rows of one side."""
    build: Fingerprint = objective.fingerprint() | {
        "optimizer": optimizer,
        "max_length": settings.max_length,
        "dtype": str(compute_dtype(settings.dtype)).removeprefix("torch."),
        "batch_tokens": tokens_per_batch(settings),
    }
    return build | ({"eps_mode": settings.eps_mode} if optimizer == "adam" else {})


def tokens_per_batch(settings: GradientSettings, kind: str | None = None) -> int:
    """Return the padded tokens per forward pass, as set.

    Else few on a CPU, whose cache should hold what a layer works on.

    Dense signs cost the same for a batch of any size, so with them it is never small.

    Args:
        settings: of the run.
        kind: of the device, "cpu" or "cuda"; by default that of this process.
    """
    if settings.batch_tokens is not None:
        return settings.batch_tokens
    return 1024 if (kind or device().type) == "cpu" and settings.projection != "rademacher" else 4096


def adapter_fingerprint(checkpoints: Sequence[Path]) -> list[JSON]:
    """Return the bytes of each checkpoint's adapter."""
    for path in checkpoints:
        check_file(path / ADAPTER_FILE)
    return [file_digest(path / ADAPTER_FILE)[:16] for path in checkpoints]


def moments_fingerprint(checkpoints: Sequence[Path]) -> list[JSON]:
    """Return the bytes of each checkpoint's optimizer state."""
    files = [moments_file(path) for path in checkpoints]
    for file in files:
        check_file(file)
    return [file_digest(file)[:16] for file in files]


def encode_rows(
    engine: GradientEngine,
    rows: Sequence[Row],
    pad_id: int,
    project: Projection,
    batch_tokens: int,
    precondition: AdamPreconditioner | None = None,
    advance: Callable[[int], None] = lambda n: None,
) -> NDArray[np.float32]:
    """Compute features (N, K), float32: per row the gradient of Σ weight · nll over its sequences, zero without any.

    What goes into a batch is a function of the sequences and ``batch_tokens`` alone; those of one row may fall into
    several batches. ``advance`` is told how many sequences each gave.

    Raises:
        ValueError: a row of several sequences is to go through Adam, whose update is no sum over them.
    """
    if precondition is not None and any(len(row) > 1 for row in rows):
        raise ValueError("Adam's update of a row is not the sum over its sequences")
    features_NK = np.zeros((len(rows), project.dim), dtype=np.float32)
    weighted = [each for row in rows for each in row]
    row_S = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    coming: _FeaturesInTransfer | None = None
    mixing = mixing_of(causal_of(engine.model).config)
    for members in token_batches([len(each.sequence.input_ids) for each in weighted], batch_tokens, mixing):
        batch = collate([weighted[i].sequence for i in members], pad_id)
        weight_B = torch.tensor([weighted[i].weight for i in members], dtype=torch.float64)
        last, coming = (
            coming,
            _FeaturesInTransfer(row_S[members], engine.features(batch, weight_B, project, precondition)),
        )
        if last is not None:
            last.add_to(features_NK)
        advance(len(members))
    if coming is not None:
        coming.add_to(features_NK)
    return features_NK


class _FeaturesInTransfer:
    """Features on their way from the device, which has the next batch to compute while they travel."""

    def __init__(self, row_B: NDArray[np.intp], features_BK: Tensor) -> None:
        self._row_B = row_B
        self._features_BK = features_BK.to("cpu", torch.float32, non_blocking=True)  # into pinned memory, from a GPU
        self._there = torch.cuda.Event() if features_BK.is_cuda else None
        if self._there is not None:
            self._there.record()

    def add_to(self, features_NK: NDArray[np.float32]) -> None:
        """Wait for the features and add them to their rows."""
        if self._there is not None:
            self._there.synchronize()
        for row, features_K in zip(self._row_B, self._features_BK.numpy(), strict=True):
            features_NK[row] += features_K


class GradientEncoder:
    """A base model with its adapter, which moves from checkpoint to checkpoint.

    Args:
        settings: the model, the projection, and how batches are made.
        checkpoints: adapter folders, all of one shape.
        tokenizer: the model's.
        optimizer: what the pool's rows go through; where it is Adam, its moments are looked for at every checkpoint
            before any row is made.
        shard_model: whether this process holds a piece of the model alone, and all ranks make their rows together.

    Raises:
        ModelError: the model or a checkpoint cannot be used, or has a layer whose gradient would not be exact.
    """

    def __init__(
        self,
        settings: GradientSettings,
        checkpoints: Sequence[Path],
        tokenizer: Any,
        optimizer: Optimizer = "sgd",
        *,
        shard_model: bool = False,
    ) -> None:
        self.settings = settings
        self.checkpoints = list(checkpoints)
        self._tokenizer = tokenizer
        self._pad_id = padding_id(tokenizer)
        dtype = compute_dtype(settings.dtype)
        self._passes: PassesInStep | None = None
        if shard_model:
            for path in self.checkpoints:
                check_matrices_alone(path)
            base, self._passes = load_sharded(model_name(settings), dtype)
        else:
            base = load_base(model_name(settings), dtype, settings.quantization)
        self._model = load_trainable(base, self.checkpoints, settings.layers)
        if optimizer == "adam":
            for path in self.checkpoints:
                check_moments(path, self._model)
        self._engine = GradientEngine(self._model, recompute=settings.gradient_checkpointing)
        if self._engine.alone:
            log_once(f"rows are computed {self._engine.alone}")
        check_rows(self._engine)
        self._projection: Projection = projection(
            settings.projection,
            self._engine.n_coordinates,
            settings.projection_dim,
            settings.seed,
            settings.projection_nonzeros,
        )
        self._at: tuple[int, Optimizer] | None = None
        self._precondition: AdamPreconditioner | None = None

    def keep_company(self) -> None:
        """Make passes with the other ranks that hold the model, as ``PassesInStep.keep_company``."""
        ids = plain_tokens(causal_of(self._model), 2).tolist()
        batch = collate([Rendered(ids, ids, len(ids))], self._pad_id)
        if self._passes is not None:
            self._passes.keep_company(lambda: self._engine.features(batch, torch.ones(1), Discarding()))

    @property
    def n_coordinates(self) -> int:
        """Coordinates of a gradient, before any projection."""
        return self._engine.n_coordinates

    @property
    def dim(self) -> int:
        """K, the features of an example."""
        return self._projection.dim

    def _move_to(self, checkpoint: int, optimizer: Optimizer) -> None:
        place = (checkpoint, optimizer)
        if place == self._at:
            return
        path = self.checkpoints[checkpoint]
        load_adapter(self._model, path)
        self._precondition = None
        if optimizer == "adam":
            self._precondition = AdamPreconditioner(load_moments(path, self._model), self.settings.eps_mode)
        self._policy = Policy(
            self._engine,
            self._tokenizer,
            self._pad_id,
            tokens_per_batch(self.settings),
            checkpoint=str(adapter_fingerprint([path])[0]),
            load=partial(load_adapter, self._model),
            here=path,
        )
        self._at = place

    def encode(
        self,
        checkpoint: int,
        optimizer: Optimizer,
        objective: Objective,
        items: Sequence[Any],
        advance: Callable[[float], None] = lambda n: None,
        project: Projection | None = None,
    ) -> NDArray[np.float32]:
        """Compute features (N, K), float32, of what ``objective`` prepared, in its order.

        ``advance`` is told how many more items are done; of an item of several sequences, a part at a time.
        ``project`` stands in for the settings' projection.
        """
        self._move_to(checkpoint, optimizer)
        rows = objective.rows(items, self._policy)
        n_sequences = sum(map(len, rows))

        def sequences_done(n: int) -> None:
            advance(n * len(rows) / n_sequences)

        return encode_rows(
            self._engine,
            rows,
            self._pad_id,
            project or self._projection,
            tokens_per_batch(self.settings),
            self._precondition,
            sequences_done,
        )
