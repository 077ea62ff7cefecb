"""Warmup: a LoRA adapter trained a little on a random part of the pool (Xia et al. ICML 2024, section 3.1).

Its checkpoints, one an epoch with Adam's state, are where gradients are taken. Training is transformers' Trainer;
ours are the choice of examples, the state by parameter name, and the order inside a batch.
"""

import math
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from handpick.choices import Dtype, Quantization
from handpick.data.batching import collate
from handpick.data.render import Rendered
from handpick.errors import ModelError
from handpick.gradients.carriers import carry_by
from handpick.gradients.engine import GradientEngine
from handpick.layer_numbers import ALL
from handpick.layout import CheckpointLayout, CheckpointsLayout, step_of
from handpick.listing import matching
from handpick.model import compute_dtype, load_base
from handpick.model.recompute import recompute_arguments
from handpick.progress import log, log_once, progress
from handpick.sealed import write_sealed
from handpick.training.checkpoint import attach_adapter, check_adapter, check_checkpoint, save_moments, was_trained
from handpick.training.sealed_checkpoint import find_damage, remove_files, seal_checkpoint
from handpick.training.settings import LoraSettings, WarmupSettings, micro_batch_of
from handpick.training.targets import choose_targets
from handpick.training.trainer_arguments import trainer_arguments

if TYPE_CHECKING:
    from transformers import TrainingArguments


def new_adapter(
    base: nn.Module, lora: LoraSettings, seed: int, *, in_float32: bool, per_example: bool = True
) -> nn.Module:
    """Make a model with a fresh LoRA adapter, the same for the same seed.

    Args:
        base: the frozen model.
        lora: the adapter's shape, and which layers it stands on.
        seed: draws it.
        in_float32: whether it is kept in float32, else in the model's own precision.
        per_example: whether gradients of single examples are to be taken: layers that have none are left out.

    Raises:
        ModelError: as ``choose_targets``.
    """
    from peft import LoraConfig, get_peft_model

    targets = choose_targets(base, lora.targets, per_example=per_example)
    if targets.said is not None:
        log_once(targets.said)
    dropout = lora.dropout
    if targets.parameters and dropout:
        log_once(f"the adapter has no dropout where {dropout} is set: peft has none for the weights of experts")
        dropout = 0.0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            return get_peft_model(
                base,
                LoraConfig(
                    task_type="CAUSAL_LM",
                    r=lora.rank,
                    lora_alpha=lora.alpha,  # type: ignore[arg-type]
                    lora_dropout=dropout,
                    target_modules=targets.modules,
                    target_parameters=targets.parameters or None,
                    exclude_modules=targets.excluded or None,
                ),
                autocast_adapter_dtype=in_float32,
            )
        except ValueError as error:
            raise ModelError(f"the adapter does not fit this model: {error}") from error


def load_trainable(base: nn.Module, checkpoints: Sequence[Path], layers: str = ALL) -> nn.Module:
    """Load a base model with the adapter of the first checkpoint, ready for gradients, in the base's own precision.

    A and B alone are trainable. What else a checkpoint trained (whole layers, rows of tokens, biases) has its trained
    weights and takes part in the forward pass, and no gradient is taken at it; that is said. Where every B of all
    checkpoints is zero, as in an adapter that was never trained, A has no gradient and is left out; and so
    is what stands on other layers than ``layers`` (``carry_by``).

    Raises:
        SettingsError: as ``carry_by``.
        ModelError: an adapter does not fit the model or the first one, or a file is missing or damaged.
    """
    for path in checkpoints:
        check_checkpoint(path)
    trained = any(was_trained(path) for path in checkpoints)
    model = attach_adapter(base, checkpoints[0], is_trainable=True, autocast_adapter_dtype=False)
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
    carry_by(model, layers)
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

    Raises:
        ModelError: as ``new_adapter``, or gradients cannot be taken at the adapter.
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
    GradientEngine(model, recompute=gradient_checkpointing)  # what it refuses, it refuses before anything is trained
    steps = -(-len(sequences) // settings.batch) * settings.epochs
    arguments = _arguments(out, settings, steps, seed, precision, gradient_checkpointing=gradient_checkpointing)
    last = get_last_checkpoint(str(out))
    with progress(what, total=steps, done=step_of(Path(last)) if last else 0) as advance:
        trainer = SortedTrainer(
            model=model,
            args=arguments,
            train_dataset=list(sequences),
            data_collator=lambda rows: _inputs(rows, pad_id),
            callbacks=[recorder := _recorder(out, advance)],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train(resume_from_checkpoint=last)
    if recorder.left_out:
        log(f"{what}: {recorder.left_out} of {steps} steps had a gradient that is not finite, and were left out")
    checkpoints = sorted(CheckpointsLayout(out).checkpoints(), key=step_of)
    _remove_pickles(checkpoints)
    return checkpoints


def _remove_half_written(out: Path) -> None:
    """Remove checkpoints without our record, which is written last; and damaged ones, of which that is said."""
    for folder in CheckpointsLayout(out).checkpoints():
        if not CheckpointLayout(folder).record.exists():
            shutil.rmtree(folder)
        elif (damaged := find_damage(folder)) is not None:
            log(f"{damaged} is damaged: that checkpoint is trained anew")
            shutil.rmtree(folder)


def _remove_pickles(checkpoints: Sequence[Path]) -> None:
    """Remove optimizer, schedule and random state, which only the Trainer's own resuming needs."""
    for path in checkpoints:
        remove_files(path, [each for kind in ("*.pt", "*.pth", "*.bin") for each in matching(path, kind)])


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
        **recompute_arguments(TrainingArguments, gradient_checkpointing),
    )


def _inputs(rows: Sequence[Rendered], pad_id: int) -> dict[str, torch.Tensor]:
    batch = collate(rows, pad_id)
    return {"input_ids": batch.input_ids_BT, "labels": batch.labels_BT, "attention_mask": batch.attention_mask_BT}


def _recorder(out: Path, advance: Any) -> Any:
    """Make a Trainer callback that writes Adam's state and the epoch's mean learning rate beside each checkpoint.

    A step whose gradient is not finite, as one example of its batch can make it, is left out: no weight would be finite
    behind it.
    """
    from transformers import TrainerCallback

    class Recorder(TrainerCallback):
        rates: list[float]
        left_out = 0

        def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.rates = []

        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.rates.append(float(kwargs["optimizer"].param_groups[0]["lr"]))

        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if args.fp16:  # whose scaler leaves such steps out itself
                return
            parameters = [parameter for parameter in kwargs["model"].parameters() if parameter.grad is not None]
            norms = [torch.linalg.vector_norm(parameter.grad) for parameter in parameters]
            if norms and not bool(torch.stack(norms).isfinite().all()):
                self.left_out += 1
                for parameter in parameters:
                    parameter.grad = None  # which the optimizer passes over, with its state

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            advance(1)

        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if not any("exp_avg" in each for each in kwargs["optimizer"].state.values()):
                raise ModelError(
                    f"none of the first {state.global_step} steps of training had a finite gradient: give --dtype "
                    "float32, in another --out folder; if that does not help, a weight of the model is broken"
                )
            folder = CheckpointsLayout(out).checkpoint(state.global_step)
            save_moments(folder, kwargs["model"], kwargs["optimizer"])
            seal_checkpoint(folder)
            record = {"step": state.global_step, "mean_learning_rate": math.fsum(self.rates) / len(self.rates)}
            write_sealed(CheckpointLayout(folder).record, record, indent=None)

    return Recorder()
