"""Time and memory of a selection from 10^5 to 10^7 candidates, and of the ways that were published.

    pip install POT
    python benchmarks/selection.py [--scale small]

The pool is made up: int8 rows of 1,024 features, each pulled more or less towards one of 32 directions, of which the
queries share 8, so that many want the same candidates. It lies on disk (10 GB for 10^7; --folder says where, and it is
used again). Each line is a process of its own. Its memory is the peak of its anonymous pages (RssAnon, sampled): pages
of a mapped file can be dropped at any time and do not count. Its time is from the open store to the picks.

The published ways get the whole similarity in memory for nothing. They were written from their descriptions. A few of
their picks or rows are timed and multiplied where all would take long; such times are marked with ~.

Writes benchmarks/results/selection.md and selection.json.
"""

import argparse
import json
import multiprocessing
import os
import resource
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handpick.algorithms import find, pick
from handpick.similarity import StoredSimilarity, candidate_features, write_similarity
from handpick.store import Checkpoint, FeatureStore, Manifest, ManifestFile
from handpick.store.shard_file import shard_path, write_shard_file

DIM = 1024
SHARD_ROWS = 65536
DIRECTIONS, OF_QUERIES = 32, 8
GIB = 2**30
MIB = 2**20

Result = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """What is measured: "similarity", the name of an algorithm, or one of ``PEERS`` or ``LIMITS``."""

    what: str
    rows: int
    queries: int
    budget: int = 0
    cold: bool = False  # the files are dropped from memory before


def directions() -> NDArray[np.int8]:
    return np.random.default_rng(0).choice(np.array([-1, 1], np.int8), (DIRECTIONS, DIM))


def query_rows(count: int) -> NDArray[np.float32]:
    """Unit rows, the first of which do not depend on how many there are."""
    rng = np.random.default_rng(1)
    rows_QD = rng.normal(size=(count, DIM)) * 2 + directions()[np.arange(count) % OF_QUERIES]
    return (rows_QD / np.linalg.norm(rows_QD, axis=1, keepdims=True)).astype(np.float32)


def pool_of(folder: Path, rows: int) -> FeatureStore:
    """The store of so many rows, made where it is not there. Its shards are written as they are, not from float32."""
    manifest = Manifest(
        space={"made": "up"},
        build={},
        dim=DIM,
        storage="int8",
        checkpoints=[Checkpoint(name="only", weight=1.0)],
        files=[ManifestFile(name="pool.jsonl", sha256="0" * 64, rows=rows)],
        shard_rows=SHARD_ROWS,
    )
    store = FeatureStore.create(folder / str(rows), manifest)
    for shard in store.missing(0):
        rng = np.random.default_rng([2, shard.start])
        count = shard.stop - shard.start
        values_BD = rng.integers(-90, 91, (count, DIM), np.int8)
        pull_B1 = rng.integers(0, 35, (count, 1), np.int8)
        values_BD += pull_B1 * directions()[rng.integers(DIRECTIONS, size=count)]
        squares_B = [float(row @ row) for row in (row.astype(np.float32) for row in values_BD)]
        tensors = {
            "features": values_BD,
            "scales": (1 / np.sqrt(squares_B)).astype(np.float32),
            "norms": np.ones(count, np.float32),
        }
        write_shard_file(shard_path(store.path, 0, shard), [str(n) for n in range(shard.start, shard.stop)], tensors)
    return store


class Counted:
    """A similarity that counts the passes over it."""

    def __init__(self, whole: StoredSimilarity) -> None:
        self._whole = whole
        self.shape = whole.shape
        self.passes = 0

    def blocks(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        self.passes += 1
        return self._whole.blocks()

    def columns(self, columns_C: NDArray[np.int64]) -> NDArray[np.float32]:
        return self._whole.columns(columns_C)


def timed(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def exhaust(items: Iterable[object]) -> None:
    for _ in items:
        pass


def ours(case: Case, folder: Path) -> Result:
    store = pool_of(folder, case.rows)
    if case.cold:
        drop_from_memory(store)
    counted = Counted(StoredSimilarity(store, [query_rows(case.queries)]))
    if case.what == "similarity":
        return {"seconds": timed(lambda: exhaust(counted.blocks())), "passes": 1}
    began = time.perf_counter()
    readable: Any = counted
    if find(case.what).whole:  # as the pipeline does
        readable = write_similarity(counted, folder / "similarity.npy")
    picks = pick(
        readable, case.budget, case.what, subtasks=[str(q % OF_QUERIES) for q in range(case.queries)],
        candidates=lambda columns_C: candidate_features(store, columns_C),
    )  # fmt: skip
    assert len(picks.columns) == case.budget
    return {"seconds": time.perf_counter() - began, "passes": counted.passes}


def row_scans(similarity_QN: NDArray[np.float32], budget: int, picks: int) -> tuple[float, list[int]]:
    """Round-robin as released: the matrix is copied, and every pick looks for the largest of a whole row.

    Seconds for ``budget`` picks, from the time of the copy and of the first ``picks``, and those.
    """
    began = time.perf_counter()
    left_QN = similarity_QN.copy()
    copied = time.perf_counter()
    chosen = []
    for turn in range(picks):
        chosen.append(int(np.argmax(left_QN[turn % len(left_QN)])))
        left_QN[:, chosen[-1]] = -np.inf
    return copied - began + (time.perf_counter() - copied) * budget / picks, chosen


def row_scans_with_mask(similarity_QN: NDArray[np.float32], budget: int, picks: int) -> tuple[float, list[int]]:
    """The same with the taken ones masked out of the row at every pick, instead of crossed out of the matrix."""
    began = time.perf_counter()
    taken_N = np.zeros(similarity_QN.shape[1], np.bool_)
    chosen = []
    for turn in range(picks):
        row_N = similarity_QN[turn % len(similarity_QN)]
        chosen.append(int(np.argmax(np.where(taken_N, -np.inf, row_N))))
        taken_N[chosen[-1]] = True
    return (time.perf_counter() - began) * budget / picks, chosen


def row_sorts(similarity_QN: NDArray[np.float32], rows: int) -> float:
    """The nearest candidates of each query from a sort of its whole row: seconds for all, from those of some."""
    took = timed(lambda: [np.argsort(-similarity_QN[row], kind="stable")[:5000] for row in range(rows)])
    return took * len(similarity_QN) / rows


def dense_sinkhorn(similarity_QN: NDArray[np.float32]) -> float:
    """The whole plan in float64, by the package that was used."""
    import ot

    n_queries, n_candidates = similarity_QN.shape
    cost_QN = (1 - similarity_QN.astype(np.float64)) / 2
    masses = [np.full(size, 1 / size) for size in (n_queries, n_candidates)]
    return timed(lambda: ot.unbalanced.sinkhorn_unbalanced(*masses, cost_QN, 0.01, (float("inf"), 1e-4)).sum(axis=0))


PEERS: dict[str, Callable[[NDArray[np.float32], Case], Result]] = {
    "row scan a pick (round-robin)": lambda s, case: {
        "seconds": row_scans(s, case.budget, min(case.budget, 200))[0], "extrapolated": case.budget > 200,
    },
    "row scan a pick, masked": lambda s, case: {
        "seconds": row_scans_with_mask(s, case.budget, min(case.budget, 200))[0], "extrapolated": case.budget > 200,
    },
    "row sort a query (knn)": lambda s, case: {"seconds": row_sorts(s, 4), "extrapolated": True},
    "dense Sinkhorn (uot)": lambda s, case: {"seconds": dense_sinkhorn(s)},
}  # fmt: skip


def peer(case: Case, folder: Path) -> Result:
    similarity_QN = write_similarity(StoredSimilarity(pool_of(folder, case.rows), [query_rows(case.queries)]), None)
    return PEERS[case.what](similarity_QN, case)


def shard_files(store: FeatureStore) -> list[Path]:
    return [shard_path(store.path, 0, shard) for shard in store.shards()]


def drop_from_memory(store: FeatureStore) -> None:
    for path in shard_files(store):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def plain_products(case: Case, folder: Path) -> Result:
    """A float32 block in memory multiplied over and over: of both ways round the faster. Seconds for all rows."""
    rows = min(case.rows, 1 << 20)
    query_QD = query_rows(case.queries)
    block_BD = np.random.default_rng(0).standard_normal((1024, DIM), np.float32)
    took = []
    for left, right in ((query_QD, block_BD.T), (block_BD, query_QD.T)):
        out = np.empty((len(left), right.shape[1]), np.float32)
        for _ in range(2):
            took.append(
                timed(lambda a=left, b=right, o=out: exhaust(np.matmul(a, b, out=o) for _ in range(rows // 1024)))
            )
    return {"seconds": min(took) * case.rows / (rows // 1024 * 1024), "extrapolated": case.rows > rows}


def sequential_read(case: Case, folder: Path) -> Result:
    store = pool_of(folder, case.rows)
    if case.cold:
        drop_from_memory(store)
    buffer = bytearray(4 * MIB)

    def read() -> None:
        for path in shard_files(store):
            with path.open("rb", buffering=0) as file:
                while file.readinto(buffer):
                    pass

    return {"seconds": timed(read)}


LIMITS: dict[str, Callable[[Case, Path], Result]] = {"products": plain_products, "read": sequential_read}


def in_child(case: Case, folder: Path, to: Connection) -> None:
    run = peer if case.what in PEERS else LIMITS.get(case.what, ours)
    result = run(case, folder)
    to.send(result | {"resident_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024})


def anonymous_bytes(process: int) -> int:
    try:
        text = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0
    found = [line for line in text.splitlines() if line.startswith("RssAnon")]
    return int(found[0].split()[1]) * 1024 if found else 0


def measured(case: Case, folder: Path) -> Result:
    """A case in a process of its own, whose anonymous memory is looked at a hundred times a second."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=in_child, args=(case, folder, there))
    process.start()
    there.close()
    peak = 0
    while not here.poll(0.01):
        peak = max(peak, anonymous_bytes(process.pid or 0))
    try:
        result: Result = here.recv()
    except EOFError:  # killed for its memory, or an exception that it has printed
        result = {"failed": True}
    process.join()
    line = asdict(case) | result | {"anonymous_mib": peak / MIB}
    print({key: round(value, 3) if isinstance(value, float) else value for key, value in line.items()}, flush=True)
    return line


def check_peers(folder: Path, rows: int) -> None:
    """The published ways choose what ours do, so that it is the same work that is compared."""
    store = pool_of(folder, rows)
    whole_QN = write_similarity(StoredSimilarity(store, [query_rows(64)]), None)
    chosen = pick(whole_QN, 500, "round-robin").columns.tolist()
    assert chosen == row_scans(whole_QN, 500, 500)[1] == row_scans_with_mask(whole_QN, 500, 500)[1]


ONE_PASS = ("round-robin", "doubly-greedy", "mean-max", "knn-uniform", "importance")


def cases(scale: str) -> list[Case]:
    sizes = [10**4, 10**5] if scale == "small" else [10**5, 10**6, 10**7]
    budgets = [10**2, 10**3, 10**4] if scale == "small" else [10**3, 10**4, 10**5]
    largest, budget = sizes[-1], budgets[1]
    found = [Case("products", largest, q) for q in (64, 500)]
    found += [Case("read", largest, 0, cold=cold) for cold in (True, False)]
    found += [Case("similarity", largest, 64, cold=True)]
    found += [Case("similarity", n, q) for q in (64, 500) for n in sizes]
    found += [Case(name, n, 64, budget) for name in ONE_PASS for n in sizes]
    found += [Case("round-robin", largest, 64, b) for b in budgets]
    found += [Case("round-robin", largest, 500, budget)]
    found += [Case("uot", n, 64, budget) for n in sizes[:2]]
    found += [Case("facility-location", n, 64, 10**3) for n in (10**4, 10**5)]
    found += [Case("knn-kde", n, 64, 10**3) for n in (10**4, 3 * 10**4)]
    scans = [name for name in PEERS if name.startswith("row scan")]
    found += [Case(name, n, 64, budget) for name in scans for n in sizes]
    found += [Case(scans[0], largest, 64, budgets[-1])]
    found += [Case("row sort a query (knn)", n, 64) for n in sizes]
    found += [Case("dense Sinkhorn (uot)", n, 64) for n in sizes[:2]]
    return list(dict.fromkeys(found))


def seconds_text(line: Result) -> str:
    seconds = line["seconds"]
    text = f"{seconds / 3600:,.1f} h" if seconds > 7200 else f"{seconds:.2f}" if seconds < 10 else f"{seconds:,.0f}"
    return ("~" if line.get("extrapolated") else "") + text


def aims(lines: list[Result]) -> list[str]:
    """What was aimed for, with what came out."""
    largest = max(line["rows"] for line in lines)

    def one(what: str, **wanted: Any) -> Result:
        return next(
            line for line in lines if line["what"] == what and line["rows"] == largest
            and all(line[key] == value for key, value in wanted.items())
        )  # fmt: skip

    found = []
    for queries, cold in ((64, False), (64, True), (500, False)):
        products, read = one("products", queries=queries)["seconds"], one("read", cold=cold)["seconds"]
        took = one("similarity", queries=queries, cold=cold)["seconds"]
        share = max(products, read) / took
        found.append(
            f"- Similarity of {queries} queries, files {'not ' if cold else ''}in memory: {took:.2f} s, where products "
            f"alone take {products:.2f} s and reading alone {read:.2f} s: {share:.0%} of what the slower allows. "
            f"80%: {'met' if share >= 0.8 else 'missed'}."
        )
    budget = max(line["budget"] for line in lines)
    own, theirs = one("round-robin", queries=64, budget=budget), one("row scan a pick (round-robin)", budget=budget)
    memory = own["anonymous_mib"] / 1024
    found.append(
        f"- Round-robin of {budget:,} from {largest:,} × 64: {own['seconds']:.0f} s, {own['passes']} passes. "
        f"Minutes: {'met' if own['seconds'] < 600 else 'missed'}."
    )
    found.append(f"- In {memory:.2f} GiB of anonymous memory. Under 4 GiB: {'met' if memory < 4 else 'missed'}.")
    found.append(
        f"- Where a row scan a pick takes days: {'met' if theirs['seconds'] > 2 * 86400 else 'missed'}; it takes "
        f"{seconds_text(theirs)} s in {theirs['anonymous_mib'] / 1024:.1f} GiB, once the matrix is there."
    )
    return found


def growth(lines: list[Result]) -> list[str]:
    """The slope of log time over log N, of everything that was measured at several N and else alike."""
    groups: dict[tuple[str, int, int], list[Result]] = {}
    for line in lines:
        if not line["cold"] and "seconds" in line:
            groups.setdefault((line["what"], line["queries"], line["budget"]), []).append(line)
    rows = ["| what | Q | B | N | slope |", "|---|---|---|---|---|"]
    for (what, queries, budget), group in groups.items():
        sizes = [line["rows"] for line in group]
        if len(sizes) > 1:
            slope = np.polyfit(np.log(sizes), np.log([line["seconds"] for line in group]), 1)[0]
            rows.append(f"| {what} | {queries} | {budget or ''} | {min(sizes):,} … {max(sizes):,} | {slope:.2f} |")
    return rows


def page(lines: list[Result], threads: int) -> str:
    cpu = Path("/proc/cpuinfo").read_text().partition("model name\t: ")[2].partition("\n")[0]
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GIB
    table = [
        "| what | N | Q | B | passes | s | of that beyond one pass | anonymous memory, MiB |",
        "|" + "---|" * 8,
    ]
    alone = {
        (line["rows"], line["queries"]): line["seconds"]
        for line in lines
        if line["what"] == "similarity" and not line["cold"]
    }
    for line in lines:
        if "seconds" not in line:
            table.append(
                f"| {line['what']} | {line['rows']:,} | {line['queries']} | {line['budget']:,} | | failed | | |"
            )
            continue
        one_pass = alone.get((line["rows"], line["queries"]))
        is_algorithm = line["what"] not in PEERS and line["what"] not in LIMITS and line["what"] != "similarity"
        beyond = f"{line['seconds'] - one_pass:.2f}" if is_algorithm and one_pass is not None else ""
        table.append(
            f"| {line['what']}{', cold' if line['cold'] else ''} | {line['rows']:,} | {line['queries'] or ''} | "
            f"{format(line['budget'], ',') if line['budget'] else ''} | {line.get('passes', '')} | "
            f"{seconds_text(line)} | {beyond} | {line['anonymous_mib']:,.0f} |"
        )
    return "\n".join([
        f"{cpu}, threads: {threads}, {memory:.0f} GiB, numpy {np.__version__}, POT {version('POT')}; "
        f"int8 store, D = {DIM:,}. ~: extrapolated.", "",
        *aims(lines), "", *table, "", "Growth with N:", "", *growth(lines),
    ]) + "\n"  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", choices=["small", "full"], default="full", help="small: up to 10^5, a minute")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=Path("runs/selection"), help="where the pools lie")
    parser.add_argument("--make", action="store_true", help="make the pools and stop")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/selection"))
    args = parser.parse_args()
    for library in ("OMP", "OPENBLAS", "MKL"):  # read when numpy is loaded, in the children
        os.environ[f"{library}_NUM_THREADS"] = str(args.threads)

    todo = cases(args.scale)
    for rows in sorted({case.rows for case in todo}):
        took = timed(lambda rows=rows: pool_of(args.folder, rows))
        print(f"pool of {rows:,}: {took:.0f} s", flush=True)
    if args.make:
        return
    check_peers(args.folder, 10**4)
    lines = [measured(case, args.folder) for case in todo]
    (args.folder / "similarity.npy").unlink(missing_ok=True)
    args.out.with_suffix(".json").write_text(json.dumps(lines, indent=1) + "\n")
    text = page(lines, args.threads)
    args.out.with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
