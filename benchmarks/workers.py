"""Two worker processes against one process with two threads: examples per second, and memory.

    python benchmarks/workers.py [--rounds 3] [--pool FILE ...] [--model DIR] [--methods gradient-rr rds+]

Both ways make the same features of the shipped pool with the shipped model, as ``handpick select`` does, in turns,
each in a folder of its own. Examples per second are those of the stage "pool features", in which a worker's start and
the loading of its model count. Memory is the largest sum over the processes of a run of their proportional share of
memory (PSS), looked at five times a second. The shards' bytes are compared at equal threads a worker: with those of one
process of one thread. The table is written to benchmarks/results/workers.md.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from handpick import bundled

RESULTS = Path(__file__).parent / "results"
ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Way:
    """How a run shares its work out."""

    name: str
    threads: int
    workers: int | None


ONE = Way("one process, two threads", 2, None)
TWO = Way("two workers, one thread each", 2, 2)
ALONE = Way("one process, one thread", 1, None)


@dataclass(frozen=True)
class Ran:
    """What a run took."""

    seconds: float
    examples: int
    memory: float
    digest: str


def run(way: Way, method: str, arguments: argparse.Namespace) -> Ran:
    """Return what one run took, in a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, "-m", "handpick", "select", *(f for p in arguments.pool for f in ("--pool", p)),
            "--query", str(bundled.target_path("gsm8k")), "--model", arguments.model, "--method", method,
            "--budget", "10", "--max-length", "256", "--shard-rows", "128", "--out", f"{folder}/out",
            *(["--warmup", "none"] if method == "gradient-rr" else []),
            *([] if way.workers is None else ["--workers", str(way.workers)]),
        ]  # fmt: skip
        environment = {**os.environ, "OMP_NUM_THREADS": str(way.threads), "PYTHONPATH": str(ROOT / "src")}
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        peak = Peak(process.pid)
        _, said = process.communicate()
        peak.stop()
        if process.returncode:
            raise SystemExit(said)
        cost = json.loads(Path(folder, "out", "cost.json").read_text())
        store = next(Path(folder, "out", "features").glob("pool*"))
        shards = sorted((store / "shards").rglob("*"))
        digest = hashlib.sha256(b"".join(path.read_bytes() for path in shards if path.is_file())).hexdigest()[:16]
        rows = sum(len(json.loads(path.read_text())["ids"]) for path in shards if path.suffix == ".json")
        return Ran(cost["seconds"]["pool features"], rows, peak.bytes, digest)


class Peak:
    """The largest memory of a process and its children, watched until told to stop."""

    def __init__(self, pid: int) -> None:
        self.bytes = 0.0
        self._pid = pid
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.2):
            self.bytes = max(self.bytes, sum(map(_pss, _family(self._pid))))


def _family(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return [pid]
    return [pid, *(each for child in children for each in _family(int(child)))]


def _pss(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return 1024 * next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def measure(method: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return both ways' figures of a method, in turns."""
    found: dict[Way, list[Ran]] = {ONE: [], TWO: []}
    for _ in range(arguments.rounds):
        for way, runs in found.items():
            runs.append(run(way, method, arguments))
            print(f"{method}, {way.name}: {runs[-1].examples / runs[-1].seconds:.1f} examples/s", flush=True)
    alone = run(ALONE, method, arguments)
    ratios = [b.examples / b.seconds * a.seconds / a.examples for a, b in zip(*found.values(), strict=True)]
    return {
        "method": method,
        "rate": {way.name: median(each.examples / each.seconds for each in runs) for way, runs in found.items()},
        "memory": {way.name: max(each.memory for each in runs) for way, runs in found.items()},
        "ratios": ratios,
        "same_bytes": {each.digest for each in found[TWO]} == {alone.digest},
        "alone": alone.examples / alone.seconds,
    }


def table(results: list[dict[str, Any]]) -> str:
    """Return the table, in Markdown."""
    lines = [
        "| method | one process, two threads | two workers, one thread each | ratio, by round | memory, one "
        "| memory, two | bytes equal to one process of one thread |",
        "|---|---|---|---|---|---|---|",
    ]
    for each in results:
        rate, memory = each["rate"], each["memory"]
        ratios = ", ".join(f"{ratio:.2f}" for ratio in each["ratios"])
        lines.append(
            f"| {each['method']} | {rate[ONE.name]:.1f} examples/s | {rate[TWO.name]:.1f} examples/s | "
            f"**{median(each['ratios']):.2f}** ({ratios}) | {memory[ONE.name] / 1e9:.2f} GB | "
            f"{memory[TWO.name] / 1e9:.2f} GB | {'yes' if each['same_bytes'] else 'NO'} |"
        )
    return "\n".join(lines) + "\n"


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown processor")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pool", nargs="+", default=[str(path) for path in bundled.pool_paths()])
    parser.add_argument("--model", default=str(bundled.model_path()))
    parser.add_argument("--methods", nargs="+", default=["gradient-rr", "rds+"])
    arguments = parser.parse_args()
    began = time.strftime("%Y-%m-%d")
    results = [measure(method, arguments) for method in arguments.methods]
    shown = table(results)
    command = f"python benchmarks/workers.py --rounds {arguments.rounds} --methods {' '.join(arguments.methods)}"
    cpu = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        "",
    )
    head = f"`{command}`, {began}, {cpu}, {os.cpu_count()} cores.\n\n"
    (RESULTS / "workers.md").write_text(head + shown)
    (RESULTS / "workers.json").write_text(json.dumps(results, indent=1))
    print(shown)


if __name__ == "__main__":
    main()
