"""Warmup: a LoRA adapter trained a little on a random part of the pool (Xia et al. ICML 2024, section 3.1).

Its checkpoints, one an epoch with Adam's state, are where gradients are taken. Training is transformers' Trainer;
ours are the choice of examples, the state by parameter name, and the order inside a batch.
"""

import json
import shutil
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from handpick.choices import Dtype, Quantization
from handpick.data.batching import collate
from handpick.data.render import Rendered
from handpick.errors import ModelError, first_line
from handpick.layout import CheckpointLayout, CheckpointsLayout, step_of
from handpick.model import compute_dtype, load_base
from handpick.progress import log, progress
from handpick.training.checkpoint import check_adapter, check_checkpoint, load_adapter, save_moments, was_trained
from handpick.training.settings import LoraSettings, WarmupSettings, micro_batch_of
from handpick.training.trainer_arguments import trainer_arguments

if TYPE_CHECKING:
    from transformers import TrainingArguments


def new_adapter(base: nn.Module, lora: LoraSettings, seed: int, *, in_float32: bool) -> nn.Module:
    """Make a model with a fresh LoRA adapter, the same for the same seed.

    Raises:
        ModelError: the model has none of the layers that the adapter names.
    """
    from peft import LoraConfig, get_peft_model

    targets: Any = lora.targets
    if targets == "auto":
        is_llama = base.config.model_type == "llama"  # type: ignore[union-attr]
        targets = ["q_proj", "k_proj", "v_proj", "o_proj"] if is_llama else "all-linear"
    if not isinstance(targets, str):
        layers = [f".{name}" for name, _ in base.named_modules()]
        if unknown := [name for name in targets if not any(layer.endswith(f".{name}") for layer in layers)]:
            raise ModelError(f"the adapter does not fit this model: it has no layer {', '.join(unknown)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            return get_peft_model(
                base,
                LoraConfig(
                    task_type="CAUSAL_LM",
                    r=lora.rank,
                    lora_alpha=lora.alpha,  # type: ignore[arg-type]
                    lora_dropout=lora.dropout,
                    target_modules=targets,
                ),
                autocast_adapter_dtype=in_float32,
            )
        except ValueError as error:
            raise ModelError(f"the adapter does not fit this model: {error}") from error


def load_trainable(base: nn.Module, checkpoints: Sequence[Path]) -> nn.Module:
    """Load a base model with the adapter of the first checkpoint, ready for gradients, in the base's own precision.

    A and B alone are trainable. What else a checkpoint trained (whole layers, rows of tokens, biases) has its trained
    weights and takes part in the forward pass, and no gradient is taken at it; that is said. Where every B of all
    checkpoints is zero, as in an adapter that was never trained, A has no gradient and is left out.

    Raises:
        ModelError: an adapter does not fit the model or the first one, or a file is missing or damaged.
    """
    from peft import PeftModel

    for path in checkpoints:
        check_checkpoint(path)
    trained = any(was_trained(path) for path in checkpoints)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Found missing adapter keys")  # which are loaded below
            model: nn.Module = PeftModel.from_pretrained(
                base, str(checkpoints[0]), is_trainable=True, autocast_adapter_dtype=False
            )
    except (ValueError, RuntimeError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"the adapter {checkpoints[0]} does not fit this model: {first_line(error)}") from error
    load_adapter(model, checkpoints[0])
    for path in checkpoints[1:]:
        check_adapter(model, path)
    others = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and ".lora_" not in name:
            parameter.requires_grad = False
            others.append(name)
        elif not trained and ".lora_A." in name:
            parameter.requires_grad = False
    if others:
        log(
            f"{checkpoints[0]} trained more than its LoRA matrices, such as {others[0]} ({len(others)} in all): it is "
            "used as it was trained, and rows are gradients of the LoRA matrices alone"
        )
    return model


def warmup_rows(n_pool: int, settings: WarmupSettings, seed: int) -> list[int]:
    """Return which rows of the pool the warmup draws, in the order drawn."""
    n = min(n_pool, max(settings.at_least, round(settings.share * n_pool)))
    return [int(row) for row in np.random.default_rng(seed).permutation(n_pool)[:n]]


class SortedInBatch(torch.utils.data.Sampler[int]):
    """A random order per epoch, sorted by length inside each batch.

    A step still sees a random batch, and its gradient is the same; but the forward passes that make it up pad little.
    """

    def __init__(self, lengths: Sequence[int], batch: int, seed: int) -> None:
        self.lengths = np.asarray(lengths)
        self.batch = batch
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(len(self.lengths))
        for start in range(0, len(order), self.batch):
            batch = order[start : start + self.batch]
            yield from batch[np.argsort(self.lengths[batch], kind="stable")].tolist()


def train(
    base: str,
    sequences: Sequence[Rendered],
    settings: WarmupSettings,
    *,
    out: Path,
    seed: int,
    pad_id: int,
    dtype: Dtype = "auto",
    quantization: Quantization = "none",
    gradient_checkpointing: bool = False,
    what: str = "warmup",
) -> list[Path]:
    """Train an adapter and return its checkpoint folders, one an epoch.

    A killed run goes on from its last finished epoch and ends with the same weights as an unbroken one.

    Args:
        base: the base model's folder or Hub name.
        sequences: what to train on.
        settings: see ``WarmupSettings``.
        out: a folder for the checkpoints.
        seed: draws the adapter, the order and the dropout.
        pad_id: fills batches up.
        dtype: of the frozen base; the adapter is trained in float32.
        quantization: of the frozen base.
        gradient_checkpointing: make activations again in the backward pass; the same weights, slower, in less memory.
        what: the word beside the progress bar.
    """
    from transformers import PrinterCallback, Trainer
    from transformers.trainer_utils import get_last_checkpoint

    class SortedTrainer(Trainer):
        def _get_train_sampler(self, train_dataset: Any = None) -> torch.utils.data.Sampler[int]:
            return SortedInBatch([len(s.input_ids) for s in sequences], settings.batch, seed)

    out.mkdir(parents=True, exist_ok=True)
    _remove_half_written(out)
    precision = compute_dtype(dtype)
    model = new_adapter(load_base(base, precision, quantization), settings.lora, seed, in_float32=True)
    steps = -(-len(sequences) // settings.batch) * settings.epochs
    arguments = _arguments(out, settings, steps, seed, precision, gradient_checkpointing=gradient_checkpointing)
    last = get_last_checkpoint(str(out))
    with progress(what, total=steps, done=step_of(Path(last)) if last else 0) as advance:
        trainer = SortedTrainer(
            model=model,
            args=arguments,
            train_dataset=list(sequences),
            data_collator=lambda rows: _inputs(rows, pad_id),
            callbacks=[_recorder(out, advance)],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train(resume_from_checkpoint=last)
    checkpoints = sorted(CheckpointsLayout(out).checkpoints(), key=step_of)
    _remove_pickles(checkpoints)
    return checkpoints


def _remove_half_written(out: Path) -> None:
    """Remove checkpoints without our record, which is written last."""
    for folder in CheckpointsLayout(out).checkpoints():
        if not CheckpointLayout(folder).record.exists():
            shutil.rmtree(folder)


def _remove_pickles(checkpoints: Sequence[Path]) -> None:
    """Remove optimizer, schedule and random state, which only the Trainer's own resuming needs."""
    for path in checkpoints:
        for file in [*path.glob("*.pt"), *path.glob("*.pth"), *path.glob("*.bin")]:
            file.unlink()


def _arguments(
    out: Path,
    settings: WarmupSettings,
    steps: int,
    seed: int,
    precision: torch.dtype,
    *,
    gradient_checkpointing: bool,
) -> "TrainingArguments":
    from transformers import TrainingArguments

    micro = micro_batch_of(settings.batch, settings.micro_batch)
    sparing: dict[str, Any] = {}  # named only where it is wanted: transformers renames it in its next version
    if gradient_checkpointing:
        sparing = {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": False}}
    return trainer_arguments(
        TrainingArguments,
        out,
        precision,
        seed,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=settings.batch // micro,
        num_train_epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=settings.warmup_ratio if steps > 1 else 0,  # an only step would have a learning rate of zero
        weight_decay=0.0,
        save_strategy="epoch",
        **sparing,
    )


def _inputs(rows: Sequence[Rendered], pad_id: int) -> dict[str, torch.Tensor]:
    batch = collate(rows, pad_id)
    return {"input_ids": batch.input_ids_BT, "labels": batch.labels_BT, "attention_mask": batch.attention_mask_BT}


def _recorder(out: Path, advance: Any) -> Any:
    """Make a Trainer callback that writes Adam's state and the epoch's mean learning rate beside each checkpoint."""
    from transformers import TrainerCallback

    class Recorder(TrainerCallback):
        rates: list[float]

        def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.rates = []

        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.rates.append(float(kwargs["optimizer"].param_groups[0]["lr"]))

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            advance(1)

        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            folder = CheckpointsLayout(out).checkpoint(state.global_step)
            save_moments(folder, kwargs["model"], kwargs["optimizer"])
            record = {"step": state.global_step, "mean_learning_rate": sum(self.rates) / len(self.rates)}
            path = CheckpointLayout(folder).record
            part = path.with_name(f"{path.name}.part")
            part.write_text(json.dumps(record))
            part.rename(path)

    return Recorder()
