"""Runs of other trainers than transformers' own: TRL's and FSDP's; and other ways with that one."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, Trainer, TrainingArguments

from handpick.gradients.layers import canonical_name
from tests.training.foreign import Run, adapted, quiet, rows, run_of, trained, weights_of


def resumed(out: Path) -> Run:
    """Killed after the first epoch, and gone on with."""
    trained(adapted(), out)
    shutil.rmtree(out / "checkpoint-8")
    arguments = TrainingArguments(
        output_dir=str(out), per_device_train_batch_size=2, num_train_epochs=2, learning_rate=1e-2, weight_decay=0.1,
        save_strategy="epoch", logging_steps=1, report_to=[], use_cpu=True, disable_tqdm=True,
    )  # fmt: skip
    trainer = Trainer(adapted(), arguments, train_dataset=rows())
    with quiet():
        trainer.train(resume_from_checkpoint=str(out / "checkpoint-4"))
    return run_of(trainer, out / "checkpoint-8")


def by_step(out: Path) -> Run:
    """A checkpoint in the middle of an epoch, with gradients accumulated."""
    return trained(
        adapted(), out, max_steps=3, save_strategy="steps", save_steps=3, gradient_accumulation_steps=2,
        per_device_train_batch_size=1,
    )  # fmt: skip


def _tokenizer() -> PreTrainedTokenizerFast:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    words = {f"w{i}": i for i in range(3, 97)} | {"<pad>": 0, "<s>": 1, "</s>": 2}
    plain = Tokenizer(WordLevel(words, unk_token="w3"))
    plain.pre_tokenizer = Whitespace()  # type: ignore[assignment]
    return PreTrainedTokenizerFast(tokenizer_object=plain, pad_token="<pad>", bos_token="<s>", eos_token="</s>")


def _words(at: int, n: int) -> str:
    return "".join(f" w{3 + (at * 17 + i * 5) % 90}" for i in range(n))


_ARGUMENTS: dict[str, Any] = {
    "per_device_train_batch_size": 2, "num_train_epochs": 2, "learning_rate": 1e-2, "save_strategy": "epoch",
    "logging_steps": 1, "report_to": [], "use_cpu": True, "disable_tqdm": True, "bf16": False,
    "gradient_checkpointing": False,
}  # fmt: skip


def trl_sft(out: Path) -> Run:
    """TRL's supervised fine-tuning."""
    from datasets import Dataset
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    data = Dataset.from_list([{"prompt": _words(i, 4), "completion": _words(i + 9, 4)} for i in range(8)])
    trainer = SFTTrainer(
        model=adapted(), args=SFTConfig(output_dir=str(out), **_ARGUMENTS), train_dataset=data,
        processing_class=_tokenizer(),
    )  # fmt: skip
    return _ran(trainer, out)


def trl_dpo(out: Path) -> Run:
    """TRL's preference optimization, whose reference is the model without its adapter."""
    from datasets import Dataset
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.dpo_trainer import DPOTrainer

    data = Dataset.from_list(
        [{"prompt": _words(i, 4), "chosen": _words(i + 9, 4), "rejected": _words(i + 5, 4)} for i in range(8)]
    )
    trainer = DPOTrainer(
        model=adapted(),  # type: ignore[arg-type]
        args=DPOConfig(output_dir=str(out), **_ARGUMENTS), train_dataset=data, processing_class=_tokenizer(),
    )  # fmt: skip
    return _ran(trainer, out)


def _ran(trainer: Any, out: Path) -> Run:
    with quiet():
        trainer.train()
    return run_of(trainer, out / f"checkpoint-{trainer.state.global_step}")


def _loop(model: nn.Module, optimizer: Any, backward: Callable[[Tensor], object] = Tensor.backward) -> None:
    for row in rows()[:4]:
        backward(model(input_ids=row["input_ids"][None], labels=row["labels"][None]).loss)
        optimizer.step()
        optimizer.zero_grad()


def fsdp2(out: Path, *, whole: bool) -> Run:
    """FSDP2 on one process of gloo; the optimizer's state saved as accelerate does, whole or in pieces."""
    from torch.distributed import checkpoint, destroy_process_group, init_device_mesh, init_process_group
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict
    from torch.distributed.fsdp import fully_shard

    out.mkdir(parents=True, exist_ok=True)
    init_process_group("gloo", init_method=f"file://{out}/rendezvous", rank=0, world_size=1)
    try:
        model: Any = adapted()
        fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
        optimizer = torch.optim.AdamW([weight for _, weight in weights_of(model)], lr=1e-2)
        _loop(model, optimizer)
        names = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        moments = [
            {canonical_name(n): optimizer.state[p][key].full_tensor().clone() for n, p in names.items()}
            for key in ("exp_avg", "exp_avg_sq")
        ]
        weights = {name: p.full_tensor() for name, p in model.named_parameters()}
        if whole:
            options = StateDictOptions(full_state_dict=True, cpu_offload=True)
            torch.save(get_optimizer_state_dict(model, optimizer, options=options), out / "optimizer.bin")
        else:
            state = {"optimizer": get_optimizer_state_dict(model, optimizer)}
            checkpoint.save(state, checkpoint_id=out / "optimizer_0")
    finally:
        destroy_process_group()
    alone: Any = adapted()
    alone.load_state_dict(weights)
    alone.save_pretrained(out)
    return Run(out, alone, moments[0], moments[1])


# trainer → the package that it needs, and the run
TRAINERS: dict[str, tuple[str | None, Callable[[Path], Run]]] = {
    "transformers' Trainer, an epoch's end": (None, lambda out: trained(adapted(), out)),
    "transformers' Trainer, saved by step": (None, by_step),
    "transformers' Trainer, resumed": (None, resumed),
    "TRL's SFTTrainer": ("trl", trl_sft),
    "TRL's DPOTrainer": ("trl", trl_dpo),
    "FSDP2, whole state (as accelerate saves it)": (None, lambda out: fsdp2(out, whole=True)),
    "FSDP2, in pieces": (None, lambda out: fsdp2(out, whole=False)),
}
