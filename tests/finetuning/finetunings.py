"""A fine-tuning of a few steps, ways to kill it, and several at once: ``python -m tests.finetuning.finetunings``.

Arguments: the model, the folder to write to, and a key of ``KILLS`` or "together".
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from handpick.finetuning import finetune as module
from handpick.finetuning.finetune import finetune
from handpick.training.settings import FinetuneSettings, LoraSettings
from tests.gradients.oracle import random_sequences

# Ten examples in batches of four: the last batch of an epoch is a small one. Three steps an epoch, two epochs.
SEQUENCES = random_sequences(10, 300)
SETTINGS = FinetuneSettings(
    epochs=2, batch=4, micro_batch=2, learning_rate=1e-2, warmup_ratio=0.3, seed=5, dtype="float32", max_length=64,
    lora=LoraSettings(rank=4, alpha=64, dropout=0.0),
)  # fmt: skip
WITH_DROPOUT = SETTINGS.model_copy(update={"lora": LoraSettings(rank=4, alpha=64, dropout=0.3)})
PAD = 1


def run(model: Path, out: Path, settings: FinetuneSettings = SETTINGS, **given: Any) -> Path:
    """The fine-tuning of these tests."""
    return finetune(str(model), given.pop("sequences", SEQUENCES), settings, out, pad_id=PAD, quiet=True, **given)


# when → what to break, and which call of it is the last; with a checkpoint after every step
KILLS: dict[str, tuple[Any, str, int]] = {
    "before any checkpoint": (module, "_as_main_says", 1),
    "in the second epoch": (module, "_as_main_says", 5),
    "while a checkpoint is written": (module, "seal_checkpoint", 4),
    "while the model is written": (module, "load_tokenizer", 2),
    "before it is marked as finished": (module, "write_record", 2),
}


class Ended(BaseException):
    """The run is over here, and no handler of errors is to see it."""


def ended() -> None:
    raise Ended


@contextmanager
def broken(when: str, end: Callable[[], None]) -> Iterator[None]:
    """While open, a run calls ``end`` at one of ``KILLS``, and writes a checkpoint after every step."""
    place, name, at = KILLS[when]
    call, uses = getattr(place, name), 0

    def call_or_end(*args: Any, **kwargs: Any) -> Any:
        nonlocal uses
        uses += 1
        if uses == at:
            end()
        return call(*args, **kwargs)

    with mock.patch.object(module, "CHECKPOINT_SECONDS", 0.0), mock.patch.object(place, name, call_or_end):
        yield


if __name__ == "__main__":
    base, out, when = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    if when == "together":
        run(base, out)
        torch.distributed.destroy_process_group()  # as ``handpick train`` does: left to Python's end it may abort
    else:
        with broken(when, lambda: os.kill(os.getpid(), signal.SIGKILL)):
            run(base, out, WITH_DROPOUT)
