"""What is tried of a model before work costs: the check at load, the check of rows, and what answers may stand beside.

    python benchmarks/load_check.py [--rounds 3]

A Llama of random weights in the shape of a model of 135 million parameters, float32, one thread; processor seconds,
the median over rounds. LoRA of rank 16 on q, k, v and o for the rows. The table is written to
benchmarks/results/load_check.md.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from handpick.gradients.check import check_rows
from handpick.gradients.engine import GradientEngine
from handpick.model.check import refusal
from handpick.sampling.decode import company
from handpick.training.settings import LoraSettings
from handpick.training.warmup import new_adapter

RESULTS = Path(__file__).parent / "results"
CONFIG = {
    "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
    "num_key_value_heads": 3, "vocab_size": 49152, "max_position_embeddings": 2048, "tie_word_embeddings": True,
}  # fmt: skip


def make() -> Any:
    """Return the model; what is found once a model is found anew for each."""
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **CONFIG)).eval().requires_grad_(False)


def engine() -> GradientEngine:
    """Return an engine on the model with an adapter, whose decoder is found already."""
    adapter = new_adapter(make(), LoraSettings(rank=16, alpha=32, dropout=0.0), 0, in_float32=True)
    return GradientEngine(adapter)


WAYS: dict[str, tuple[Callable[[], Any], Callable[[Any], object]]] = {
    "a sequence in company (every model that is loaded)": (make, refusal),
    "rows, with the adapter (before gradients)": (engine, check_rows),
    "what may stand beside a prompt (before answers)": (make, company),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    lines = ["| what is tried | processor seconds (rounds) |", "|---|---|"]
    for name, (given, attempt) in WAYS.items():
        seconds = []
        for _ in range(arguments.rounds):
            subject = given()
            began = time.process_time()
            attempt(subject)
            seconds.append(time.process_time() - began)
        lines.append(f"| {name} | **{median(seconds):.1f}** ({', '.join(f'{each:.1f}' for each in seconds)}) |")
        print(lines[-1], flush=True)
    command = " ".join(["python benchmarks/load_check.py", *sys.argv[1:]])
    head = f"`{command}`, {time.strftime('%Y-%m-%d')}, torch {torch.__version__}, one thread."
    (RESULTS / "load_check.md").write_text(f"{head}\n\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
