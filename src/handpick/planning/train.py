"""``plan_train``: what fine-tuning on a selection will take."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from handpick.costs import probe
from handpick.costs.cost import Amount, Plan, StageCost
from handpick.costs.disk import adapter_bytes
from handpick.costs.machine import machine_notes, resident_bytes
from handpick.costs.training import check_plannable, micro_batches, probe_training, training_stage, weight_bytes
from handpick.finetuning.train import (
    Recipe,
    model_of,
    open_records,
    reading_for,
    recipe_for,
    template_args_of,
)
from handpick.model import compute_dtype, free_memory, load_base, padding_id
from handpick.training.warmup import new_adapter


def plan_train(
    selection: str | Path,
    model: str | None = None,
    *,
    recipe: Recipe = "auto",
    seconds: float = 10.0,
    template_args: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Plan:
    """Plan what ``handpick train`` will take: some of its micro-batches and an optimizer step are computed.

    Args:
        selection, model, recipe, template_args, settings: as ``handpick.finetuning.train.run_train``.
        seconds: to compute for, about.

    Raises:
        SettingsError: it is to pack, or to train all weights, which is not planned.
        HandpickError: what ``handpick train`` itself would raise before it starts.
    """
    chosen = Path(selection)
    model = model_of(chosen, model)
    reading, own = reading_for(chosen, settings)
    used = recipe_for(model, recipe, own)
    check_plannable(used)
    began, told = probe.clock(), template_args_of(chosen, template_args)
    with (
        tempfile.TemporaryDirectory() as scratch,
        open_records(chosen, model, used.max_length, Path(scratch), reading, told) as data,
    ):
        sequences, pad_id = data.sequences, padding_id(data.renderer.tokenizer)
    read = StageCost(
        "read and parse", len(sequences), memory=resident_bytes(), seconds=Amount.exactly(probe.clock() - began)
    )
    batches = micro_batches(sequences, used.batch, used.micro_batch, used.seed)
    before, began, dtype = resident_bytes(), probe.clock(), compute_dtype(used.dtype)
    trained = new_adapter(
        load_base(model, dtype, used.quantization), used.lora, used.seed, in_float32=True, per_example=False
    )
    load_seconds, weights = probe.clock() - began, weight_bytes(trained)
    found = probe_training(
        trained, batches, pad_id=pad_id, dtype=dtype, recompute=used.gradient_checkpointing, seconds=seconds
    )
    del trained
    free_memory()
    steps = -(-len(sequences) // used.batch) * used.epochs
    stage = training_stage(
        "fine-tuning",
        found,
        sequences,
        batches,
        scale=1,
        examples=len(sequences),
        epochs=used.epochs,
        steps=steps,
        load_seconds=load_seconds,
        memory=before + weights + found.held,
        disk=adapter_bytes(found.n_trained, adam=False),
        note=f"{len(sequences):,} examples × {used.epochs}, {steps:,} steps, LoRA of rank {used.lora.rank}",
    )
    return Plan("train", [read, stage], [f"all {len(sequences):,} records were tokenised", *machine_notes(dtype)], [])
