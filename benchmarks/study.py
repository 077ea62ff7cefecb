"""The study of docs/study.md: methods × targets × seeds on the third of the pool that the shipped model has never seen.

    python benchmarks/study.py                    # zero-shot, random × 10, six methods, six targets, budget 100
    handpick report runs/study                    # its page, plots and tables

Writes RUNS/study.yaml and does what `handpick study RUNS/study.yaml` does; a run that is stopped goes on. The features
of 34,000 candidates are hours on two CPU cores: with --features, those that benchmarks/presets.py made are taken. The
data is found through HANDPICK_DATA. The tables are written to benchmarks/results/study.md, the cells to study.json;
`--tables results.json` makes them of a study that was run before, whatever of it is done.
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import yaml
from beats_random import DATA
from scipy.stats import spearmanr
from unseen_third import unseen

from handpick import embedded
from handpick.study.cells import Cell, Results
from handpick.study.run import run_study
from handpick.study.settings import StudySettings
from handpick.study.summary import show_results

METRICS = {
    "gsm8k": None, "mbpp": None, "boolq": "choice", "ag_news": "exact-match", "dbpedia": "exact-match",
    "rotten_tomatoes": "exact-match",
}  # fmt: skip
REPEATED = ("ag_news", "dbpedia", "rotten_tomatoes")  # one example under several templates
METHODS = {
    "less-rr": "features/pool", "less": "features/pool", "whitened-rr": "features/pool",
    "gradient-rr": "sgd/features/pool", "rds+": "rds+/features/pool-rds+", "bm25": None,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/study"))
    parser.add_argument("--features", type=Path, help="the --runs of benchmarks/presets.py")
    parser.add_argument("--budgets", type=int, nargs="+", default=[100])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--tables", type=Path, help="results.json of a study, to make the tables of")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    given = parser.parse_args()
    if given.tables is not None:
        write(Results.model_validate_json(given.tables.read_bytes()), given.out)
        return
    given.runs.mkdir(parents=True, exist_ok=True)
    targets = {}
    for name, metric in METRICS.items():
        test = {"files": str(DATA / "targets" / name / "test.jsonl.gz"), "max_new_tokens": 12}
        test |= {"metrics": ["loss", metric]} if metric else {}
        test |= {"example_field": "example"} if name in REPEATED else {}
        targets[name] = {"query": str(DATA / "targets" / name / "dev.jsonl.gz"), "test": test}
    stored = {name: place if given.features else None for name, place in METHODS.items()}
    methods = {name: {"store": str(given.features / place)} if place else {} for name, place in stored.items()}
    content = {
        "name": "unseen third", "out": str(given.runs), "max_length": 512,
        "pool": str(unseen(DATA / "pool" / "pool.jsonl.gz", given.runs / "unseen.jsonl")),
        "models": {"shipped": str(embedded.model_path())}, "targets": targets, "tests": {"limit": 300},
        "methods": methods, "budgets": given.budgets, "seeds": given.seeds, "draws": 10,
        "baselines": ["zero-shot", "random"], "recipe": "small", "workers": given.workers,
    }  # fmt: skip
    path = given.runs / "study.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    results = run_study(StudySettings.from_yaml(path))
    show_results(results)
    write(results, given.out)


def write(results: Results, out: Path) -> None:
    """The tables, and the cells that are done."""
    cells = [cell for cell in results.cells if cell.status == "done"]
    kept = [cell.model_dump(mode="json", exclude={"steps", "reason", "status", "model"}) for cell in cells]
    (out / "study.json").write_text("\n".join(["[", ",\n".join(map(json.dumps, kept)), "]", ""]), encoding="utf-8")
    lines = [f"Made by `python benchmarks/study.py`: {len(cells)} of {len(results.cells)} cells are done.", ""]
    for metric in ("loss", "choice", "exact-match"):
        lines += [f"## {metric}", "", *_means([cell for cell in cells if metric in cell.metrics], metric), ""]
    lines += ["## Spearman's rho of distance and loss", "", *_correlations(cells)]
    (out / "study.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


def _means(cells: list[Cell], metric: str) -> list[str]:
    """A row a method, with every seed, and how many of the random draws its first seed beats."""
    sign = -1 if metric == "loss" else 1
    targets = list(dict.fromkeys(cell.target for cell in cells))
    at: dict[tuple[str, str], list[float]] = defaultdict(list)
    for cell in cells:
        at[cell.method, cell.target].append(cell.metrics[metric])
    lines = ["| method | " + " | ".join(targets) + " |", "|---|" + "---|" * len(targets)]
    for method in dict.fromkeys(cell.method for cell in cells):
        entries = []
        for target in targets:
            values, draws = at[method, target], at["random", target]
            if not values:
                entries.append("–")
            elif method == "random":
                best = max(draws, key=lambda value: sign * value)
                entries.append(f"{fmean(draws):.3f} (sd {stdev(draws):.3f}, best of {len(draws)} {best:.3f})")
            elif method == "zero-shot":
                entries.append(f"{values[0]:.3f}")
            else:
                beaten = sum(sign * values[0] > sign * draw for draw in draws)
                each = ", ".join(f"{value:.3f}" if value >= 0.01 else f"{value:.4f}" for value in values)
                entries.append(f"{each}; beats {beaten}")
        lines.append("| " + " | ".join([method, *entries]) + " |")
    return lines


def _correlations(cells: list[Cell]) -> list[str]:
    """Of all choices, of the random draws alone, and of the methods alone; the first seed of each."""
    chosen = [cell for cell in cells if cell.distances and (cell.method == "random" or cell.seed == 0)]
    targets = list(dict.fromkeys(cell.target for cell in chosen))
    lines = ["| features | distance | of | " + " | ".join(targets) + " |", "|---|---|---|" + "---:|" * len(targets)]
    features = list(dict.fromkeys(name for cell in chosen for name in cell.distances))
    for name in features:
        for distance in ("query_to_subset", "wasserstein", "mmd"):
            for of, wanted in (("all", (True, False)), ("random draws", (True,)), ("methods", (False,))):
                rhos = []
                for target in targets:
                    own = [c for c in chosen if c.target == target and (c.method == "random") in wanted]
                    pairs: list[Any] = [
                        (c.distances[name][distance], c.metrics["loss"]) for c in own if name in c.distances
                    ]
                    rhos.append(f"{spearmanr(*zip(*pairs, strict=True)).statistic:+.2f}" if len(pairs) > 3 else "–")
                row = [name, distance.replace("_", " "), of, *rhos]
                lines.append("| " + " | ".join(row) + " |")
    return lines


if __name__ == "__main__":
    main()
