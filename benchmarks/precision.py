"""What computing in half precision does to features and to what is chosen.

    python benchmarks/precision.py

Features of the bundled pool and each target, LESS's two sides, at the checkpoints of one warmup in float32. For each
type: the cosine of a pool row to its float32 self, the error of the similarity, the overlap of the best 5% of each
query, and how many of 100 picks stay. A CPU without instructions for a type imitates it: the numbers hold, the time
does not.
"""

import argparse
from pathlib import Path

import numpy as np
from projection import overlap, records
from torch import from_numpy

import handpick
from handpick import bundled
from handpick.similarity import similarity


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", nargs="+", default=["gsm8k", "boolq", "mbpp"])
    parser.add_argument("--dtypes", nargs="+", default=["bfloat16"], help="and float16, on a GPU")
    parser.add_argument("--pool", type=int, default=600)
    parser.add_argument("--budget", type=int, default=100)
    parser.add_argument("--runs", type=Path, default=Path("runs/precision"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/precision.md"))
    args = parser.parse_args()

    args.runs.mkdir(parents=True, exist_ok=True)
    pool = args.runs / "pool.jsonl"
    pool.write_bytes(b"".join(records(args.pool)))
    settings = {"pool": str(pool), "model": str(bundled.model_path()), "max_length": 256, "budget": args.budget}

    def run(dtype: str, **more: object) -> dict[str, tuple[np.ndarray, list[str]]]:
        found = {}
        out = args.runs / dtype
        for target in args.targets:
            query = str(bundled.target_path(target))
            selection = handpick.select(query=query, dtype=dtype, out=str(out), **settings, **more)
            pool_store = handpick.FeatureStore.open(out / "features" / "pool")
            (query_store,) = (
                store
                for store in map(handpick.FeatureStore.open, (out / "features").glob("query-*"))
                if set(selection.picked_for) <= set(store.ids)
            )
            found[target] = (similarity(pool_store, query_store), selection.ids)
        return found

    exact = run("float32")
    checkpoints = sorted(str(path) for path in (args.runs / "float32" / "warmup").glob("checkpoint-*"))
    rows_ND = handpick.FeatureStore.open(args.runs / "float32" / "features" / "pool").array(0)
    lines = [
        f"{len(rows_ND)} candidates, LoRA of rank 16, sparse to 8192, against float32.",
        "",
        "| type | cosine to float32, median (lowest) | target | RMS error of the similarity | "
        f"overlap of the first 5% | of {args.budget} picks the same |",
        "|---|---|---|---|---|---|",
    ]
    for dtype in args.dtypes:
        found = run(dtype, checkpoints=checkpoints)
        other_ND = handpick.FeatureStore.open(args.runs / dtype / "features" / "pool").array(0)
        cosine_N = (np.asarray(rows_ND) * np.asarray(other_ND)).sum(1)
        for target, (similarity_QN, chosen) in found.items():
            want_QN, wanted = exact[target]
            lines.append(
                f"| {dtype} | {np.median(cosine_N):.5f} ({cosine_N.min():.5f}) | {target} | "
                f"{np.sqrt(np.mean((similarity_QN - want_QN) ** 2)):.5f} | "
                f"{overlap(from_numpy(similarity_QN), from_numpy(want_QN)):.1%} | {len(set(chosen) & set(wanted))} |"
            )
    args.out.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
