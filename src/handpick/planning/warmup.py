"""The warmup's stage, and the checkpoints that the engine is probed at.

Some micro-batches of the warmup's own examples are trained on, and the adapter is written as a checkpoint. Where
checkpoints are there already, nothing is trained.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from handpick.errors import DataError
from handpick.model import compute_dtype, free_memory, load_base, padding_id
from handpick.objectives.next_token import NextToken
from handpick.pipeline.checkpoints import new_lora, to_be_trained, warmup_of
from handpick.planning import probe as probing
from handpick.planning.cost import Stage
from handpick.planning.disk import adapter_bytes
from handpick.planning.opened import Opened, resident_bytes
from handpick.planning.training import micro_batches, probe_training, training_stage, weight_bytes
from handpick.training.checkpoint import RECORD_FILE
from handpick.training.settings import WarmupSettings
from handpick.training.warmup import new_adapter, warmup_rows

_OF_WARMUP = 2_000  # of its examples that are tokenised


@dataclass(frozen=True, slots=True)
class Warmed:
    """The warmup's stage, where one is needed; the checkpoints to probe at; how many a run will have."""

    stage: Stage | None
    checkpoints: list[Path]
    n_checkpoints: int


def warmup_stage(opened: Opened, scratch: Path) -> Warmed:
    """Plan the warmup; some of it is trained on, and left in ``scratch`` where no checkpoint is there.

    Raises:
        DataError: none of the records drawn for it can be used.
    """
    settings = opened.settings
    warmup, name = warmup_of(settings) if not settings.checkpoints else (None, "")
    if settings.checkpoints:
        stage = Stage.left("warmup", "checkpoints are given")
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
        stage = Stage.left("warmup", f"an earlier run left it in {folder}")
        return Warmed(stage, [folder / name for name in names], len(names))
    return Warmed(_trained(opened, warmup, name, folder, scratch), [scratch], warmup.epochs)


def _trained(opened: Opened, warmup: WarmupSettings, name: str, folder: Path, scratch: Path) -> Stage:
    assert opened.renderer is not None  # a warmup is of a model
    settings, pool = opened.settings, opened.pool
    rows = warmup_rows(len(pool), warmup, settings.seed)
    some = rows[:_OF_WARMUP]
    _, sequences, _ = NextToken(opened.renderer, settings.max_length).prepare([pool[row] for row in some])
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
        model,
        batches,
        pad_id=padding_id(opened.renderer.tokenizer),
        dtype=dtype,
        recompute=settings.gradient_checkpointing,
        seconds=opened.seconds * 0.35,
        keep=scratch,
    )
    del model, base
    free_memory()
    done = len(list(folder.glob(f"checkpoint-*/{RECORD_FILE}")))
    epochs = max(0, warmup.epochs - done)
    n = round(len(sequences) * scale)
    steps = -(-n // warmup.batch) * epochs
    left = f"; {done} of {warmup.epochs} epochs are done already" if done else ""
    return training_stage(
        "warmup",
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
