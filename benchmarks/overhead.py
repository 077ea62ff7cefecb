"""What exact per-example gradients, Adam and the projection add to the forward and backward pass they stand on.

    python benchmarks/overhead.py

The machine's speed swings more from minute to minute than the overhead is large, so the contenders take turns batch by
batch in one process, in an order that rotates, and their times are added up: floor is the engine made to capture
nothing. Reported are medians over rounds of the ratio of sums, with their range. On a CPU, with the allocator set as
the command line sets it. ``--processor`` counts the process's own seconds, for a machine that others use; then one
thread alone means anything. Writes benchmarks/results/overhead.md.
"""

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from statistics import median
from unittest.mock import patch

import torch
from peers.inputs import draw_sequences, prepare
from peers.ours import PROJECTED, _captures_nothing, _ProjectsNothing, mean_weights

import handpick.gradients.engine
from handpick.allocator import keep_freed_memory
from handpick.data.batching import Batch, collate, token_batches
from handpick.gradients.adam import AdamPreconditioner
from handpick.gradients.engine import GradientEngine
from handpick.gradients.projection import projection
from handpick.model import load_base
from handpick.training.checkpoint import load_moments
from handpick.training.warmup import load_trainable


def contenders(folder: Path, base: str, dtype: torch.dtype) -> dict[str, Callable[[Batch], object]]:
    model = load_trainable(load_base(base, dtype), [folder / "adapter"]).eval()
    engine = GradientEngine(model)
    sparse = projection("sparse", engine.n_coordinates, PROJECTED, 0)
    adam = AdamPreconditioner(load_moments(folder / "adapter", model), "less")

    def floor(batch: Batch) -> None:
        with patch.object(handpick.gradients.engine, "capture", _captures_nothing):
            engine.features(batch, mean_weights(batch), _ProjectsNothing())

    return {
        "floor": floor,
        "gradients, dropped": lambda batch: engine.features(batch, mean_weights(batch), _ProjectsNothing()),
        "plain": lambda batch: engine.features(batch, mean_weights(batch), sparse),
        "Adam": lambda batch: engine.features(batch, mean_weights(batch), sparse, adam),
    }


def one_round(
    lines: dict[str, Callable[[Batch], object]], batches: list[Batch], clock: Callable[[], float]
) -> dict[str, float]:
    """Seconds of each line over all batches."""
    took, names = dict.fromkeys(lines, 0.0), list(lines)
    for turn, batch in enumerate(batches):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            began = clock()
            lines[name](batch)
            took[name] += clock() - began
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--dtypes", nargs="+", choices=["float32", "bfloat16"], default=["float32"])
    parser.add_argument("--processor", action="store_true", help="the process's own seconds")
    parser.add_argument("--batch-tokens", type=int, default=1024)
    parser.add_argument("--profile", action="store_true", help="the operations that take the time, and nothing else")
    parser.add_argument("--models", nargs="+", choices=["large", "shipped"], default=["large", "shipped"])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "overhead.md")
    args = parser.parse_args()
    keep_freed_memory()

    clock = time.process_time if args.processor else time.perf_counter
    head = [
        "model",
        "type",
        "threads",
        "ms/example, floor",
        "gradients, dropped",
        "plain, projected",
        "Adam, projected",
    ]
    rows = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    with tempfile.TemporaryDirectory() as scratch:
        sequences = draw_sequences(args.examples, Path(scratch))
        members = token_batches([len(s.input_ids) for s in sequences], args.batch_tokens)
        batches = [collate([sequences[i] for i in each], pad_id=0) for each in members]
        for kind, dtype in product(args.models, args.dtypes):
            folder = Path(scratch) / f"{kind}-{dtype}"
            base = prepare(kind, folder, sequences)["base"]
            lines = contenders(folder, base, getattr(torch, dtype))
            if args.profile:
                one_round({"Adam": lines["Adam"]}, batches, clock)  # warm
                with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as seen:
                    one_round({"Adam": lines["Adam"]}, batches, clock)
                print(kind, seen.key_averages().table(sort_by="self_cpu_time_total", row_limit=12), sep="\n")
                continue
            for threads in args.threads:
                torch.set_num_threads(threads)
                one_round(lines, batches[:: max(1, len(batches) - 1)], clock)  # warm
                rounds = [one_round(lines, batches, clock) for _ in range(args.rounds)]
                cells = [kind, dtype, str(threads), f"{1000 * median(r['floor'] for r in rounds) / len(sequences):.1f}"]
                for name in list(lines)[1:]:
                    ratios = sorted(r[name] / r["floor"] for r in rounds)
                    cells.append(f"{median(ratios):.3f} ({ratios[0]:.3f}–{ratios[-1]:.3f})")
                rows.append("| " + " | ".join(cells) + " |")
                print(rows[-1], flush=True)
    if args.profile:
        return
    cpu = Path("/proc/cpuinfo").read_text().partition("model name\t: ")[2].partition("\n")[0] or platform.processor()
    seconds = "the process's own seconds" if args.processor else "wall time"
    about = f"{cpu}, torch {torch.__version__}; {args.examples} records of the demo pool, {args.rounds} rounds, "
    about += f"{seconds}, load {os.getloadavg()[0]:.0f}"
    page = "\n".join([f"{about}. Ratios over the floor: median (range).", "", *rows]) + "\n"
    args.out.write_text(page)
    print(page)


if __name__ == "__main__":
    main()
