"""What the warmup will take, and the checkpoints that the engine is probed at.

Some micro-batches of the warmup's own examples are trained on, and the adapter is written as a checkpoint. Where
checkpoints are there already, nothing is trained.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path

from handpick.costs import probe as clocks
from handpick.costs.cost import StageCost, StageKind
from handpick.costs.disk import adapter_bytes
from handpick.costs.machine import resident_bytes
from handpick.costs.probe import Probing
from handpick.costs.training import micro_batches, probe_training, training_stage, weight_bytes
from handpick.documents import reading
from handpick.errors import DataError, StoreError
from handpick.layout import CheckpointLayout, RunLayout, WarmupLayout
from handpick.model import compute_dtype, free_memory, load_base, padding_id
from handpick.objectives.next_token import NextToken
from handpick.scorers.checkpoints import needs_training, new_lora, warmup_of
from handpick.scorers.inputs import Inputs
from handpick.training.settings import WarmupSettings
from handpick.training.warmup import new_adapter, warmup_rows

_OF_WARMUP = 2_000  # of its examples that are tokenised


@dataclass(frozen=True, slots=True)
class WarmupPlan:
    """The warmup's line, where one is needed; the checkpoints to probe at; how many a run will have."""

    line: StageCost | None
    checkpoints: list[Path]
    n_checkpoints: int


def plan_warmup(inputs: Inputs, probing: Probing) -> WarmupPlan:
    """Return what the warmup will take; some of it is trained on, and left as a checkpoint where there is none.

    Raises:
        DataError: none of the records drawn for it can be used.
    """
    settings, scratch = inputs.settings, probing.scratch
    warmup, name = warmup_of(settings) if not settings.checkpoints else (None, "")
    if settings.checkpoints:
        line = StageCost.left(StageKind.WARMUP, note="checkpoints are given")
        return WarmupPlan(line, [Path(path) for path in settings.checkpoints], len(settings.checkpoints))
    if warmup is None:
        base = load_base(str(settings.model), compute_dtype(settings.dtype), settings.quantization)
        new_adapter(base, new_lora(settings), settings.seed, in_float32=True).save_pretrained(  # type: ignore[operator]
            scratch
        )
        return WarmupPlan(None, [scratch], 1)
    layout = WarmupLayout(RunLayout(settings.folder).warmup)
    folder = layout.folder
    if not needs_training(settings):
        with reading(layout.record, StoreError, f"remove {folder}, and the warmup is trained anew"):
            names = [str(name) for name in json.loads(layout.record.read_bytes())["checkpoints"]]
        line = StageCost.left(StageKind.WARMUP, note=f"an earlier run left it in {folder}")
        return WarmupPlan(line, [folder / name for name in names], len(names))
    return WarmupPlan(_training_stage(inputs, warmup, name, layout, probing), [scratch], warmup.epochs)


def _training_stage(
    inputs: Inputs, warmup: WarmupSettings, name: str, layout: WarmupLayout, probing: Probing
) -> StageCost:
    settings, pool, renderer = inputs.settings, inputs.pool.pool, inputs.model_renderer
    rows = warmup_rows(len(pool), warmup, settings.seed)
    some = rows[:_OF_WARMUP]
    _, sequences, _ = NextToken(renderer, settings.max_length).prepare([pool[row] for row in some])
    if not sequences:
        raise DataError("none of the records drawn for the warmup leaves a response to learn from")
    scale = len(rows) / len(some)
    batches = micro_batches(sequences, warmup.batch, warmup.micro_batch, settings.seed)
    before, began = resident_bytes(), clocks.clock()
    dtype = compute_dtype(settings.dtype)
    base = load_base(str(settings.model), dtype, settings.quantization)
    model = new_adapter(base, warmup.lora, settings.seed, in_float32=True)
    load_seconds = clocks.clock() - began
    weights = weight_bytes(model)
    probe = probe_training(
        model,
        batches,
        pad_id=padding_id(renderer.tokenizer),
        dtype=dtype,
        recompute=settings.gradient_checkpointing,
        seconds=probing.seconds * 0.35,
        keep=probing.scratch,
    )
    del model, base
    free_memory()
    done = sum(CheckpointLayout(path).record.exists() for path in layout.checkpoints())
    epochs = max(0, warmup.epochs - done)
    n = round(len(sequences) * scale)
    steps = -(-n // warmup.batch) * epochs
    left = f"; {done} of {warmup.epochs} epochs are done already" if done else ""
    line = training_stage(
        StageKind.WARMUP.value,
        probe,
        sequences,
        batches,
        scale=scale,
        examples=n,
        epochs=epochs,
        steps=steps,
        load_seconds=load_seconds,
        memory=before + weights + probe.held,
        disk=epochs * adapter_bytes(probe.n_trained, adam=True),
        note=f"{name} settings: {n:,} examples × {epochs}, {steps:,} steps{left}",
    )
    return replace(line, kind=StageKind.WARMUP)
