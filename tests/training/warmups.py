"""A warmup of six steps, and a way to kill it: ``python -m tests.training.warmups MODEL OUT WHEN``."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from handpick.training import warmup
from handpick.training.settings import LoraSettings, WarmupSettings
from tests.gradients.oracle import random_sequences

# Ten examples in batches of four: the last batch of an epoch is a small one. Three steps an epoch, two epochs.
SEQUENCES = random_sequences(10, 300)
SETTINGS = WarmupSettings(
    epochs=2, batch=4, micro_batch=2, learning_rate=1e-2, warmup_ratio=0.3,
    lora=LoraSettings(rank=4, alpha=64, dropout=0.0),
)  # fmt: skip
WITH_DROPOUT = SETTINGS.model_copy(update={"lora": LoraSettings(rank=4, alpha=64, dropout=0.3)})
SEED = 5


def run(
    model: Path, out: Path, settings: WarmupSettings = SETTINGS, *, gradient_checkpointing: bool = False
) -> list[Path]:
    """The warmup of these tests."""
    return warmup.train(
        str(model), SEQUENCES, settings, out=out, seed=SEED, pad_id=1, dtype="float32",
        gradient_checkpointing=gradient_checkpointing,
    )  # fmt: skip


# when → what to break, and which call of it is the last
KILLS: dict[str, tuple[Any, str, int]] = {
    "in the second epoch": (warmup, "_inputs", 9),  # an epoch asks for five batches, and the next one early
    "while the second checkpoint is written": (warmup, "save_moments", 2),
    "while the pickles are thrown away": (warmup, "remove_files", 2),
}


def dying(call: Callable[..., Any], at: int) -> Callable[..., Any]:
    """``call``, whose ``at``-th use ends the process with no chance to clean up."""
    uses = 0

    def call_or_die(*args: Any, **kwargs: Any) -> Any:
        nonlocal uses
        uses += 1
        if uses == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*args, **kwargs)

    return call_or_die


if __name__ == "__main__":
    place, name, at = KILLS[sys.argv[3]]
    with mock.patch.object(place, name, dying(getattr(place, name), at)):
        run(Path(sys.argv[1]), Path(sys.argv[2]), WITH_DROPOUT)
