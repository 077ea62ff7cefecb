"""What the fine-tunings of a study take on one model: micro-batches are timed, and one fine-tuning is done in small."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from handpick.costs import probe
from handpick.costs.cost import Amount, StageCost
from handpick.costs.machine import resident_bytes
from handpick.costs.training import (
    TrainingProbe,
    check_plannable,
    micro_batches,
    probe_training,
    size_of,
    weight_bytes,
)
from handpick.data.render import Rendered
from handpick.finetuning.finetune import finetune, load_finetuned
from handpick.listing import files_below
from handpick.model import compute_dtype, load_base, padding_id
from handpick.studies.opened import Model
from handpick.training.settings import FinetuneSettings
from handpick.training.warmup import new_adapter


@dataclass(frozen=True, slots=True)
class SampledFinetunings:
    """The fine-tunings on ``n`` examples that are to be done, ``count`` of them.

    ``examples`` are those of some of them, a list each; ``share`` is what part of each was looked at.
    """

    n: int
    count: int
    examples: Sequence[Sequence[Rendered]]
    share: float

    @property
    def scale(self) -> float:
        """What stands for all is so many times what was looked at."""
        return self.count / (len(self.examples) * self.share)


@dataclass(frozen=True, slots=True)
class FinetuningProbe:
    """What was found. ``fixed`` are seconds of each fine-tuning besides its batches and steps: the model loaded, before
    and after, and written; ``disk`` the bytes that it leaves."""

    model: nn.Module
    training: TrainingProbe
    recipe: FinetuneSettings
    fixed: float
    disk: int
    memory: int

    def stage(self, name: str, sampled: SampledFinetunings, workers: int, *, kept: bool, note: str) -> StageCost:
        """Plan all fine-tunings on as many examples, ``workers`` at a time."""
        recipe, at_once = self.recipe, min(workers, sampled.count)
        batches = [
            batch
            for own in sampled.examples
            for batch in micro_batches(own, recipe.batch, recipe.micro_batch, recipe.seed)
        ]
        lengths = [len(s.input_ids) for own in sampled.examples for s in own]
        steps = -(-sampled.n // recipe.batch) * recipe.epochs
        scale = sampled.scale * recipe.epochs
        seconds = self.training.seconds([size_of(batch) for batch in batches], sampled.count * steps, scale)
        seconds = seconds.plus(sampled.count * self.fixed)
        each = f"{sampled.count:,} × {seconds.value / sampled.count:,.1f} s, {steps:,} steps each"
        tokens = Amount.exactly(sum(lengths) * scale)
        return StageCost(
            name,
            sampled.n * sampled.count,
            tokens,
            self.training.shape.gradient(lengths, sum(lengths)) * scale,
            self.disk * sampled.count if kept else 0,
            self.memory * at_once,
            seconds.times(1 / at_once),
            "; ".join((each, *([f"{at_once} at a time"] if at_once > 1 else []), *([note] if note else []))),
        )


def probe_finetuning(model: Model, some: Sequence[Rendered], seconds: float) -> FinetuningProbe:
    """Time micro-batches, and one fine-tuning on a single example.

    Args:
        model: of the study.
        some: sequences like those that will be trained on.
        seconds: to compute for, about; loading the model comes on top.

    Raises:
        SettingsError: it is to pack, or to train all weights, which is not planned.
        HandpickError: as ``finetune``.
    """
    recipe = model.recipe
    check_plannable(recipe)
    pad_id, dtype = padding_id(model.renderer.tokenizer), compute_dtype(recipe.dtype)
    before = resident_bytes()
    trained = new_adapter(
        load_base(model.path, dtype, recipe.quantization), recipe.lora, 0, in_float32=True, per_example=False
    )
    batches = micro_batches(some, recipe.batch, recipe.micro_batch, recipe.seed)
    found = probe_training(
        trained, batches, pad_id=pad_id, dtype=dtype, recompute=recipe.gradient_checkpointing, seconds=seconds
    )
    memory = before + weight_bytes(trained) + found.held
    shortest = min(some, key=lambda sequence: len(sequence.input_ids))
    small = recipe.model_copy(update={"epochs": 1})
    with tempfile.TemporaryDirectory() as scratch:

        def whole(name: str) -> float:
            began = probe.clock()
            finetune(model.path, [shortest], small, Path(scratch, name), pad_id=pad_id, quiet=True)
            load_finetuned(Path(scratch, name), base=model.path, dtype=recipe.dtype)
            return probe.clock() - began

        took = whole("first")  # in which libraries are loaded as well
        took = min(took, whole("second")) if took < 2 * max(seconds, 10.0) else took
        disk = sum(path.stat().st_size for path in files_below(Path(scratch, "first")))
    fixed = max(0.0, took - found.seconds([size_of([shortest])], 1).value)
    return FinetuningProbe(trained.eval(), found, recipe, fixed, disk, memory)
