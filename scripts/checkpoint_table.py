"""Print the table of checkpoints as Markdown: ``python scripts/checkpoint_table.py``.

Every row is a run that is made here: a tiny Llama with an adapter, trained for some steps. A cell holds what is read
back against what was in memory: the largest relative error of a parameter's moment (the 8-bit ones dequantized by
their own library), and of a row, to plain autograd in the very model that was trained; or the sentence that refuses.
What is not installed is named and left out.
"""

import importlib.metadata
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path[:0] = [str(Path(__file__).resolve().parent.parent)]

from handpick.progress import forward_lines  # noqa: E402
from tests.training.foreign import (  # noqa: E402
    ADAPTERS,
    BY_NAME,
    HANDED_OVER,
    Run,
    adapted,
    installed,
    moments_error,
    outcome,
    rows_error,
    trained,
)
from tests.training.foreign_trainers import TRAINERS  # noqa: E402

PACKAGES = (
    "torch",
    "transformers",
    "peft",
    "trl",
    "accelerate",
    "bitsandbytes",
    "torchao",
    "schedulefree",
)


def main() -> None:
    """Print the versions and the three tables."""
    there = [f"{name} {importlib.metadata.version(name)}" for name in PACKAGES if installed(name)]
    print(f"Made with {', '.join(there)}.\n")
    head("trainer, with LoRA and AdamW")
    for name, (package, run) in TRAINERS.items():
        row(name, package, run)
    head("optimizer, under transformers' Trainer, with LoRA of rank 64")
    for name, package in BY_NAME.items():
        row(f"`{name}`", package, lambda out, name=name: trained(adapted(64), out, optim=name))
    for name, make in HANDED_OVER.items():
        row(name, None, lambda out, make=make: trained(model := adapted(), out, make(model)))
    head("adapter, under transformers' Trainer, with AdamW")
    for name, lora in ADAPTERS.items():
        row(name, None, lambda out, lora=lora: trained(adapted(**lora), out))


def head(first: str) -> None:
    """Print the head of a table."""
    print(f"\n| {first} | moments | rows |\n|---|---|---|")


def row(name: str, package: str | None, make: Callable[[Path], Run]) -> None:
    """Make a run and print what is read of it."""
    if not installed(package):
        print(f"| {name} | {package} is not installed | |", flush=True)
        return
    with TemporaryDirectory() as folder, forward_lines(lambda line: None):
        run = make(Path(folder) / "run")
        cells = [outcome(moments_error, run), outcome(rows_error, run)]
    print(f"| {name} | {cells[0]} | {cells[1] if cells[1] != cells[0] else 'refused likewise'} |", flush=True)


if __name__ == "__main__":
    main()
