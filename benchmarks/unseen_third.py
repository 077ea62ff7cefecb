"""less-rr on the third of the pool that the shipped model has never seen, about 35,000 examples, for five targets.

    python benchmarks/unseen_third.py

Reported for each target: what the first 500 are, by source and category, and the test loss after fine-tuning on them
(benchmarks/finetune.py) against random draws of 500. The features of the pool are made once and shared. The data is
found through HANDPICK_DATA. A run that is stopped goes on from what is there.
"""

import argparse
import gzip
import json
from collections import Counter
from pathlib import Path

import numpy as np
from beats_random import DATA, test_set
from finetune import MAX_LENGTH, against_random, read, renderer_of, run

import handpick
from handpick import bundled
from handpick.bundled.split import is_unseen, normalise_messages
from handpick.data.examples import Message
from handpick.data.render import Rendered


def unseen(pool: Path, out: Path) -> Path:
    """The unseen third of the pool, less exact duplicates, as a file of its own."""
    if not out.exists():
        out.parent.mkdir(parents=True, exist_ok=True)
        seen: set[str] = set()
        with gzip.open(pool, "rb") as lines, out.open("wb") as kept:
            for line in lines:
                messages = [Message(m["role"], m["content"]) for m in json.loads(line)["messages"]]
                text = normalise_messages(messages)
                if is_unseen(messages) and text not in seen:
                    seen.add(text)
                    kept.write(line)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(bundled.model_path()))
    parser.add_argument("--targets", nargs="+", default=["gsm8k", "boolq", "mbpp", "ag_news", "xquad"])
    parser.add_argument("--budget", type=int, default=500)
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--tests", type=int, default=500)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--dtype", default="auto", help="of the gradients")
    parser.add_argument("--runs", type=Path, default=Path("runs/unseen_third"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/unseen_third"))
    parser.add_argument("--features-only", action="store_true", help="stop when the pool's features are there")
    args = parser.parse_args()

    source = unseen(DATA / "pool" / "pool.jsonl.gz", args.runs / "unseen.jsonl")
    settings = {
        "pool": str(source), "model": args.model, "out": str(args.runs), "max_length": MAX_LENGTH,
        "dtype": args.dtype, "storage": "float16",
    }  # fmt: skip
    store = handpick.represent_pool(**settings)
    if args.features_only:
        return
    pool = read([source], args.runs)
    renderer = renderer_of(args.model)
    tests = {name: test_set(name, args.tests, args.runs, renderer) for name in args.targets}
    row_of = {example_id: row for row, example_id in enumerate(pool.ids())}
    kinds = list(zip(pool.column("source"), pool.column("category"), strict=True))

    def sequences(ids: list[str]) -> list[Rendered]:
        return [renderer(pool[row_of[i]].messages, MAX_LENGTH) for i in ids]

    chosen = {
        target: handpick.select(
            query=str(DATA / "targets" / target / "dev.jsonl.gz"), budget=args.budget, **settings
        ).ids
        for target in args.targets
    }
    usable = store.ids
    named = {f"less-rr {target}": (ids, {target: tests[target]}) for target, ids in chosen.items()}
    jobs = against_random(
        args.model, named, usable, sequences, tests, budget=args.budget, draws=args.draws, seeds=args.seeds
    )
    losses = run(jobs, args.out.with_suffix(".json"), args.workers)

    lines = [
        f"{len(usable):,} candidates, {args.budget} chosen, {args.tests} test examples a target.",
        "",
        "| target | zero-shot | random (each draw, mean over seeds) | less-rr (mean over seeds) |",
        "|---|---|---|---|",
    ]
    for target in args.targets:
        draws = [np.mean([losses[f"random-{d} {s}"][target] for s in range(args.seeds)]) for d in range(args.draws)]
        own = np.mean([losses[f"less-rr {target} {s}"][target] for s in range(args.seeds)])
        each = ", ".join(f"{loss:.3f}" for loss in draws)
        lines.append(f"| {target} | {losses['zero-shot 0'][target]:.3f} | {each} | {own:.3f} |")
    lines += ["", f"The first {args.budget} by source and category (share of the pool in brackets):", ""]
    base = Counter("/".join(kind) for kind in kinds)
    for target, ids in chosen.items():
        top = Counter("/".join(kinds[row_of[i]]) for i in ids).most_common(8)
        shares = ", ".join(f"{name} {n / len(ids):.0%} ({base[name] / len(pool):.1%})" for name, n in top)
        lines.append(f"- **{target}**: {shares}")
    table = "\n".join(lines)
    args.out.with_suffix(".md").write_text(table + "\n")
    print(table)


if __name__ == "__main__":
    main()
