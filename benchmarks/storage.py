"""What storing features in fewer bits does to the similarity and to what is chosen, on real gradient features.

    python benchmarks/unseen_third.py --features-only      (once, hours)
    python benchmarks/storage.py [--store FOLDER] [--queries FOLDER ...]

The pool is encoded as float16, int8 and single bits, and compared with float32: the error of the similarity, and how
much of the first 5% and of the first 500 by round-robin stays the same. Queries are float32, as a run keeps them. Where
the pool at hand is float16 already, the digits that it lacks are made up: each value is moved at random within what
rounds to it, or a second rounding would look free.

Writes benchmarks/results/storage.md and storage.json.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from handpick.algorithms import rank
from handpick.errors import StoreError
from handpick.store import FeatureStore
from handpick.store.codec import Storage, encode, products, row_norms
from handpick.store.sign_rows import query_slope

Floats = NDArray[np.float32]

BUDGET = 500
SHARE = 0.05
COMPARED: tuple[Storage, ...] = tuple(name for name in get_args(Storage) if name != "float32")


def widened(store: FeatureStore) -> Iterator[tuple[int, Floats]]:
    """The store's rows as float32, with made-up low digits where it holds float16."""
    for start, rows_BD in store.blocks(0):
        if store.manifest.storage == "float16":
            rng = np.random.default_rng(start)
            rows_BD += (rng.random(rows_BD.shape, np.float32) - np.float32(0.5)) * np.spacing(
                rows_BD.astype(np.float16)
            )
        yield start, rows_BD


def target_of(store: FeatureStore) -> str:
    """The folder of its file: targets are named so."""
    return Path(store.manifest.files[0].name).parent.name


def similarities(pool: FeatureStore, query_QD: Floats) -> tuple[dict[Storage, Floats], dict[Storage, int]]:
    """The similarity (Q, N) and the bytes of the store's tensors, for each storage."""
    found = {storage: np.empty((len(query_QD), len(pool)), np.float32) for storage in get_args(Storage)}
    sizes = dict.fromkeys(found, 0)
    for start, rows_BD in widened(pool):
        norms_B = row_norms(rows_BD)
        for storage, similarity_QN in found.items():
            tensors = encode(rows_BD, norms_B, storage)
            sizes[storage] += sum(tensor.nbytes for tensor in tensors.values())
            similarity_QN[:, start : start + len(rows_BD)] = products(
                np.float32(query_slope(storage)) * query_QD, tensors, storage
            )
    return found, sizes


def first_part(scores_N: NDArray[np.floating[Any]]) -> set[int]:
    count = round(SHARE * len(scores_N))
    return set(np.argpartition(-scores_N, count - 1)[:count].tolist())


def shared(one: set[int], other: set[int]) -> float:
    return len(one & other) / len(one)


def compared(exact_QN: Floats, stored_QN: Floats) -> dict[str, float]:
    """How far a similarity is from the exact one, and what that changes."""
    error_QN = stored_QN.astype(np.float64) - exact_QN
    spread_Q = exact_QN.std(axis=1, dtype=np.float64)
    exact_first, stored_first = ([first_part(row_N) for row_N in each_QN] for each_QN in (exact_QN, stored_QN))
    means = [first_part(each_QN.mean(axis=0, dtype=np.float64)) for each_QN in (exact_QN, stored_QN)]
    picked = [set(rank(each_QN, BUDGET, "round-robin").tolist()) for each_QN in (exact_QN, stored_QN)]
    return {
        "rms": float(np.sqrt((error_QN**2).mean())),
        "max": float(np.abs(error_QN).max()),
        "rms_of_spread": float((np.sqrt((error_QN**2).mean(axis=1)) / spread_Q).mean()),
        "bias_of_spread": float((error_QN.mean(axis=1) / spread_Q).mean()),
        "first_by_mean": shared(*means),
        "first_by_query": float(np.mean([shared(e, s) for e, s in zip(exact_first, stored_first, strict=True)])),
        "round_robin_common": len(picked[0] & picked[1]),
        "round_robin_jaccard": len(picked[0] & picked[1]) / len(picked[0] | picked[1]),
    }


def page(pool: FeatureStore, results: list[dict[str, Any]], sizes: dict[Storage, int]) -> str:
    made_up = ", low digits made up" if pool.manifest.storage == "float16" else ""
    lines = [
        f"{len(pool):,} candidates, {pool.dim:,} gradient features (from {pool.manifest.storage}{made_up}), "
        f"numpy {np.__version__}. Bytes a row: "
        + ", ".join(f"{storage} {size / len(pool):,.0f}" for storage, size in sizes.items()) + ".",
        "",
        "Error: of the similarity. Spread: a query's standard deviation over the pool; mean over queries. "
        "First 5%: the share of float32's that stays, ranked by the mean over queries, and by each query (their mean). "
        f"Round-robin: how many of the first {BUDGET} stay, and Jaccard.",
        "",
        "| target (Q) | storage | RMS error | largest error | RMS / spread | mean error / spread | first 5%, mean | "
        "first 5%, each | round-robin | Jaccard |",
        "|" + "---|" * 10,
    ]  # fmt: skip
    lines += [
        f"| {r['target']} ({r['queries']}) | {r['storage']} | {r['rms']:.1e} | {r['max']:.1e} | "
        f"{r['rms_of_spread']:.3%} | {r['bias_of_spread']:+z.3%} | {r['first_by_mean']:.1%} | "
        f"{r['first_by_query']:.1%} | {r['round_robin_common']} of {BUDGET} | {r['round_robin_jaccard']:.3f} |"
        for r in results
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    features = Path("runs/unseen_third/features")
    parser.add_argument("--store", type=Path, default=features / "pool")
    parser.add_argument(
        "--queries", type=Path, nargs="+", help="stores of queries (default: query-* beside the pool's)"
    )
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/storage"))
    args = parser.parse_args()

    folders = args.queries or sorted(args.store.parent.glob("query-*"))
    try:
        pool = FeatureStore.open(args.store)
        queries = {target_of(store): np.asarray(store.array(0)) for store in map(FeatureStore.open, folders)}
    except StoreError as error:
        raise SystemExit(f"{error}\nMake the features with benchmarks/unseen_third.py, or name them.") from error
    if not queries:
        raise SystemExit(f"no queries' features lie beside {args.store}; run benchmarks/unseen_third.py, or name some")

    found, sizes = similarities(pool, np.concatenate(list(queries.values())))
    results: list[dict[str, Any]] = []
    first = 0
    for target, rows_QD in queries.items():
        here = slice(first, first + len(rows_QD))
        first = here.stop
        for storage in COMPARED:
            line = compared(found["float32"][here], found[storage][here])
            results.append({"target": target, "queries": len(rows_QD), "storage": storage} | line)
            print(results[-1], flush=True)
    args.out.with_suffix(".json").write_text(
        json.dumps({"rows": len(pool), "bytes": sizes, "lines": results}, indent=1) + "\n"
    )
    text = page(pool, results, sizes)
    args.out.with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
