"""The gradient representation: an example is the gradient of its loss, at every checkpoint of the warmup.

The pool's side goes through Adam where the method says so, the query's does not (methods.md, section 2).

Legend: B examples, K features.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from handpick.choices import Optimizer
from handpick.data.batching import collate, token_batches
from handpick.data.examples import Example
from handpick.data.render import Rendered, Renderer
from handpick.errors import DataError
from handpick.fingerprint import JSON, Fingerprint, file_digest
from handpick.gradients.adam import AdamPreconditioner
from handpick.gradients.engine import GradientEngine
from handpick.gradients.projection import Projection, projection
from handpick.model import compute_dtype, device, load_base
from handpick.objectives import next_token
from handpick.represent.settings import GradientSettings
from handpick.training.checkpoint import ADAPTER_FILE, load_adapter, load_moments, moments_file
from handpick.training.warmup import load_trainable


def space_fingerprint(settings: GradientSettings, model: Fingerprint, tokenizer: Fingerprint) -> Fingerprint:
    """What two sets of gradient features must share to be compared, but for the checkpoints."""
    projected: Fingerprint = {"kind": settings.projection}
    if settings.projection != "none":
        projected |= {"dim": settings.projection_dim, "seed": settings.seed}
    if settings.projection == "sparse":
        projected |= {"nonzeros": settings.projection_nonzeros, "runs": "rotated"}
    quantized: Fingerprint = {} if settings.quantization == "none" else {"quantization": settings.quantization}
    return {"representation": "gradient", "model": model, **quantized, **tokenizer, "projection": projected}


def build_fingerprint(settings: GradientSettings, optimizer: Optimizer) -> Fingerprint:
    """What else decides the rows of one side."""
    build: Fingerprint = {
        "objective": next_token.NAME,
        "optimizer": optimizer,
        "max_length": settings.max_length,
        "dtype": str(compute_dtype(settings.dtype)).removeprefix("torch."),
        "batch_tokens": tokens_a_batch(settings),
    }
    return build | ({"eps_mode": settings.eps_mode} if optimizer == "adam" else {})


def tokens_a_batch(settings: GradientSettings) -> int:
    """Padded tokens a forward pass, as set; else few on a CPU, whose cache should hold what a layer works on.

    Dense signs cost the same for a batch of any size, so with them it is never small.
    """
    if settings.batch_tokens is not None:
        return settings.batch_tokens
    return 1024 if device().type == "cpu" and settings.projection != "rademacher" else 4096


def adapter_fingerprint(checkpoints: Sequence[Path]) -> list[JSON]:
    """The bytes of each checkpoint's adapter."""
    return [file_digest(path / ADAPTER_FILE)[:16] for path in checkpoints]


def moments_fingerprint(checkpoints: Sequence[Path]) -> list[JSON]:
    """The bytes of each checkpoint's optimizer state."""
    return [file_digest(moments_file(path))[:16] for path in checkpoints]


def render_usable(
    examples: Sequence[Example], renderer: Renderer, max_length: int
) -> tuple[list[str], list[Rendered], list[tuple[Example, str]]]:
    """(ids, sequences) of the examples that leave a response to learn from, and the others with the reason."""
    ids, sequences, refused = [], [], []
    for example in examples:
        try:
            sequences.append(renderer(example.messages, max_length))
        except DataError as error:
            refused.append((example, str(error)))
        else:
            ids.append(example.id)
    return ids, sequences, refused


def encode_sequences(
    engine: GradientEngine,
    sequences: Sequence[Rendered],
    pad_id: int,
    project: Projection,
    batch_tokens: int,
    precondition: AdamPreconditioner | None = None,
    advance: Callable[[int], None] = lambda n: None,
) -> NDArray[np.float32]:
    """Features of the next-token loss (N, K), float32, in the order of ``sequences``.

    What goes into a batch is a function of the sequences and ``batch_tokens`` alone. ``advance`` is told how many rows
    each gave.
    """
    features_NK = np.empty((len(sequences), project.dim), dtype=np.float32)
    coming: _Coming | None = None
    for members in token_batches([len(s.input_ids) for s in sequences], batch_tokens):
        batch = collate([sequences[i] for i in members], pad_id)
        last, coming = (
            coming,
            _Coming(members, engine.features(batch, next_token.token_weights(batch), project, precondition)),
        )
        if last is not None:
            last.into(features_NK)
        advance(len(members))
    if coming is not None:
        coming.into(features_NK)
    return features_NK


class _Coming:
    """Rows on their way from the device, which has the next batch to compute while they travel."""

    def __init__(self, members: list[int], rows_BK: Tensor) -> None:
        self.members = members
        self._rows_BK = rows_BK.to("cpu", torch.float32, non_blocking=True)  # into pinned memory, from a GPU
        self._there = torch.cuda.Event() if rows_BK.is_cuda else None
        if self._there is not None:
            self._there.record()

    def into(self, features_NK: NDArray[np.float32]) -> None:
        """Wait for the rows and put them where they belong."""
        if self._there is not None:
            self._there.synchronize()
        features_NK[self.members] = self._rows_BK.numpy()


class GradientEncoder:
    """A base model with its adapter, which moves from checkpoint to checkpoint.

    Args:
        settings: the model, the projection, and how batches are made.
        checkpoints: adapter folders, all of one shape.
        pad_id: a token to fill batches up with.

    Raises:
        ModelError: the model or a checkpoint cannot be used, or has a layer whose gradient would not be exact.
    """

    def __init__(self, settings: GradientSettings, checkpoints: Sequence[Path], pad_id: int) -> None:
        assert settings.model is not None  # the pipeline has checked
        self.settings = settings
        self.checkpoints = list(checkpoints)
        self._pad_id = pad_id
        dtype = compute_dtype(settings.dtype)
        self._model = load_trainable(load_base(settings.model, dtype, settings.quantization), self.checkpoints)
        self._engine = GradientEngine(self._model, recompute=settings.gradient_checkpointing)
        self._projection: Projection = projection(
            settings.projection,
            self._engine.n_coordinates,
            settings.projection_dim,
            settings.seed,
            settings.projection_nonzeros,
        )
        self._at: tuple[int, Optimizer] | None = None
        self._precondition: AdamPreconditioner | None = None

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
        self._at = place

    def encode(
        self,
        checkpoint: int,
        optimizer: Optimizer,
        sequences: Sequence[Rendered],
        advance: Callable[[int], None] = lambda n: None,
    ) -> NDArray[np.float32]:
        """Features (N, K), float32, of sequences that each leave a response to learn from, in their order.

        ``advance`` is told how many more are done, as each batch is.
        """
        self._move_to(checkpoint, optimizer)
        return encode_sequences(
            self._engine, sequences, self._pad_id, self._projection, tokens_a_batch(self.settings),
            self._precondition, advance,
        )  # fmt: skip
