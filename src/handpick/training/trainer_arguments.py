"""What every training of this house asks of transformers' Trainer: silence, one device, the precision it is told."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from handpick.model import device

if TYPE_CHECKING:
    from transformers import TrainingArguments

Kind = TypeVar("Kind", bound="TrainingArguments")


def trainer_arguments(kind: type[Kind], out: Path, precision: torch.dtype, seed: int, **own: Any) -> Kind:
    """Return the arguments of one training.

    Must come before any model is loaded: it finds out which device is whose.

    Args:
        kind: ``TrainingArguments``, or TRL's.
        out: the folder that the Trainer writes in.
        precision: what is computed in.
        seed: of the order of the data, and of what is drawn.
        own: what this training asks for besides.
    """
    arguments = kind(
        output_dir=str(out),
        optim="adamw_torch",
        seed=seed,
        data_seed=seed,
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        use_cpu=device().type == "cpu",
        bf16=precision == torch.bfloat16,
        fp16=precision == torch.float16,
        dataloader_pin_memory=device().type == "cuda",
        **own,
    )
    # without a launcher, one of the GPUs: the Trainer would else spread over all it sees, with larger batches
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments
