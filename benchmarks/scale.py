"""Local processes against Ray's actors on this machine, and actors of a simulated cluster that only sleep.

    python benchmarks/scale.py [--rows 128] [--shard-rows 32] [--rounds 1] [--parts here cluster]
        [--nodes 8] [--actors 8] [--shards 160] [--seconds 1]

"here": the shipped model makes gradient features of the first records of the shipped pool as ``handpick select`` does,
by 1 and 2 workers of one thread each, local and by Ray, in turns. Features a second are those of the stage "pool
features", which has the workers' start in it, and those from the first shard to the last; in that time is also counted
what the processors did for a feature, over the command's process and all below it (Ray's own among them), which depends
little on what else runs on the machine. The time to the first shard counts from the start of the command; the driver's
memory is the most that the process itself has had. The shards' bytes are compared.

"cluster": ``ray.cluster_utils.Cluster`` starts nodes on this machine, and an encoder sleeps in place of a model, so
that what is measured is how shards are given out: from half to one and a half of ``--seconds`` a shard; then with an
eighth of the workers three times slower; then so, with three nodes taken away after a quarter, half and three quarters
of the time. The share of ideal is the sleep for shards that were finished, over the seconds that the workers lived from
the beginning of their first shard to the end of the store or of their node. What is not in it stands apart: the time
until the first shard was begun, and the shards that were begun in vain. The actors have started, and a small store has
been filled by them, before.

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
_LOOK = 0.25  # seconds between two looks at a run
WAYS = [(engine, n) for n in (1, 2) for engine in ("local", "ray")]


@dataclass(frozen=True)
class Ran:
    """What one run took."""

    rate: float
    later_rate: float
    processor: float
    first_shard: float
    memory: int
    digest: str


def run_here(engine: str, n: int, pool: Path, shard_rows: int) -> Ran:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out")
        command = [
            sys.executable, "-m", "handpick", "select", "--pool", str(pool), "--query",
            str(bundled.target_path("gsm8k")), "--model", str(bundled.model_path()), "--method", "gradient-rr",
            "--warmup", "none", "--budget", "5", "--max-length", "256", "--shard-rows", str(shard_rows),
            "--out", str(out),
            *(["--workers", str(n)] if engine == "local" else ["--engine", "ray", "--max-workers", str(n)]),
        ]  # fmt: skip
        environment = {**os.environ, "OMP_NUM_THREADS": str(n), "PYTHONPATH": str(ROOT / "src")}
        began = time.time()
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        memory, spent = 0, dict[int, float]()
        seen: list[
            tuple[int, float, float]
        ] = []  # shards that are written, since when, seconds of processors till then
        while process.poll() is None:
            memory = max(memory, _resident(process.pid))
            spent |= _processor_seconds(process.pid)
            n = len(list(out.glob("features/pool*/shards/0/*.json")))
            if n > (seen[-1][0] if seen else 0):
                seen.append((n, time.time(), sum(spent.values())))
            time.sleep(_LOOK)
        if process.returncode:
            raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
        cost = json.loads((out / "cost.json").read_text())
        shards = sorted(path for path in out.glob("features/pool*/shards/*/*") if path.is_file())
        rows = sum(len(json.loads(path.read_text())["ids"]) for path in shards if path.suffix == ".json")
        digest = hashlib.sha256(b"".join(path.read_bytes() for path in shards)).hexdigest()[:12]
        (n_first, first, before), (n_last, last, after) = seen[0], seen[-1]
        later = rows * (n_last - n_first) / n_last
        return Ran(
            rows / cost["seconds"]["pool features"],
            later / (last - first),
            (after - before) / later,
            first - began,
            memory,
            digest,
        )


def _processor_seconds(root: int) -> dict[int, float]:
    """Return the seconds that a process and all below it have computed, by process."""
    children: dict[int, list[int]] = {}
    seconds: dict[int, float] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        pid = int(path.parent.name)
        children.setdefault(int(fields[1]), []).append(pid)
        seconds[pid] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    found, left = {}, [root]
    while left:
        pid = left.pop()
        found[pid] = seconds.get(pid, 0.0)
        left += children.get(pid, [])
    return found


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


def measure_here(rows: int, shard_rows: int, rounds: int) -> list[str]:
    found: dict[tuple[str, int], list[Ran]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        pool = write_pool(rows, folder)
        for _ in range(rounds):
            for engine, n in WAYS:
                found[engine, n].append(run_here(engine, n, pool, shard_rows))
                print(engine, n, found[engine, n][-1], flush=True)
    same = len({run.digest for runs in found.values() for run in runs}) == 1
    lines = [
        "| workers | engine | features/s | after the first shard | against local | processor s a feature | "
        "against local | first shard after | driver's memory | same bytes |",
        "|---:|---|---:|---:|---:|---:|---:|---:|---:|---|",
    ]
    for (engine, n), runs in sorted(found.items(), key=lambda each: each[0][1]):
        rate, later, processor = (
            median(getattr(run, name) for run in runs) for name in ("rate", "later_rate", "processor")
        )
        local = found["local", n]
        against = later / median(run.later_rate for run in local)
        dearer = processor / median(run.processor for run in local)
        lines.append(
            f"| {n} | {engine} | {rate:.1f} | {later:.1f} | {against:.2f} | {processor:.3f} | {dearer:.2f} | "
            f"{median(r.first_shard for r in runs):.0f} s | {max(r.memory for r in runs) / 1e6:.0f} MB | "
            f"{'yes' if same else 'NO'} |"
        )
    return lines


def write_pool(rows: int, folder: str) -> Path:
    path = Path(folder, "pool.jsonl")
    with gzip.open(bundled.pool_paths()[0], "rt", encoding="utf-8") as lines:
        path.write_text("".join(line for _, line in zip(range(rows), lines, strict=False)), encoding="utf-8")
    return path


@dataclass(frozen=True)
class Sleeping:
    """An encoder that sleeps for a shard as long as its record says, and writes down when.

    Each process takes a number as it loads this; the first ``slow`` of them sleep ``SLOWER`` times as long.
    """

    seconds: float
    slow: int
    notes: Path
    not_portable: str | None = None

    def load(self) -> "Sleeper":
        number = 0
        while True:
            try:
                (self.notes / str(number)).open("x").close()
                return Sleeper(self.seconds * (SLOWER if number < self.slow else 1.0), self.notes / str(number))
            except FileExistsError:
                number += 1


@dataclass(frozen=True)
class Sleeper:
    """What a worker has of it. Shards take from half to one and a half of ``seconds``, each the same everywhere."""

    seconds: float
    note: Path

    def prepare(self, examples: Sequence[Example]) -> Prepared:
        return prepare_each(examples, lambda example: example.id)

    def encode(self, checkpoint: int, items: Sequence[Any], advance: Advance) -> NDArray[np.float32]:
        (name,) = items
        self._say("begin", name)
        time.sleep(self.seconds * (0.5 + int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) / 2**32))
        self._say("end", name)
        return np.zeros((len(items), 1), dtype=np.float32)

    def _say(self, what: str, name: str) -> None:
        with self.note.open("a") as file:
            file.write(json.dumps([what, name, time.time(), node_here()]) + "\n")


def node_here() -> str:
    """Return which of the cluster's nodes this process is on."""
    import ray

    return ray.get_runtime_context().get_node_id()


@dataclass(frozen=True)
class Slept:
    """What workers wrote down: seconds slept for shards that were finished, and those that the workers lived."""

    useful: float
    alive: float
    again: int
    workers: int


def read_notes(notes: Path, over: float, lost: dict[str, float]) -> Slept:
    """Add up a case.

    Args:
        notes: a file a process.
        over: when the store was whole.
        lost: when each node that is gone was taken away.
    """
    useful = alive = 0.0
    begun = finished = workers = 0
    done: set[str] = set()
    for path in notes.iterdir():
        said = [json.loads(line) for line in path.read_text().splitlines()]
        if not said:
            continue
        workers += 1
        alive += min(over, lost.get(said[0][3], over)) - said[0][2]
        since = 0.0
        for what, name, when, _ in said:
            begun += what == "begin"
            if what == "begin":
                since = when
            elif name not in done:
                done.add(name)
                finished += 1
                useful += when - since
    return Slept(useful, alive, begun - finished, workers)


def measure_cluster(n_nodes: int, n_actors: int, n_shards: int, seconds: float) -> list[str]:
    import ray
    from ray.cluster_utils import Cluster

    own = {"object_store_memory": 80 << 20}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **own})
    nodes = [cluster.add_node(num_cpus=n_actors // n_nodes, **own) for _ in range(n_nodes)]
    lines = [
        "| case | workers | shards | slept | workers lived | share of ideal | first shard after | driver's processor | "
        "begun again |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    try:
        ray.init(cluster.address, log_to_driver=False, logging_level=logging.ERROR)
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder, RayActors(max_workers=n_actors, imports=["datasets"]) as executor:
            while not all(actor.greeting for actor in executor.actors):
                executor.serve()
            print(f"{n_actors} actors have started after {time.monotonic() - began:.0f} s", flush=True)
            sleep_by(executor, Path(folder, "first"), 2 * n_actors, 0.1, 0, {}, [])  # what is imported late
            for case, slow, n_lost in (
                ("all alike", 0, 0),
                ("an eighth three times slower", n_actors // 8, 0),
                ("so, and three nodes lost", n_actors // 8, min(3, n_nodes - 1)),
            ):
                lost: dict[str, float] = {}
                ideal = n_shards * seconds / n_actors
                timers = [
                    threading.Timer(ideal * (k + 1) / 4, lose, (cluster, node, lost))
                    for k, node in enumerate(nodes[:n_lost])
                ]
                before = time.process_time()
                found, first = sleep_by(executor, Path(folder, case), n_shards, seconds, slow, lost, timers)
                computed = time.process_time() - before
                share = found.useful / found.alive
                lines.append(
                    f"| {case} | {n_actors} | {n_shards} × {seconds:g} s | {found.useful:.0f} s | {found.alive:.0f} s "
                    f"| {share:.0%} | {first:.1f} s | {computed:.1f} s | {found.again} |"
                )
                print(lines[-1], flush=True)
    finally:
        ray.shutdown()
        cluster.shutdown()
    return lines


def lose(cluster: Any, node: Any, lost: dict[str, float]) -> None:
    """Take a node away at once, with all that runs on it."""
    lost[node.node_id] = time.time()
    cluster.remove_node(node, allow_graceful=False)


def sleep_by(
    executor: RayActors,
    folder: Path,
    n_shards: int,
    seconds: float,
    slow: int,
    lost: dict[str, float],
    timers: list[threading.Timer],
) -> tuple[Slept, float]:
    """Fill a store of so many shards; return what was slept, and the seconds until the first shard was begun."""
    notes = folder / "notes"
    notes.mkdir(parents=True)
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
    for timer in timers:
        timer.start()
    began = time.time()
    fill_store(store, pool, Sleeping(seconds, slow, notes), "sleeping", executor=executor)
    over = time.time()
    for timer in timers:
        timer.cancel()
    first = min(json.loads(path.read_text().partition("\n")[0])[2] for path in notes.iterdir() if path.stat().st_size)
    return read_notes(notes, over, lost), first - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=128)
    parser.add_argument("--shard-rows", type=int, default=SHARD)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--shards", type=int, default=160)
    parser.add_argument("--seconds", type=float, default=1.0, help="that a shard sleeps")
    parser.add_argument("--nodes", type=int, default=8)
    parser.add_argument("--actors", type=int, default=8)
    parser.add_argument("--parts", nargs="+", default=["here", "cluster"], choices=["here", "cluster"])
    arguments = parser.parse_args()
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    said = [
        f"`{' '.join(['python benchmarks/scale.py', *sys.argv[1:]])}`, {time.strftime('%Y-%m-%d')}, "
        f"{os.cpu_count()} cores, load of the machine before (1, 5 and 15 minutes): {load}."
    ]
    if "here" in arguments.parts:
        said += ["", *measure_here(arguments.rows, arguments.shard_rows, arguments.rounds)]
    if "cluster" in arguments.parts:
        said += ["", *measure_cluster(arguments.nodes, arguments.actors, arguments.shards, arguments.seconds)]
    text = "\n".join(said) + "\n"
    name = "scale" if len(arguments.parts) == 2 else f"scale_{arguments.parts[0]}"
    (RESULTS / f"{name}.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
