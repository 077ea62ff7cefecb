"""Fine-tuning on chosen examples, with TRL's SFT trainer and PEFT (the recipe: TIS's, docs/sources.md).

Ours are the tokens and the loss mask (``data/render.py``), the order inside a batch, the same batches on any number of
processes, the way back after a kill, and what stands beside the weights. TRL and transformers do the rest: the loss is
the mean over all labelled tokens of a step's examples, the gradient is clipped at norm 1, AdamW.
"""

import hashlib
import os
import shutil
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from handpick.allocator import KeptMemory
from handpick.choices import Dtype
from handpick.data.render import IGNORED, Rendered, Renderer
from handpick.errors import DataError, ModelError, SettingsError
from handpick.files import atomic_write, move_file
from handpick.finetuning.record import check_weights, is_finished, read_record, write_record
from handpick.finetuning.rows import Order, lengths_of, rows_of
from handpick.fingerprint import Fingerprint, require_same
from handpick.gradients.forward import eval_mode
from handpick.layout import CheckpointLayout, CheckpointsLayout, FinetuneLayout, step_of
from handpick.model import compute_dtype, load_base, load_tokenizer, model_fingerprint
from handpick.model.recompute import recompute_arguments
from handpick.progress import log, progress
from handpick.store.memory import available_bytes
from handpick.training.checkpoint import attach_adapter, check_checkpoint
from handpick.training.disk import translate_disk_errors
from handpick.training.sealed_checkpoint import ADAPTER_CONFIG, find_damage, order_adapter_config, seal_checkpoint
from handpick.training.settings import FinetuneSettings, micro_batch_of
from handpick.training.trainer_arguments import trainer_arguments
from handpick.training.warmup import new_adapter

if TYPE_CHECKING:
    from datasets import Dataset
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

CHECKPOINT_SECONDS = 600.0  # a killed run loses this much at most, and one that is quicker writes no checkpoint
_MODEL_CARD = "README.md"  # as peft writes it
# they change how the work is cut up, and the result by rounding alone: a run that ran out of memory goes on with others
_OF_MEMORY = {"micro_batch", "gradient_checkpointing"}


def finetune(
    model: str,
    sequences: Sequence[Rendered],
    settings: FinetuneSettings,
    out: Path,
    *,
    pad_id: int,
    quiet: bool = False,
    about: Mapping[str, Any] | None = None,
) -> Path:
    """Train an adapter, or all weights, and write them with the tokenizer and ``train.yaml``.

    A killed run goes on from its last checkpoint and ends with the same weights as an unbroken one. A folder that is
    finished is left as it is. Under ``accelerate launch`` or ``torchrun`` all processes call this alike; a step has the
    same examples as on one, and only the main process writes and speaks.

    Args:
        model: the base model's folder or Hub name.
        sequences: what to train on, cut to ``settings.max_length``.
        settings: the recipe.
        out: the folder of the new model.
        pad_id: fills batches up.
        quiet: no progress bar.
        about: what else ``train.yaml`` should say, such as where the examples come from.

    Returns:
        ``out``.

    Raises:
        DataError: there is no sequence.
        SettingsError: a sequence is longer than ``max_length``, or the batch does not divide among the processes.
        FingerprintMismatch: the folder holds, or was begun with, another model, other data or another recipe.
        ModelError: TRL is missing; the model cannot be loaded, has no such layers or cannot pack; training diverged.
        StoreError: the folder cannot be written.
    """
    _check(sequences, settings)
    model = str(Path(model).resolve()) if Path(model).exists() else model
    made_from = _inputs_fingerprint(model, sequences, settings)
    unfinished = FinetuneLayout(out).unfinished
    if is_finished(out, made_from):
        if not quiet:
            log(f"{out} is already trained on these {len(sequences):,} examples with these settings")
        shutil.rmtree(unfinished, ignore_errors=True)  # where a run was killed after its last word
        return out
    with _translate_errors(out), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of what TRL calls in transformers
        unfinished.mkdir(parents=True, exist_ok=True)
        arguments = _arguments(settings, unfinished)
        is_main, wait = arguments.process_index == 0, _barrier(arguments)
        if is_main:
            write_record(out, made_from, about or {}, finished=False)  # a run that is killed from here on is resumed
        trainer = _trainer(model, sequences, settings, arguments, pad_id)
        _train(trainer, unfinished, settings, shown=is_main and not quiet)
        if is_main:
            _save(trainer, model, out)
            write_record(out, made_from, about or {}, finished=True)
            shutil.rmtree(unfinished)
        wait()
    return out


def load_finetuned(folder: Path, *, base: str | None = None, dtype: Dtype = "float32") -> nn.Module:
    """Load a fine-tuned model, frozen, in eval mode, on ``handpick.model.device()``.

    Args:
        folder: of an adapter (ours or another's), or of a whole model.
        base: the folder or Hub name of an adapter's base model; by default the one that its adapter_config.json names.
        dtype: what it computes in. A base that was trained on in few bits is loaded in ``dtype`` all the same.

    Raises:
        ModelError: there is no model, it does not fit its base, or a file is missing or damaged.
        FingerprintMismatch: the base is not the one that the adapter was trained on.
    """
    if (record := read_record(folder)) is not None:
        if not record.get("finished"):
            raise ModelError(
                f"the training of {folder} was not finished; run it again, and it goes on where it stopped"
            )
        check_weights(folder, record)
    if not (folder / ADAPTER_CONFIG).exists():
        return load_base(str(folder), compute_dtype(dtype)).eval()
    from peft import PeftConfig

    check_checkpoint(folder)
    base = base or PeftConfig.from_pretrained(str(folder)).base_model_name_or_path
    if not base:
        raise ModelError(f"the {ADAPTER_CONFIG} of {folder} names no base model; name it")
    if record is not None:
        _check_base(folder, record["made_from"]["model"], base)
    model = attach_adapter(load_base(base, compute_dtype(dtype)), folder, fits=base)
    model.requires_grad_(False)
    return model.eval()


def _check_base(folder: Path, there: Fingerprint, base: str) -> None:
    here = model_fingerprint(base)
    if there.keys() == here.keys():  # a model of the Hub may since have been copied into a folder: no way to tell
        require_same(there, here, what=f"the base model of {folder}")


def _check(sequences: Sequence[Rendered], settings: FinetuneSettings) -> None:
    if find_spec("trl") is None:
        raise ModelError("fine-tuning needs TRL: pip install 'handpick[train]'")
    if not sequences:
        raise DataError("there is no example to train on")
    longest = max(len(s.input_ids) for s in sequences)
    if longest > settings.max_length:
        raise SettingsError(f"a sequence has {longest} tokens and max_length is {settings.max_length}: cut it there")
    if settings.batch % count_processes():
        raise SettingsError(
            f"a batch of {settings.batch} does not divide among {count_processes()} processes; give another --batch"
        )


def count_processes() -> int:
    """Return how many processes train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))  # as torchrun and accelerate say it


def _inputs_fingerprint(model: str, sequences: Sequence[Rendered], settings: FinetuneSettings) -> Fingerprint:
    """Return what the weights depend on."""
    content = hashlib.sha256()
    for sequence in sequences:
        pair = np.array([sequence.input_ids, sequence.labels], dtype="<i8")
        content.update(len(sequence.input_ids).to_bytes(8, "little") + pair.tobytes())
    return {
        "model": model_fingerprint(model),
        "examples": len(sequences),
        "tokens": content.hexdigest()[:16],  # of every example, with the loss mask, in this order
        # through pydantic once more: a default of 512 and a given 512.0 are the same number
        "recipe": FinetuneSettings(**settings.model_dump()).model_dump(mode="json", exclude=_OF_MEMORY),
        "dtype": str(compute_dtype(settings.dtype)),
    }


def _arguments(settings: FinetuneSettings, folder: Path) -> "SFTConfig":
    """Translate the recipe into TRL's words; as ``trainer_arguments``, before any model is loaded."""
    from trl.trainer.sft_config import SFTConfig

    precision = compute_dtype(settings.dtype)
    share = settings.batch // count_processes()
    micro = micro_batch_of(share, settings.micro_batch)
    return trainer_arguments(
        SFTConfig,
        folder,
        precision,
        settings.seed,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=share // micro,
        num_train_epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="constant_with_warmup" if settings.schedule == "constant" else settings.schedule,
        warmup_steps=settings.warmup_ratio,
        weight_decay=settings.weight_decay,
        max_length=None,
        save_strategy="no",
        dataset_kwargs={"skip_prepare_dataset": True},
        router_aux_loss_coef=0.0,  # the loss of the answers alone, as the selection's gradients have it
        **recompute_arguments(SFTConfig, settings.gradient_checkpointing),
    )


def _trainer(
    model: str, sequences: Sequence[Rendered], settings: FinetuneSettings, arguments: "SFTConfig", pad_id: int
) -> "SFTTrainer":
    from transformers import PrinterCallback
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling, SFTTrainer

    rows = rows_of(sequences, pad_id, settings.max_length if settings.packing else None)
    lengths = lengths_of(rows, "input_ids")[:-1]
    if len(lengths) <= settings.batch and settings.epochs == 1:
        arguments.warmup_steps = 0  # the only step would have a learning rate of zero, and teach nothing
    n_processes = arguments.world_size
    fill_to = arguments.per_device_train_batch_size * n_processes if n_processes > 1 else 1

    class OrderedTrainer(SFTTrainer):
        def _get_train_sampler(self, train_dataset: Any = None) -> torch.utils.data.Sampler[int]:
            return Order(lengths, settings.batch, settings.seed, fill_to)

        def create_model_card(self, *args: Any, **kwargs: Any) -> None:
            """Do nothing: no card is wanted in a checkpoint."""

        def _send_telemetry(self) -> None:
            """Send nothing: nothing about the user leaves this machine."""

    loaded: Any = _make_trainable(model, settings)
    drawn = [(weight, weight.data) for weight in loaded.parameters() if weight.requires_grad]
    text_config = loaded.config.get_text_config()
    router_coefficient = getattr(text_config, "router_aux_loss_coef", None)
    trainer = OrderedTrainer(
        model=loaded,
        args=arguments,
        train_dataset=rows,
        data_collator=DataCollatorForLanguageModeling(pad_token_id=pad_id, padding_free=settings.packing),
        processing_class=load_tokenizer(model),
    )
    for weight, value in drawn:  # over a quantized base TRL makes them bfloat16, too coarse for steps of 2e-5
        weight.data = value
    if router_coefficient is not None:  # TRL writes the 0 of above into the model's config
        text_config.router_aux_loss_coef = router_coefficient
    trainer.processing_class = None  # transformers would write the tokenizer's special tokens into the model's config
    trainer.remove_callback(PrinterCallback)
    _check_loss(trainer, rows, lengths)
    return trainer


def _make_trainable(model: str, settings: FinetuneSettings) -> nn.Module:
    """Return the model with what is trained in float32, whatever it computes in."""
    if settings.adapter == "none":
        return load_base(model, torch.float32).requires_grad_(True)
    base = load_base(model, compute_dtype(settings.dtype), settings.quantization)
    return new_adapter(base, settings.lora, settings.seed, in_float32=True, per_example=False)


def _check_loss(trainer: "SFTTrainer", rows: "Dataset", lengths: Sequence[int]) -> None:
    """Hold TRL's loss of the shortest row against the model's own, one example at a time.

    TRL computes the head in pieces, from what it knows of an architecture's config, and transformers keeps packed
    examples apart by their positions alone: neither is so for every model, and as a rule no error tells.

    Raises:
        ModelError: they differ, or the model has no way to tell packed examples apart.
    """
    together = lengths_of(rows, "seq_lengths")[:-1] if "seq_lengths" in rows.column_names else [1] * len(lengths)
    packed = [i for i, n_examples in enumerate(together) if n_examples > 1]
    row = rows[min(packed or range(len(lengths)), key=lengths.__getitem__)]
    ends = np.cumsum(row.get("seq_lengths", [len(row["input_ids"])])).tolist()
    model: Any = trainer.model
    collate: Any = trainer.data_collator
    n_labels, want = 0, 0.0
    with torch.no_grad(), eval_mode(model), trainer.compute_loss_context_manager():
        try:
            got = float(trainer.compute_loss(model, trainer._prepare_inputs(collate([row]))))  # type: ignore[no-untyped-call]
        except ValueError as error:  # as of models that need a package to keep packed examples apart
            raise ModelError(f"a model of type {model.config.model_type} cannot be trained so: {error}") from error
        for start, end in zip([0, *ends], ends, strict=False):
            ids_1T = torch.tensor([row["input_ids"][start:end]], device=trainer.args.device)
            target_T = torch.tensor(row["labels"][start + 1 : end], device=trainer.args.device)
            logits_TV = model(input_ids=ids_1T, use_cache=False).logits[0, :-1].float()
            want += float(nn.functional.cross_entropy(logits_TV, target_T, reduction="sum"))
            n_labels += int((target_T != IGNORED).sum())
        leaks = bool(packed) and _leaks(model, trainer._prepare_inputs(collate([row])), ends[0])
    want /= max(n_labels, 1)
    tolerance = 3e-2 if trainer.args.bf16 or trainer.args.fp16 else 1e-4
    if leaks or abs(got - want) > tolerance * max(abs(want), 1.0):
        found = "examples that are packed see each other" if leaks else f"the loss is {got:.5f}, the model's {want:.5f}"
        raise ModelError(
            f"a model of type {model.config.model_type} cannot be trained so: {found}"
            + ("; leave --packing out" if packed else "")
        )


def _leaks(model: nn.Module, inputs: dict[str, Any], n_first: int) -> bool:
    """Return whether other tokens in a packed row's first example change what the model says of those behind it."""
    unlabelled = {name: value for name, value in inputs.items() if name != "labels"}
    before_TV = model(**unlabelled, use_cache=False).logits[0, n_first:].float()
    unlabelled["input_ids"][:, :n_first] = unlabelled["input_ids"][0, -1]
    after_TV = model(**unlabelled, use_cache=False).logits[0, n_first:].float()
    return float((after_TV - before_TV).norm() / before_TV.norm()) > 1e-3


def _train(trainer: "SFTTrainer", folder: Path, settings: FinetuneSettings, *, shown: bool) -> None:
    from transformers.trainer_utils import get_last_checkpoint

    arguments = trainer.args
    wait = _barrier(arguments)
    if arguments.process_index == 0:
        for checkpoint in CheckpointsLayout(folder).checkpoints():
            if not CheckpointLayout(checkpoint).whole.exists():  # it is written last
                shutil.rmtree(checkpoint)
            elif (damaged := find_damage(checkpoint)) is not None:
                log(f"{damaged} is damaged: what was trained up to that checkpoint is trained anew")
                shutil.rmtree(checkpoint)
    wait()
    last = get_last_checkpoint(str(folder))
    done = step_of(Path(last)) if last else 0
    n_rows = len(trainer.train_dataset) - 1  # type: ignore[arg-type]
    steps = -(-n_rows // settings.batch) * settings.epochs
    bar = progress("fine-tuning", total=steps, done=done) if shown else nullcontext(lambda n: None)
    with bar as advance:
        trainer.add_callback(_keeper(folder, advance))
        trainer.train(resume_from_checkpoint=last)


def _keeper(folder: Path, advance: Any) -> Any:
    """Make a Trainer callback that tells progress, and keeps one whole checkpoint that is not too old."""
    from transformers import TrainerCallback

    class Keeper(TrainerCallback):
        since = time.monotonic()
        memory = KeptMemory(available_bytes() // 8)

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            advance(1)
            self.memory.bound()
            is_due = time.monotonic() - self.since >= CHECKPOINT_SECONDS and state.global_step < state.max_steps
            control.should_save = _as_main_says(args, is_due)

        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            _barrier(args)()  # every process writes its random state
            self.since = time.monotonic()
            if args.process_index == 0:
                layout = CheckpointsLayout(folder)
                newest = layout.checkpoint(state.global_step)
                seal_checkpoint(newest)
                atomic_write(CheckpointLayout(newest).whole, b"")
                for checkpoint in set(layout.checkpoints()) - {newest}:
                    shutil.rmtree(checkpoint)

    return Keeper()


def _barrier(arguments: Any) -> Any:
    """Return a function that returns when every process has come to it."""
    return torch.distributed.barrier if arguments.world_size > 1 else lambda: None


def _as_main_says(arguments: Any, value: bool) -> bool:
    if arguments.world_size == 1:
        return value
    told = torch.tensor(int(value), device=arguments.device)
    torch.distributed.broadcast(told, src=0)
    return bool(told)


def _save(trainer: "SFTTrainer", base: str, out: Path) -> None:
    """Write the weights beside the checkpoints and move them, file by file, to where they belong."""
    model: Any = trainer.accelerator.unwrap_model(trainer.model)
    for name, weight in model.named_parameters():
        if weight.requires_grad and not bool(torch.isfinite(weight).all()):
            raise ModelError(f"training diverged: {name} is not finite; give a lower --learning-rate")
    part = FinetuneLayout(out).unfinished_model
    shutil.rmtree(part, ignore_errors=True)
    is_adapter = hasattr(model, "peft_config")
    model.save_pretrained(str(part), **({"save_embedding_layers": False} if is_adapter else {}))
    (part / _MODEL_CARD).unlink(missing_ok=True)  # a form to fill in
    tokenizer = load_tokenizer(base)
    tokenizer.chat_template = Renderer(tokenizer).template  # also where it has none of its own
    tokenizer.save_pretrained(str(part))
    if is_adapter:
        order_adapter_config(part)
    for file in sorted(part.iterdir()):
        move_file(file, out / file.name)


@contextmanager
def _translate_errors(out: Path) -> Iterator[None]:
    """Report what the disk or the GPU refuses as one sentence."""
    try:
        with translate_disk_errors(f"the model to {out}", "The same command goes on from the last checkpoint"):
            yield
    except torch.OutOfMemoryError as error:
        raise ModelError(
            "the GPU's memory does not hold this fine-tuning: lower --micro-batch or --max-length, or give "
            "--gradient-checkpointing or --quantization 4bit"
        ) from error
