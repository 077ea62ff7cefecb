"""Local processes against Ray's actors on this machine, and eight actors of a simulated cluster that only sleep.

    python benchmarks/scale.py [--rows 128] [--rounds 1] [--shards 160] [--actors 8] [--parts here cluster]

"here": the shipped model makes gradient features of the first records of the shipped pool as ``handpick select`` does,
by 1 and 2 workers of one thread each, local and by Ray. Features a second are those of the stage "pool features"; the
time to the first shard counts from the start of the command; the driver's memory is the most that the process itself
has had. The shards' bytes are compared.

"cluster": ``ray.cluster_utils.Cluster`` starts one node an actor on this machine, and an encoder sleeps in place of a
model, so that what is measured is how shards are given out. The share of ideal is the time in which so many workers
could do the sleeping, if nothing else took any time, over the time that it took, from when all actors had started:
evenly; with one actor three times slower than the others; with a node that is removed after a third of the ideal time.

The table is written to benchmarks/results/scale.md, with the machine's load before.
"""

import argparse
import gzip
import hashlib
import json
import logging
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handpick import bundled
from handpick.data.examples import Example
from handpick.data.pool import Pool
from handpick.data.quarantine import Quarantine
from handpick.executors import Advance, RayActors, fill_store
from handpick.objectives.protocol import Prepared, prepare_each
from handpick.store import Checkpoint, FeatureStore, Manifest, ManifestFile

RESULTS, ROOT = Path(__file__).parent / "results", Path(__file__).parents[1]
SHARD, SLOWER = 32, 3.0
WAYS = [(engine, n) for n in (1, 2) for engine in ("local", "ray")]


@dataclass(frozen=True)
class Ran:
    """What one run took."""

    rate: float
    first_shard: float
    memory: int
    digest: str


def run_here(engine: str, n: int, pool: Path) -> Ran:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out")
        command = [
            sys.executable, "-m", "handpick", "select", "--pool", str(pool), "--query",
            str(bundled.target_path("gsm8k")), "--model", str(bundled.model_path()), "--method", "gradient-rr",
            "--warmup", "none", "--budget", "5", "--max-length", "256", "--shard-rows", str(SHARD), "--out", str(out),
            *(["--workers", str(n)] if engine == "local" else ["--engine", "ray", "--max-workers", str(n)]),
        ]  # fmt: skip
        environment = {**os.environ, "OMP_NUM_THREADS": str(n), "PYTHONPATH": str(ROOT / "src")}
        began, first = time.monotonic(), 0.0
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        memory = 0
        while process.poll() is None:
            memory = max(memory, _resident(process.pid))
            if not first and any(out.glob("features/pool*/shards/0/*.json")):
                first = time.monotonic() - began
            time.sleep(0.1)
        if process.returncode:
            raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
        cost = json.loads((out / "cost.json").read_text())
        shards = sorted(path for path in out.glob("features/pool*/shards/*/*") if path.is_file())
        rows = sum(len(json.loads(path.read_text())["ids"]) for path in shards if path.suffix == ".json")
        digest = hashlib.sha256(b"".join(path.read_bytes() for path in shards)).hexdigest()[:12]
        return Ran(rows / cost["seconds"]["pool features"], first, memory, digest)


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


def measure_here(rows: int, rounds: int) -> list[str]:
    found: dict[tuple[str, int], list[Ran]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        pool = write_pool(rows, folder)
        for _ in range(rounds):
            for engine, n in WAYS:
                found[engine, n].append(run_here(engine, n, pool))
                print(engine, n, found[engine, n][-1], flush=True)
    same = len({run.digest for runs in found.values() for run in runs}) == 1
    lines = [
        "| workers | engine | features/s | against local | first shard after | driver's memory | same bytes |",
        "|---:|---|---:|---:|---:|---:|---|",
    ]
    for (engine, n), runs in sorted(found.items(), key=lambda each: each[0][1]):
        rate = median(run.rate for run in runs)
        against = rate / median(run.rate for run in found["local", n])
        lines.append(
            f"| {n} | {engine} | {rate:.1f} | {against:.2f} | {median(r.first_shard for r in runs):.0f} s | "
            f"{max(r.memory for r in runs) / 1e6:.0f} MB | {'yes' if same else 'NO'} |"
        )
    return lines


def write_pool(rows: int, folder: str) -> Path:
    path = Path(folder, "pool.jsonl")
    with gzip.open(bundled.pool_paths()[0], "rt", encoding="utf-8") as lines:
        path.write_text("".join(line for _, line in zip(range(rows), lines, strict=False)), encoding="utf-8")
    return path


@dataclass(frozen=True)
class Sleeping:
    """An encoder that sleeps; where ``slow`` names a file that is not there, the first process is slower."""

    seconds: float
    slow: Path | None = None
    not_portable: str | None = None

    def load(self) -> "Sleeper":
        is_slow = False
        if self.slow is not None:
            try:
                self.slow.open("x").close()
                is_slow = True
            except FileExistsError:
                is_slow = False
        return Sleeper(self.seconds * (SLOWER if is_slow else 1.0))


@dataclass(frozen=True)
class Sleeper:
    """What a worker has of it."""

    seconds: float

    def prepare(self, examples: Sequence[Example]) -> Prepared:
        return prepare_each(examples, lambda example: example.id)

    def encode(self, checkpoint: int, items: Sequence[Any], advance: Advance) -> NDArray[np.float32]:
        time.sleep(self.seconds)
        return np.zeros((len(items), 1), dtype=np.float32)


def measure_cluster(n: int, n_shards: int, seconds: float) -> list[str]:
    import ray
    from ray.cluster_utils import Cluster

    own = {"object_store_memory": 100 << 20}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **own})
    nodes = [cluster.add_node(num_cpus=1, **own) for _ in range(n)]
    lines = ["| case | shards | ideal | took | share of ideal |", "|---|---:|---:|---:|---:|"]
    try:
        ray.init(cluster.address, log_to_driver=False, logging_level=logging.ERROR)
        with tempfile.TemporaryDirectory() as folder, RayActors(max_workers=n, imports=["datasets"]) as executor:
            while not all(actor.greeting for actor in executor.actors):
                executor.serve()
            sleep_by(executor, Path(folder, "first"), 2 * n, Sleeping(0.1))  # what is imported late
            work, ideal = n_shards * seconds, n_shards * seconds / n
            cases = {
                "all alike": (Sleeping(seconds), ideal),
                "one of them three times slower": (
                    Sleeping(seconds, Path(folder, "slow")), work / (n - 1 + 1 / SLOWER)
                ),
                "a node is lost": (Sleeping(seconds), ideal / 3 + (work - n * ideal / 3) / (n - 1)),
            }  # fmt: skip
            for case, (spec, best) in cases.items():
                if "lost" in case:
                    threading.Timer(ideal / 3, lambda: cluster.remove_node(nodes[-1], allow_graceful=False)).start()
                took = sleep_by(executor, Path(folder, case), n_shards, spec)
                print(case, f"{took:.2f} s, ideal {best:.2f} s", flush=True)
                lines.append(
                    f"| {case} | {n_shards} × {seconds:g} s | {best:.1f} s | {took:.1f} s | {best / took:.0%} |"
                )
    finally:
        ray.shutdown()
        cluster.shutdown()
    return lines


def sleep_by(executor: RayActors, folder: Path, n_shards: int, spec: Sleeping) -> float:
    """Return the seconds that it takes to fill a store of so many shards."""
    folder.mkdir()
    pool = Pool.open(
        [write_pool(n_shards, str(folder))],
        cache=folder / "parsed",
        quarantine=Quarantine(folder / "quarantine.jsonl"),
    )
    manifest = Manifest(
        space={}, build={}, dim=1, storage="float32", shard_rows=1,
        checkpoints=[Checkpoint(name="a", weight=1.0)], files=ManifestFile.of(pool.files),
    )  # fmt: skip
    store = FeatureStore.create(folder / "store", manifest)
    began = time.monotonic()
    fill_store(store, pool, spec, "sleeping", executor=executor)
    return time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--shards", type=int, default=160)
    parser.add_argument("--seconds", type=float, default=1.0, help="that a shard sleeps")
    parser.add_argument("--actors", type=int, default=8)
    parser.add_argument("--parts", nargs="+", default=["here", "cluster"], choices=["here", "cluster"])
    arguments = parser.parse_args()
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    said = [
        f"`{' '.join(['python benchmarks/scale.py', *sys.argv[1:]])}`, {time.strftime('%Y-%m-%d')}, "
        f"{os.cpu_count()} cores, load of the machine before (1, 5 and 15 minutes): {load}."
    ]
    if "here" in arguments.parts:
        said += ["", *measure_here(arguments.rows, arguments.rounds)]
    if "cluster" in arguments.parts:
        said += ["", *measure_cluster(arguments.actors, arguments.shards, arguments.seconds)]
    text = "\n".join(said) + "\n"
    name = "scale" if len(arguments.parts) == 2 else f"scale_{arguments.parts[0]}"
    (RESULTS / f"{name}.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
