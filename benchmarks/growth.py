"""How time and memory of a feature row grow: with the pool, the batch, the adapter, the features and the checkpoints.

    pip install matplotlib
    python benchmarks/growth.py

One thing is changed at a time, on the shipped model with records of the demo pool, as LESS has them (Adam, sparse);
each point is a process of its own, so that its peak of resident memory is its own too. Writes
benchmarks/results/growth.json and growth.png.
"""

import argparse
import json
import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from peers.inputs import draw_sequences
from torch import nn

from handpick import bundled
from handpick.allocator import keep_freed_memory
from handpick.gradients.adam import AdamMoments, AdamPreconditioner
from handpick.gradients.engine import GradientEngine
from handpick.gradients.memory import footprint
from handpick.gradients.projection import projection
from handpick.model import load_base
from handpick.objectives.next_token import mean_loss
from handpick.scorers.gradient_encoder import encode_rows
from handpick.training.settings import LoraSettings
from handpick.training.warmup import new_adapter

MIB = 2**20


@dataclass(frozen=True)
class Point:
    """What is measured at; the defaults are the place that every curve goes through."""

    examples: int = 128
    batch_tokens: int = 1024
    rank: int = 16
    features: int = 8192
    checkpoints: int = 1


CURVES: dict[str, tuple[str, list[int]]] = {
    "examples": ("examples N", [64, 128, 256, 512]),
    "batch_tokens": ("tokens a batch", [256, 512, 1024, 2048, 4096, 8192]),
    "rank": ("LoRA rank (D = 12,288 · rank)", [4, 16, 64, 128]),
    "features": ("features K", [1024, 4096, 8192, 32768]),
    "checkpoints": ("checkpoints", [1, 2, 4]),
}


def measure(point: Point, threads: int) -> dict[str, float]:
    """Milliseconds a row of one checkpoint (but for the curve of checkpoints: of all), and MiB beside the model."""
    torch.set_num_threads(threads)
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as scratch:
        sequences = draw_sequences(point.examples, Path(scratch))
    base = load_base(str(bundled.model_path()), torch.float32)
    model: nn.Module = new_adapter(
        base, LoraSettings(rank=point.rank, alpha=2 * point.rank, dropout=0.0), 0, in_float32=True
    )
    for name, parameter in model.named_parameters():
        if ".lora_B." in name:
            parameter.data.normal_(std=0.01)
    engine = GradientEngine(model)
    rows = [mean_loss(sequence) for sequence in sequences]
    project = projection("sparse", engine.n_coordinates, point.features, 0)
    moments = AdamMoments(
        {layer.name: torch.randn(layer.module.weight.shape) * 1e-4 for layer in engine.layers},
        {layer.name: torch.rand(layer.module.weight.shape) * 1e-8 for layer in engine.layers}, step=100,
    )  # fmt: skip
    adam = AdamPreconditioner(moments, "less")
    encode_rows(engine, rows[:4], 0, project, point.batch_tokens, adam)
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = resident("VmRSS")
    began = time.perf_counter()
    for _ in range(point.checkpoints):
        encode_rows(engine, rows, 0, project, point.batch_tokens, adam)
    took = time.perf_counter() - began
    longest = max(len(s.input_ids) for s in sequences)
    mean = sum(len(s.input_ids) for s in sequences) / len(sequences)
    formula = footprint(engine, project, adam=True)
    largest = max(formula.peak(1, longest), formula.peak(max(1, int(point.batch_tokens / mean)), int(mean)))
    return {
        "ms": 1000 * took / point.examples,
        "mib": (resident("VmHWM") - before) / MIB,
        "formula_mib": largest / MIB,
        "mean_tokens": mean,
    }


def resident(what: str) -> int:
    """A line of /proc/self/status, in bytes."""
    text = Path("/proc/self/status").read_text()
    return int(next(line for line in text.splitlines() if line.startswith(what)).split()[1]) * 1024


def plot(results: dict[str, list[dict[str, Any]]], to: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, len(CURVES), figsize=(4 * len(CURVES), 6.5), sharey="row", layout="constrained")
    for column, (name, (label, _)) in enumerate(CURVES.items()):
        x = [row["point"][name] for row in results[name]]
        axes[0, column].plot(x, [row["ms"] for row in results[name]], "o-", color="#2a6f97")
        axes[1, column].plot(x, [row["mib"] for row in results[name]], "o-", color="#2a6f97", label="measured")
        axes[1, column].plot(x, [row["formula_mib"] for row in results[name]], "--", color="#888888", label="formula")
        for row in range(2):
            axes[row, column].set_xscale("log", base=2)
            axes[row, column].set_xticks(x, [f"{value:,}" for value in x])
            axes[row, column].minorticks_off()
            axes[row, column].grid(alpha=0.3)
        axes[1, column].set_xlabel(label)
    for row in range(2):  # once all curves are there: the limits are shared
        axes[row, 0].set_ylim(bottom=0)
    axes[0, 0].set_ylabel("ms an example")
    axes[1, 0].set_ylabel("peak MiB over what was there before")
    axes[1, 0].legend()
    figure.savefig(to, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/growth"))
    args = parser.parse_args()

    results: dict[str, list[dict[str, Any]]] = {name: [] for name in CURVES}
    measured: dict[Point, dict[str, float]] = {}
    points = {replace(Point(), **{name: value}) for name, (_, values) in CURVES.items() for value in values}
    rounds: dict[Point, list[dict[str, float]]] = {point: [] for point in points}
    for _ in range(args.rounds):
        for point in sorted(points, key=str):
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
                rounds[point].append(process.submit(measure, point, args.threads).result())
            print(point, rounds[point][-1], flush=True)
    for point, rows in rounds.items():
        by_time = sorted(rows, key=lambda row: row["ms"])
        measured[point] = by_time[len(by_time) // 2]
    for name, (_, values) in CURVES.items():
        for value in values:
            point = replace(Point(), **{name: value})
            results[name].append({"point": asdict(point)} | measured[point])
    args.out.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")
    plot(results, args.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
