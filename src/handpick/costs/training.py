"""What training takes: micro-batches of a model with an adapter, forward and backward, and the optimizer's steps.

The same model, batches and loss as the trainer's; the trainer itself is not started.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from handpick.costs.cost import Amount, StageCost
from handpick.costs.flops import Shape, shape_of
from handpick.costs.probe import Size, TimedBatches, time_batches, time_once
from handpick.costs.tokens import estimate_total
from handpick.data.batching import collate
from handpick.data.render import Rendered
from handpick.errors import SettingsError
from handpick.gradients.engine import GradientEngine
from handpick.gradients.memory import SavedBytes, footprint
from handpick.gradients.projection import NoProjection
from handpick.model import device
from handpick.model.recompute import recompute_activations
from handpick.training.checkpoint import save_moments
from handpick.training.settings import FinetuneSettings, micro_batch_of
from handpick.training.warmup import SortedInBatch


@dataclass(frozen=True, slots=True)
class TrainingProbe:
    """What was found. ``held`` are bytes beside the weights, with the largest batch that was planned."""

    micro: TimedBatches
    step_seconds: float
    shape: Shape
    n_trained: int
    held: int

    def seconds(self, sizes: Sequence[Size], steps: int, scale: float = 1.0) -> Amount:
        """Return the seconds of micro-batches of these sizes, ``scale`` times, and so many optimizer steps."""
        return self.micro.estimate(sizes, scale).plus(steps * self.step_seconds)


def check_plannable(recipe: FinetuneSettings) -> None:
    """Refuse what is not planned.

    Raises:
        SettingsError: it is to pack, or to train all weights.
    """
    if recipe.packing or recipe.adapter == "none":
        what = "packed rows" if recipe.packing else "training all weights"
        raise SettingsError(f"{what} cannot be planned, only an adapter trained on examples as they are: leave it out")


def micro_batches(sequences: Sequence[Rendered], batch: int, micro_batch: int, seed: int) -> list[list[Rendered]]:
    """Return one epoch's batches: a random order, sorted by length within each batch, then cut up, as trainers do.

    ``micro_batch`` is lowered to the largest that divides the batch.
    """
    micro = micro_batch_of(batch, micro_batch)
    order = [sequences[i] for i in SortedInBatch([len(s.input_ids) for s in sequences], batch, seed)]
    return [order[at : at + micro] for at in range(0, len(order), micro)]  # a short batch can be the last alone


def size_of(batch: Sequence[Rendered]) -> Size:
    return Size(len(batch), max(len(sequence.input_ids) for sequence in batch))


def probe_training(
    model: nn.Module,
    batches: Sequence[list[Rendered]],
    *,
    pad_id: int,
    dtype: torch.dtype,
    recompute: bool,
    seconds: float,
    keep: Path | None = None,
) -> TrainingProbe:
    """Time some micro-batches and an optimizer step.

    Args:
        model: with what is trained trainable, and an adapter; its weights are changed.
        batches: an epoch's micro-batches.
        pad_id: fills them up.
        dtype: what it computes in.
        recompute: gradient checkpointing.
        seconds: to take, about.
        keep: where to leave the adapter and Adam's state as a checkpoint.
    """
    model.train()
    if recompute:
        recompute_activations(model)
        model.enable_input_require_grads()  # type: ignore[operator]
    place = device()
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5)

    def compute(batch: Sequence[Rendered]) -> None:
        tensors = collate(batch, pad_id)
        with torch.autocast(place.type, dtype, enabled=dtype != torch.float32):
            loss = model(
                input_ids=tensors.input_ids_BT.to(place),
                labels=tensors.labels_BT.to(place),
                attention_mask=tensors.attention_mask_BT.to(place),
                use_cache=False,
            ).loss
        loss.backward()
        loss.item()  # waits for the device

    def step() -> None:
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        if place.type == "cuda":
            torch.cuda.synchronize()

    micro = time_batches(compute, batches, size_of, seconds)
    took = time_once(step)
    if keep is not None:
        model.save_pretrained(keep)  # type: ignore[operator]
        save_moments(keep, model, optimizer)
    optimizer.zero_grad()
    return TrainingProbe(
        micro, took, shape_of(model), sum(weight.numel() for weight in trained), _held_bytes(model, batches, recompute)
    )


def _held_bytes(model: nn.Module, batches: Sequence[list[Rendered]], recompute: bool) -> int:
    engine = GradientEngine(model, recompute=recompute)
    saved = footprint(engine, NoProjection(0), adam=False).saved
    return training_bytes(engine, saved, {size_of(batch) for batch in batches})


def training_bytes(engine: GradientEngine, saved: SavedBytes, sizes: Iterable[Size]) -> int:
    """Return what training takes beside the weights, as a trainer does it, with the largest of these batches.

    That is gradients and Adam's moments; what the forward pass saves; logits, their softmax and its gradient in float32
    at every position.
    """
    vocab = int(engine.model.get_output_embeddings().weight.shape[0])  # type: ignore[operator]
    largest = max(n * (saved.at_length(longest) + 3 * 4 * vocab * longest) for n, longest in sizes)
    return round(3 * 4 * engine.n_coordinates + largest)


def training_stage(
    name: str,
    probe: TrainingProbe,
    sequences: Sequence[Rendered],
    batches: Sequence[list[Rendered]],
    *,
    scale: float,
    examples: int,
    epochs: int,
    steps: int,
    load_seconds: float,
    memory: int,
    disk: int,
    note: str,
) -> StageCost:
    """Make a stage that trains on some sequences, of which ``scale`` times as many there are."""
    lengths = [len(s.input_ids) for s in sequences]
    sizes = [size_of(batch) for batch in batches]
    flops = probe.shape.gradient(lengths, sum(lengths))  # the trainer's logits stand at every position
    tokens = estimate_total(lengths, len(lengths), round(len(lengths) * scale)).times(epochs)
    return StageCost(
        name,
        examples,
        tokens,
        flops * scale * epochs,
        disk,
        memory,
        probe.seconds(sizes, steps, scale * epochs).plus(load_seconds),
        note,
    )


def weight_bytes(model: nn.Module) -> int:
    """Return the bytes of a model's weights; none of them twice."""
    return sum(weight.numel() * weight.element_size() for weight in model.parameters())
