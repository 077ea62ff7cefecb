"""The same cosines? LESS by handpick, by dattri-llm's LESSAttributor and by LESS's own loop, on one checkpoint.

    peers/bin/python benchmarks/same_cosines.py     # the environment of benchmarks/gradients.py, with handpick in it

Records of the demo pool at their real lengths against others of it as queries, on models of benchmarks/gradients.py:
whole rows, float32, the same adapter with the same state of Adam. Of every pair of sides the largest difference of a
cosine and, query by query, the rank correlation (Spearman) and the share of the best tenth that is the same. No time is
measured. Writes benchmarks/results/same_cosines.md.
"""

import argparse
import importlib
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from peers.common import Task

Cosines = NDArray[np.float64]

# side: module of peers, and its options
SIDES: dict[str, tuple[str, dict[str, Any]]] = {
    "ours, --eps-mode adam": ("ours", {"eps_mode": "adam"}),
    "ours, --eps-mode less (default)": ("ours", {"eps_mode": "less"}),
    "LESS's own loop": ("less", {}),
    "dattri-llm, one at a time": ("dattri", {"batch": 1, "per_sample": False}),
    "dattri-llm, 8 at a time, summed means": ("dattri", {"batch": 8, "per_sample": True}),
    "dattri-llm, 8 at a time, the batch's mean loss (documented, default)": (
        "dattri", {"batch": 8, "per_sample": False},
    ),
}  # fmt: skip
(ADAM, LESS, LOOP, ONE, EIGHT, MEAN) = SIDES
# pair, and the largest difference that was aimed at
PAIRS: list[tuple[str, str, float | None]] = [
    (ADAM, ONE, 1e-4),
    (ADAM, EIGHT, 1e-4),
    (LESS, LOOP, 1e-4),
    (ADAM, MEAN, None),
    (LESS, ADAM, None),
    (LOOP, ONE, None),
]


def cosines(folder: Path, side: str, args: argparse.Namespace) -> Cosines:
    """One side's cosines (N, Q)."""
    module, options = SIDES[side]
    task = Task(
        side, f"{module}.cosines", str(folder), str(folder / "scratch"), "float32", "cpu", args.threads,
        args.examples + args.queries, 1024, "highest", options=options | {"queries": args.queries},
    )  # fmt: skip
    found: Cosines = importlib.import_module(f"peers.{module}").cosines(task).double().numpy()
    return found


def ranks(values_N: Cosines) -> Cosines:
    """Ranks from 0."""
    found = np.empty(len(values_N))
    found[np.argsort(values_N)] = np.arange(len(values_N))
    return found


def compare(left_NQ: Cosines, right_NQ: Cosines) -> str:
    """The cells of a row."""
    n_best = max(1, len(left_NQ) // 10)
    correlations, shares = [], []
    for left_N, right_N in zip(left_NQ.T, right_NQ.T, strict=True):
        correlations.append(float(np.corrcoef(ranks(left_N), ranks(right_N))[0, 1]))
        best = [set(np.argsort(-each)[:n_best].tolist()) for each in (left_N, right_N)]
        shares.append(len(best[0] & best[1]) / n_best)
    largest = float(np.abs(left_NQ - right_NQ).max())
    return f"{largest:.1e} | {min(correlations):.3f} to {max(correlations):.3f} | {np.mean(shares):.0%}"


def table(found: dict[str, Cosines]) -> Sequence[str]:
    rows = [
        "| | beside | largest difference | aim | Spearman, by query | of the best tenth the same |",
        "|---|---|---|---|---|---|",
    ]
    for left, right, aim in PAIRS:
        largest, *others = compare(found[left], found[right]).split(" | ")
        met = "—" if aim is None else f"{aim:.0e}: " + ("met" if float(largest) <= aim else "**missed**")
        rows.append(f"| {left} | {right} | " + " | ".join([largest, met, *others]) + " |")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=["large", "shipped"], default=["shipped", "large"])
    parser.add_argument("--examples", type=int, default=48)
    parser.add_argument("--queries", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "same_cosines.md")
    args = parser.parse_args()
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    import torch
    from peers.inputs import describe, draw_sequences, prepare

    torch.set_num_threads(args.threads)
    page = ["# The same cosines?", f"{args.examples} examples × {args.queries} queries, whole rows, float32, on a CPU."]
    with tempfile.TemporaryDirectory() as scratch:
        sequences = draw_sequences(args.examples + args.queries, Path(scratch))
        for kind in args.models:
            folder = Path(scratch) / kind
            model = prepare(kind, folder, sequences)
            found = {}
            for side in SIDES:
                found[side] = cosines(folder, side, args)
                print(f"{kind}: {side}", file=sys.stderr, flush=True)
            page += [describe(kind, model), "\n".join(table(found))]
            args.out.write_text("\n\n".join(page) + "\n")
    print(args.out.read_text())


if __name__ == "__main__":
    main()
