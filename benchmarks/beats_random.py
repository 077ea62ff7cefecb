"""Does a selection teach the target more than a random choice of the same size?

    python benchmarks/beats_random.py

On the shipped model and demo pool: 100 chosen for each target by each method, against ten random draws of 100, three
fine-tuning seeds each, one recipe for all (benchmarks/finetune.py). Reported is the loss on a fixed random sample of
the target's test set, found through HANDPICK_DATA. A run that is stopped goes on from its results file.
"""

import argparse
import os
from collections import Counter
from pathlib import Path

import numpy as np
from finetune import MAX_LENGTH, against_random, read, rendered, renderer_of, run

import handpick
from handpick import bundled
from handpick.data.pool import Pool
from handpick.data.render import Rendered, Renderer

DATA = Path(os.environ.get("HANDPICK_DATA", Path(__file__).parents[1] / ".." / "shared" / "data"))
# what of the pool is of the target's own kind
LIKE = {
    "gsm8k": {("flan_cot", "gsm8k")},
    "boolq": {("llm_adapters", "boolq")},
    "mbpp": {("mbpp", "train"), ("gpteacher", "codegen")},
}


def test_set(target: str, n: int, scratch: Path, renderer: Renderer) -> list[Rendered]:
    """A fixed random sample of a target's test set."""
    whole = rendered(read([DATA / "targets" / target / "test.jsonl.gz"], scratch), renderer)
    return [whole[i] for i in sorted(np.random.default_rng(0).permutation(len(whole))[:n])]


def share(pool: Pool, ids: list[str], target: str) -> float:
    wanted = dict(zip(pool.ids(), zip(pool.column("source"), pool.column("category"), strict=True), strict=True))
    return sum(wanted[i] in LIKE[target] for i in ids) / len(ids)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(bundled.model_path()))
    parser.add_argument("--targets", nargs="+", default=["gsm8k", "boolq", "mbpp"])
    parser.add_argument("--methods", nargs="+", default=["less-rr"])
    parser.add_argument("--budget", type=int, default=100)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tests", type=int, default=500, help="test examples a target")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--runs", type=Path, default=Path("runs/beats_random"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/beats_random"))
    args = parser.parse_args()

    pool = read(bundled.pool_paths(), args.runs)
    renderer = renderer_of(args.model)
    tests = {name: test_set(name, args.tests, args.runs, renderer) for name in args.targets}
    row_of = {example_id: row for row, example_id in enumerate(pool.ids())}

    def sequences(ids: list[str]) -> list[Rendered]:
        return [renderer(pool[row_of[i]].messages, MAX_LENGTH) for i in ids]

    chosen: dict[tuple[str, str], list[str]] = {}
    for method in args.methods:
        for target in args.targets:
            selection = handpick.select(
                pool=bundled.pool_paths(), query=bundled.target_path(target), model=args.model, method=method,
                budget=args.budget, max_length=MAX_LENGTH, out=str(args.runs / "features"),
            )  # fmt: skip
            chosen[method, target] = selection.ids
    usable = handpick.FeatureStore.open(args.runs / "features" / "features" / "pool").ids
    named = {f"{method} {target}": (ids, {target: tests[target]}) for (method, target), ids in chosen.items()}
    jobs = against_random(
        args.model, named, usable, sequences, tests, budget=args.budget, draws=args.draws, seeds=args.seeds
    )
    losses = run(jobs, args.out.with_suffix(".json"), args.workers)

    lines = [
        "| target | method | share of its kind: pool → chosen | zero-shot | random, mean (sd over draws; best draw) | "
        "chosen, mean (each seed) | random draws beaten |",
        "|---|---|---|---|---|---|---|",
    ]
    for target in args.targets:
        random = np.array([[losses[f"random-{d} {s}"][target] for s in range(args.seeds)] for d in range(args.draws)])
        by_draw = random.mean(1)
        for method in args.methods:
            own = np.array([losses[f"{method} {target} {s}"][target] for s in range(args.seeds)])
            lines.append(
                f"| {target} | {method} | {share(pool, usable, target):.3f} → "
                f"{share(pool, chosen[method, target], target):.2f} | {losses['zero-shot 0'][target]:.3f} | "
                f"{by_draw.mean():.3f} ({by_draw.std(ddof=1):.3f}; {by_draw.min():.3f}) | "
                f"{own.mean():.3f} ({', '.join(f'{x:.3f}' for x in own)}) | "
                f"{int((by_draw > own.mean()).sum())} of {args.draws} |"
            )
    lines += ["", "What was chosen, by source and category:", ""]
    kind = dict(zip(pool.ids(), zip(pool.column("source"), pool.column("category"), strict=True), strict=True))
    for (method, target), ids in chosen.items():
        top = Counter("/".join(kind[i]) for i in ids).most_common(6)
        lines.append(f"- {target}, {method}: " + ", ".join(f"{name} {count}" for name, count in top))
    table = "\n".join(lines)
    args.out.with_suffix(".md").write_text(table + "\n")
    print(table)


if __name__ == "__main__":
    main()
