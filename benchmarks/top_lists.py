"""Round-robin from lists a query: how deep they are walked, and what a pass takes that workers share.

    python benchmarks/top_lists.py [--rows 10000000] [--workers 1 2]

Depth, by simulation: Gaussian similarities of 64 queries that have a part r of their variance in common, a budget of a
thousandth of the pool, pools of several sizes. Depth is the place, in a query's own order of the whole pool, of its
last pick, over its share of the budget; the largest of all queries.

The pass: int8 rows of 64 features on disk, 64 queries, a budget of a hundredth of the pool, one thread for matrix
products. Each line is a process of its own. Its memory is the peak of its anonymous pages, sampled.

Writes benchmarks/results/top_lists.md.
"""

import argparse
import hashlib
import math
import multiprocessing
import os
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from handpick.algorithms import pick
from handpick.similarity import StoredSimilarity
from handpick.store import Checkpoint, FeatureStore, Manifest, ManifestFile
from handpick.store.shard_file import shard_path, write_shard_file

QUERIES, DIM, SHARD_ROWS = 64, 64, 65536
MIB = 2**20


class Drawn:
    """Gaussian similarities, drawn again at every pass, which it counts."""

    def __init__(self, n: int, common: float) -> None:
        self.shape = QUERIES, n
        self.passes = 0
        self._common = common

    def blocks(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        self.passes += 1
        for start in range(0, self.shape[1], SHARD_ROWS):
            rng = np.random.default_rng(start)
            count = min(SHARD_ROWS, self.shape[1] - start)
            common_B = rng.standard_normal(count, np.float32)
            own_QB = rng.standard_normal((QUERIES, count), np.float32)
            yield (
                start,
                np.float32(math.sqrt(self._common)) * common_B + np.float32(math.sqrt(1 - self._common)) * own_QB,
            )

    def columns(self, columns_C: NDArray[np.int64]) -> NDArray[np.float32]:
        raise NotImplementedError  # nothing here asks for single columns


def depth(n: int, common: float) -> tuple[float, int]:
    """How deep the deepest list is walked, over a query's share, and the passes."""
    similarity, budget = Drawn(n, common), n // 1000
    picks = pick(similarity, budget)
    passes = similarity.passes
    last_Q = np.full(QUERIES, np.inf, np.float32)
    last_Q[picks.queries] = picks.scores  # of several, the last
    place_Q = sum((block_QB >= last_Q[:, None]).sum(axis=1) for _, block_QB in similarity.blocks())
    return float(np.max(place_Q) / math.ceil(budget / QUERIES)), passes


def pool_of(folder: Path, rows: int) -> FeatureStore:
    """The store of so many rows, made where it is not there; its shards are written as they are."""
    manifest = Manifest(
        space={"made": "up"}, build={}, dim=DIM, storage="int8", shard_rows=SHARD_ROWS,
        checkpoints=[Checkpoint(name="only", weight=1.0)],
        files=[ManifestFile(name="pool.jsonl", sha256="0" * 64, rows=rows)],
    )  # fmt: skip
    store = FeatureStore.create(folder / f"top-{rows}", manifest)
    for shard in store.missing(0):
        rng = np.random.default_rng([3, shard.start])
        count = shard.stop - shard.start
        values_BD = rng.integers(-90, 91, (count, DIM), np.int8)
        values_BD += rng.integers(0, 30, (count, 1), np.int8)  # towards what the queries have in common
        norms_B = np.linalg.norm(values_BD.astype(np.float32), axis=1)
        tensors = {"features": values_BD, "scales": 1 / norms_B, "norms": np.ones(count, np.float32)}
        write_shard_file(shard_path(store.path, 0, shard), [str(n) for n in range(shard.start, shard.stop)], tensors)
    return store


def choose(folder: Path, rows: int, workers: int, to: Connection) -> None:
    store = FeatureStore.open(folder / f"top-{rows}")
    query_QD = np.random.default_rng(1).normal(0.5, 1, (QUERIES, DIM)).astype(np.float32)
    query_QD /= np.linalg.norm(query_QD, axis=1, keepdims=True)
    similarity = StoredSimilarity(store, [query_QD], workers)
    passes = 0
    shares = similarity.shares

    def counted() -> list[tuple[int, object]]:
        nonlocal passes
        passes += 1
        return shares()  # type: ignore[return-value]

    similarity.shares = counted  # type: ignore[assignment,method-assign]
    began, cpu = time.perf_counter(), time.process_time()
    picks = pick(similarity, rows // 100)
    took, used = time.perf_counter() - began, time.process_time() - cpu
    to.send((took, used, passes, hashlib.sha256(picks.columns.tobytes()).hexdigest()[:12]))


def measured(folder: Path, rows: int, workers: int) -> str:
    """A line of the table, and the picks by their digest."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=choose, args=(folder, rows, workers, there))
    process.start()
    there.close()
    peak = 0
    while not here.poll(0.01):
        text = Path(f"/proc/{process.pid}/status").read_text()
        peak = max([peak, *(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("RssAnon"))])
    took, used, passes, picks = here.recv()
    process.join()
    line = (
        f"| {rows:,} | {rows // 100:,} | {workers} | {passes} | {took:.0f} | {used:.0f} | {peak / MIB:.0f} | {picks} |"
    )
    print(line, flush=True)
    return line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10**7)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--sizes", type=int, nargs="+", default=[10**5, 10**6], help="of the simulated pools")
    parser.add_argument("--folder", type=Path, default=Path("runs/selection"), help="where the pool lies")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/top_lists.md"))
    args = parser.parse_args()
    for library in ("OMP", "OPENBLAS", "MKL"):  # read when numpy is loaded, in the children
        os.environ[f"{library}_NUM_THREADS"] = "1"
    sizes = [f"N = {n:,}: depth ÷ share, passes" for n in args.sizes]
    lines = [f"| r | {' | '.join(sizes)} |", "|---" * (len(sizes) + 1) + "|"]
    for common in (0.0, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0):
        found = [depth(n, common) for n in args.sizes]
        lines.append(f"| {common:g} | {' | '.join(f'{deep:.2f}, {passes}' for deep, passes in found)} |")
        print(lines[-1], flush=True)
    pool_of(args.folder, args.rows)
    heads = ["N", "budget", "workers", "passes", "seconds", "processor seconds", "anonymous MiB", "picks"]
    lines += ["", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    lines += [measured(args.folder, args.rows, workers) for workers in args.workers]
    load = f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores at the end"
    said = (
        f"`python benchmarks/top_lists.py`, {load}. r: common part of the variance; picks: digest of what was chosen."
    )
    args.out.write_text("\n".join([said, "", *lines]) + "\n")


if __name__ == "__main__":
    main()
