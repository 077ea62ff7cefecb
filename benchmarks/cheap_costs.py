"""What each way of choosing costs beside ``less-rr``, timed in turns on a sample and multiplied.

    python benchmarks/cheap_costs.py MODEL_FOLDER    # three rounds on 200 records; about 40 minutes on two cores
    OMP_NUM_THREADS=1 python benchmarks/cheap_costs.py MODEL_FOLDER --clock cpu    # on a machine with other work

In every round each part is timed once, from nothing and by the product's own runs: a warmup of 40 examples, 200 rows at
its four checkpoints, hidden states of the 200, plain gradients, TACS's path and its two passes. A method's cost at a
pool's size is made of these: what goes with the pool is multiplied by its size, a warmup by its examples, and what is
done once (queries, a path) is taken as it is. Ratios are of parts of the same round; the table has their median.
Rounds that stand in --runs are not made again.
"""

import argparse
import json
import random
import shutil
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from beats_random import DATA
from cheap_gradients import MAX_LENGTH, METHODS, draw_pool

import handpick
from handpick import progress

RESULTS = Path(__file__).parent / "results"
SAMPLE, WARMED_UP = 200, 40
CHECKED = 0.01  # of the pool: what a prefilter looks at besides, from 50 on


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs/cheap_costs"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--target", default="gsm8k")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall", help="cpu: seconds of the process")
    given = parser.parse_args()
    if given.clock == "cpu":
        progress.clock = time.process_time
    lines = draw_pool(given.runs).read_bytes().splitlines(keepends=True)
    sample = given.runs / "sample.jsonl"
    sample.write_bytes(b"".join(random.Random(1).sample(lines, SAMPLE)))
    rounds = [time_parts(given, sample, number) for number in range(given.rounds)]
    (RESULTS / "cheap_costs.json").write_text(json.dumps(rounds, indent=1) + "\n")
    text = "\n".join(table(given, rounds))
    (RESULTS / "cheap_costs.md").write_text(text + "\n")
    print(text)


def time_parts(given: argparse.Namespace, sample: Path, number: int) -> dict[str, dict[str, float]]:
    """Return the seconds of every method's parts on the sample."""
    found: dict[str, dict[str, float]] = {}
    warmup = {"at_least": WARMED_UP, "share": 0.01}
    for name, own in {
        "less-rr": {"warmup": warmup},
        "rds+": {},
        "whitened-rds-rr": {},
        "gradient-rr": {},
        "bm25": {},
        "tacs": METHODS["tacs"],
    }.items():
        out = given.runs / f"round-{number}" / name
        if (out / "cost.json").exists():
            found[name] = json.loads((out / "cost.json").read_text())["seconds"]
            continue
        shutil.rmtree(out, ignore_errors=True)
        values: dict[str, Any] = {"method": name, "budget": 20, "max_length": MAX_LENGTH, "out": out, **own}
        query = DATA / "targets" / given.target / "dev.jsonl.gz"
        handpick.select(str(sample), str(query), str(given.model), **values)
        found[name] = json.loads((out / "cost.json").read_text())["seconds"]
    return found


def cost(parts: dict[str, dict[str, float]], method: str, n: int, n_warmup: int) -> float:
    """Return the seconds of a method on a pool of ``n`` with a warmup on ``n_warmup``, of one round's parts."""
    times = n / SAMPLE
    less, rds = parts["less-rr"], parts["rds+"]
    warmed = less["warmup"] * n_warmup / WARMED_UP + less["query features"]

    def ranked(first: float, share: float) -> float:
        rows = share * n + max(50, CHECKED * n)
        return warmed + first + less["pool features"] * rows / SAMPLE

    hidden = rds["query features"] + rds["pool features"] * times
    words = parts["bm25"]["total"] * times
    own = parts.get(method, {})
    known = {
        "less-rr": lambda: warmed + less["pool features"] * times,
        "bm25": lambda: words,
        "prefilter bm25": lambda: ranked(words, 0.2),
        "prefilter rds+": lambda: ranked(hidden, 0.2),
        "landmarks": lambda: warmed + hidden + less["pool features"] * METHODS["landmarks"]["landmarks"] / SAMPLE,
    }
    if method in known:
        return known[method]()
    once = sum(took for part, took in own.items() if part not in ("total", "pool features", "covariance", "losses"))
    return once + times * sum(own.get(part, 0.0) for part in ("pool features", "covariance", "losses"))


def table(given: argparse.Namespace, rounds: list[dict[str, dict[str, float]]]) -> list[str]:
    """Return each method's cost as a part of ``less-rr``'s, for the study's pool and for a large one."""
    lines = [
        f"`python benchmarks/cheap_costs.py {given.model.name} --clock {given.clock} --rounds {given.rounds}`, "
        f"{time.strftime('%Y-%m-%d')}, threads: {torch.get_num_threads()}; "
        f"minutes {'that the process computed' if given.clock == 'cpu' else 'on the wall'}.",
        "",
        "| method | of 2,000, warmup on 200 | ÷ less-rr | of 100,000, warmup on 5,000 | ÷ less-rr |",
        "|---|---:|---:|---:|---:|",
    ]
    for method in METHODS:
        cells = []
        for n, n_warmup in ((2_000, 200), (100_000, 5_000)):
            own = [cost(parts, method, n, n_warmup) for parts in rounds]
            ratios = [took / cost(parts, "less-rr", n, n_warmup) for took, parts in zip(own, rounds, strict=True)]
            spread = f" ({min(ratios):.2f} to {max(ratios):.2f})" if len(ratios) > 1 else ""
            cells += [f"{median(own) / 60:,.1f} min", f"{median(ratios):.2f}{spread}"]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return lines


if __name__ == "__main__":
    main()
