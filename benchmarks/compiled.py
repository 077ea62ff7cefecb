"""Would torch.compile help? Forward and backward of the shipped model's decoder with its adapter, on a CPU.

    python benchmarks/compiled.py

Eager, compiled whole (at one shape: the engine's hooks would break such a graph at every adapter layer), and with only
the modules compiled that hold no adapter (which the engine could do, for all shapes). Prints a table.
"""

import argparse
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch import nn

from handpick import bundled
from handpick.model import load_base
from handpick.training.settings import LoraSettings
from handpick.training.warmup import new_adapter

SHAPES = [(8, 120), (5, 77), (2, 500)]


def decoder() -> tuple[nn.Module, Any]:
    base = load_base(str(bundled.model_path()), torch.float32)
    model: Any = new_adapter(base, LoraSettings(rank=16, alpha=32, dropout=0.0), 0, in_float32=True).eval()
    return model, model.get_base_model().model


def compile_what_holds_no_adapter(module: nn.Module) -> None:
    for child in module.children():
        if isinstance(child, nn.Linear | nn.Embedding) or not list(child.parameters()):
            continue
        if isinstance(child, nn.ModuleList) or any(p.requires_grad for p in child.parameters()):
            compile_what_holds_no_adapter(child)
        else:
            child.compile(dynamic=True)


def step_of(model: nn.Module, of: Callable[..., Any]) -> Callable[[torch.Tensor], None]:
    def step(ids_BT: torch.Tensor) -> None:
        hidden_BTH = of(input_ids=ids_BT, use_cache=False).last_hidden_state
        hidden_BTH.backward(torch.full_like(hidden_BTH, 1e-3))
        model.zero_grad()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    models = [decoder() for _ in range(3)]
    compile_what_holds_no_adapter(models[1][1])
    steps = {
        "eager": step_of(*models[0]),
        "modules without adapter": step_of(*models[1]),
        "whole": step_of(models[2][0], torch.compile(models[2][1])),
    }
    print("| shape | way | ms | ratio to eager | seconds of the first call |\n|---|---|---|---|---|")
    for shape in SHAPES:
        ids_BT = torch.randint(5, 4000, shape)
        took: dict[str, list[float]] = {name: [] for name in steps}
        first = {}
        for name, step in steps.items():
            began = time.perf_counter()
            step(ids_BT)
            first[name] = time.perf_counter() - began
        for _ in range(args.rounds):
            for name, step in steps.items():
                began = time.perf_counter()
                step(ids_BT)
                took[name].append(time.perf_counter() - began)
        for name, times in took.items():
            ratio = median(t / e for t, e in zip(times, took["eager"], strict=True))
            print(
                f"| {shape[0]} × {shape[1]} | {name} | {1000 * median(times):.0f} | {ratio:.2f} | {first[name]:.1f} |"
            )


if __name__ == "__main__":
    main()
