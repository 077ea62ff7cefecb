"""Two worker processes against one process with two threads: examples per second, and memory.

    python benchmarks/workers.py [--rounds 3] [--rows N] [--model DIR] [--methods gradient-rr rds+]

Both ways make the same features of the shipped pool, or of N records in even steps through the large one (found through
HANDPICK_DATA), with the shipped model, as ``handpick select`` does, in turns, each in a folder of its own. Examples per
second are those of the stage "pool features", in which a worker's start and the loading of its model count. Memory is
the largest sum over a run's processes of what is theirs alone, and the files that they share once, looked at five times
a second. The shards' bytes are compared at equal threads a worker: with those of one process of one thread. The table
is written to benchmarks/results/workers.md, or workers_N.md.
"""

import argparse
import gzip
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

_RSS = ("RssAnon", "RssShmem", "RssFile")
RESULTS = Path(__file__).parent / "results"
ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("HANDPICK_DATA", ROOT / ".." / "shared" / "data"))


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
            self.bytes = max(self.bytes, _memory(_family(self._pid)))


def _family(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return [pid]
    return [pid, *(each for child in children for each in _family(int(child)))]


def _memory(pids: list[int]) -> int:
    """What the processes have for themselves, and files (the libraries) once. These counters cost nothing to read; the
    proportional share of memory would, a fifth of the run's speed.
    """
    own, files = [0], [0]
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        except OSError:
            continue
        fields = (line.partition(":") for line in lines)
        kilobytes = {name: int(value.split()[0]) for name, _, value in fields if name in _RSS}
        own.append(kilobytes.get("RssAnon", 0) + kilobytes.get("RssShmem", 0))
        files.append(kilobytes.get("RssFile", 0))
    return 1024 * (sum(own) + max(files))


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
        "| memory, two | one process, one thread | bytes equal to one process of one thread |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for each in results:
        rate, memory = each["rate"], each["memory"]
        ratios = ", ".join(f"{ratio:.2f}" for ratio in each["ratios"])
        lines.append(
            f"| {each['method']} | {rate[ONE.name]:.1f} examples/s | {rate[TWO.name]:.1f} examples/s | "
            f"**{median(each['ratios']):.2f}** ({ratios}) | {memory[ONE.name] / 1e9:.2f} GB | "
            f"{memory[TWO.name] / 1e9:.2f} GB | {each['alone']:.1f} examples/s | "
            f"{'yes' if each['same_bytes'] else 'NO'} |"
        )
    return "\n".join(lines) + "\n"


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown processor")


def spread(n: int, folder: str) -> list[str]:
    """Return a file of ``n`` records, in even steps through the large pool."""
    lines = gzip.decompress((DATA / "pool" / "pool.jsonl.gz").read_bytes()).splitlines(keepends=True)
    path = Path(folder, "pool.jsonl")
    path.write_bytes(b"".join(lines[i * len(lines) // n] for i in range(n)))
    return [str(path)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, help="records of the large pool; default: the shipped pool")
    parser.add_argument("--model", default=str(bundled.model_path()))
    parser.add_argument("--methods", nargs="+", default=["gradient-rr", "rds+"])
    arguments = parser.parse_args()
    began = time.strftime("%Y-%m-%d")
    with tempfile.TemporaryDirectory() as folder:
        arguments.pool = spread(arguments.rows, folder) if arguments.rows else list(map(str, bundled.pool_paths()))
        results = [measure(method, arguments) for method in arguments.methods]
    shown = table(results)
    command = " ".join(["python benchmarks/workers.py", *sys.argv[1:]])
    name = f"workers_{arguments.rows}" if arguments.rows else "workers"
    (RESULTS / f"{name}.md").write_text(f"`{command}`, {began}, {_cpu()}, {os.cpu_count()} cores.\n\n{shown}")
    (RESULTS / f"{name}.json").write_text(json.dumps(results, indent=1) + "\n")
    print(shown)


if __name__ == "__main__":
    main()
