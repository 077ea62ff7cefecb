"""What each random projection does to real gradients: the error of the cosine, and which candidates come first.

    python benchmarks/projection.py
    python benchmarks/projection.py --time    # milliseconds a row instead, 4.19 M coordinates to 8192, in one thread

Raw gradients (``--projection none``) of the bundled pool and target at the checkpoint of a small warmup, the pool's
through Adam as LESS has it. Each projection is compared with the exact cosine: the root mean square error over all
pairs of query and candidate, and the overlap of the best 5% of the candidates of each query, averaged over seeds.
Beside what handpick offers stand two that it does not: a random output for every coordinate (count sketch), and
output = coordinate modulo K (the sign fold), both written out here.
"""

import argparse
import gzip
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import handpick
from handpick import bundled
from handpick.gradients.projection import projection, random_bits

Project = Callable[[Tensor], Tensor]


def ours(kind: str, dim: int, seed: int, nonzeros: int = 1) -> Project:
    def apply(rows_ND: Tensor) -> Tensor:
        p = projection(kind, rows_ND.shape[1], dim, seed, nonzeros)  # type: ignore[arg-type]
        sums = p.begin(len(rows_ND), rows_ND)
        p.add(sums, rows_ND, 0)
        return p.finish(sums)

    return apply


def signed(rows_ND: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    bits_D = random_bits(torch.arange(rows_ND.shape[1]), seed)
    return bits_D, rows_ND * (1 - 2 * (bits_D & 1))


def count_sketch(dim: int, seed: int) -> Project:
    def apply(rows_ND: Tensor) -> Tensor:
        bits_D, signed_ND = signed(rows_ND, seed)
        return torch.zeros(len(rows_ND), dim).index_add_(1, (bits_D >> 8) % dim, signed_ND)

    return apply


def sign_fold(dim: int, seed: int) -> Project:
    def apply(rows_ND: Tensor) -> Tensor:
        _, signed_ND = signed(rows_ND, seed)
        missing = -rows_ND.shape[1] % dim
        return torch.nn.functional.pad(signed_ND, (0, missing)).unflatten(1, (-1, dim)).sum(1)

    return apply


def cosines_QN(query_QK: Tensor, pool_NK: Tensor) -> Tensor:
    unit = torch.nn.functional.normalize
    return unit(query_QK) @ unit(pool_NK).T


def overlap(got_QN: Tensor, want_QN: Tensor, share: float = 0.05) -> float:
    """The share of each query's best candidates that stay among its best, averaged over queries."""
    k = max(1, round(share * got_QN.shape[1]))
    got_Qk, want_Qk = got_QN.topk(k).indices.tolist(), want_QN.topk(k).indices.tolist()
    return float(np.mean([len(set(g) & set(w)) / k for g, w in zip(got_Qk, want_Qk, strict=True)]))


def raw_gradients(target: str, n_pool: int, rank: int, runs: Path) -> tuple[Tensor, Tensor]:
    """(Q, D) plain and (N, D) Adam-preconditioned gradients, unit rows."""
    lora = {"rank": rank, "alpha": 2 * rank, "dropout": 0.0}
    warmup = {"epochs": 1, "learning_rate": 4e-3, "batch": 8, "lora": lora}
    runs.mkdir(parents=True, exist_ok=True)
    pool = runs / "pool.jsonl"
    pool.write_bytes(b"".join(records(n_pool)))
    settings = {
        "pool": str(pool), "model": str(bundled.model_path()), "out": str(runs), "projection": "none",
        "warmup": warmup, "max_length": 256, "dtype": "float32",
    }  # fmt: skip
    handpick.select(query=str(bundled.target_path(target)), budget=10, **settings)
    query = next((runs / "features").glob("query-*"))
    stores = [handpick.FeatureStore.open(path) for path in (query, runs / "features" / "pool")]
    query_QD, pool_ND = (torch.from_numpy(np.array(store.array(0))) for store in stores)
    return query_QD, pool_ND


def records(n: int) -> list[bytes]:
    """``n`` records of the bundled pool, evenly spaced."""
    every = [line for path in bundled.pool_paths() for line in gzip.decompress(path.read_bytes()).splitlines(True)]
    return [every[i] for i in np.linspace(0, len(every) - 1, n).astype(int)]


def time_them() -> None:
    """Medians of nine rounds in turn: 22 rows, a layer of 65,536 coordinates at a time, as the engine feeds them."""
    torch.set_num_threads(1)
    n_rows, size, n_layers, dim = 22, 1 << 16, 64, 8192
    rows_BP = torch.randn(n_rows, size, generator=torch.Generator().manual_seed(0))
    sparse = {s: projection("sparse", size * n_layers, dim, 0, s) for s in (1, 4)}
    outputs_LP = (random_bits(torch.arange(size * n_layers), 1) >> 8).remainder(2 * dim).view(n_layers, size)

    def by_runs(s: int) -> None:
        sums = sparse[s].begin(n_rows, rows_BP)
        for layer in range(n_layers):
            for start in range(0, size, dim):
                sparse[s].add(sums, rows_BP[:, start : start + dim], layer * size + start)
        sparse[s].finish(sums)

    def to_random_outputs() -> None:
        sums_BK = torch.zeros(n_rows, 2 * dim)  # plus and minus apart, so that no sign is multiplied
        for output_P in outputs_LP:
            sums_BK.scatter_add_(1, output_P.expand(n_rows, size), rows_BP)

    contenders = {
        "sparse, s = 1": lambda: by_runs(1), "sparse, s = 4": lambda: by_runs(4),
        "count sketch by scatter_add_": to_random_outputs,
    }  # fmt: skip
    took: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(10):
        for name, contender in contenders.items():
            began = time.perf_counter()
            contender()
            took[name].append((time.perf_counter() - began) / n_rows * 1000)
    print("| projection | ms a row |\n|---|---|")
    for name, times in took.items():
        print(f"| {name} | {np.median(times[1:]):.1f} |")  # the first round makes the signs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="gsm8k")
    parser.add_argument("--pool", type=int, default=600)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--seeds", type=int, default=5, help="of each projection; the dense one gets two")
    parser.add_argument("--dims", type=int, nargs="+", default=[1024, 2048, 4096, 8192, 16384])
    parser.add_argument("--runs", type=Path, default=Path("runs/projection"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/projection"))
    parser.add_argument("--time", action="store_true", help="time them instead")
    args = parser.parse_args()
    if args.time:
        time_them()
        return

    query_QD, pool_ND = raw_gradients(args.target, args.pool, args.rank, args.runs / f"{args.target}-{args.rank}")
    exact_QN = cosines_QN(query_QD, pool_ND)
    kinds: dict[str, Callable[[int, int], Project]] = {
        "rademacher (dense)": lambda dim, seed: ours("rademacher", dim, seed),
        **{f"sparse, s = {s}": lambda dim, seed, s=s: ours("sparse", dim, seed, s) for s in (1, 2, 4, 8)},
        "count sketch (random outputs)": count_sketch,
        "sign fold (coordinate mod K)": sign_fold,
    }
    found: dict[str, dict[int, dict[str, list[float]]]] = {}
    for name, make in kinds.items():
        for dim in args.dims:
            cell = found.setdefault(name, {}).setdefault(dim, {"rms": [], "bias": [], "overlap": []})
            for seed in range(min(args.seeds, 2) if "dense" in name else args.seeds):
                project = make(dim, seed)
                got_QN = cosines_QN(project(query_QD), project(pool_ND))
                cell["rms"].append(float((got_QN - exact_QN).square().mean().sqrt()))
                cell["bias"].append(float((got_QN - exact_QN).mean()))
                cell["overlap"].append(overlap(got_QN, exact_QN))
        print(name, {dim: round(float(np.mean(cell["rms"])), 5) for dim, cell in found[name].items()}, flush=True)
    table = [
        f"{len(query_QD)} queries of {args.target}, {len(pool_ND)} candidates, D = {query_QD.shape[1]:,}, rank "
        f"{args.rank}. Each cell: RMS error of the cosine (its sd over seeds); overlap of the first 5%.",
        "",
        "| projection | " + " | ".join(f"K = {dim:,}" for dim in args.dims) + " |",
        "|---|" + "---|" * len(args.dims),
    ]
    for name, cells in found.items():
        texts = [
            f"{np.mean(c['rms']):.4f} ({np.std(c['rms']):.4f}); {np.mean(c['overlap']):.0%}" for c in cells.values()
        ]
        table.append(f"| {name} | " + " | ".join(texts) + " |")
    text = "\n".join(table) + "\n"
    args.out.with_suffix(".md").write_text(text)
    args.out.with_suffix(".json").write_text(json.dumps(found, indent=1))
    print(text)


if __name__ == "__main__":
    main()
