"""The study of docs/study.md: methods × targets × seeds on the third of the pool that the shipped model has never seen.

    python benchmarks/study.py                    # zero-shot, random × 10, six methods, six targets, budget 100
    handpick report runs/study                    # its page, plots and tables
    python benchmarks/study.py --cut 2000 --methods less-rr bm25 --seeds 1 --draws 5 --name study_of_a_cut

Writes RUNS/study.yaml and does what `handpick study RUNS/study.yaml` does; a run that is stopped goes on. The features
of 34,000 candidates are hours on two CPU cores: with --features, those that benchmarks/presets.py made are taken. The
data is found through HANDPICK_DATA. The tables are written to benchmarks/results/study.md, the cells to study.json;
`--cut N` asks whether 100 of N candidates do as well as all N of them.
`--tables results.json ...` makes them of studies that were run before, whatever of them is done.
"""

import argparse
import json
import random
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

import yaml
from beats_random import DATA
from unseen_third import unseen

from handpick import bundled
from handpick.studies.cells import Cell, Results
from handpick.studies.run import run_study
from handpick.studies.settings import StudySettings
from handpick.studies.statistics import against_random, by_seed, distance_correlation
from handpick.studies.statistics.intervals import difference_interval
from handpick.studies.summary import show_results

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
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--cut", type=int, help="choose from so many of the candidates, and train on all of them too")
    parser.add_argument("--name", default="study", help="of the files in --out")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--tables", type=Path, nargs="+", help="results.json of one study or several, to make the tables of"
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    given = parser.parse_args()
    if given.tables is not None:
        write([cell for path in given.tables for cell in Results.open(path).cells], given.out / given.name)
        return
    given.runs.mkdir(parents=True, exist_ok=True)
    targets = {}
    for name, metric in METRICS.items():
        test = {"files": str(DATA / "targets" / name / "test.jsonl.gz"), "max_new_tokens": 12}
        test |= {"metrics": ["loss", metric]} if metric else {}
        test |= {"example_field": "example"} if name in REPEATED else {}
        targets[name] = {"query": str(DATA / "targets" / name / "dev.jsonl.gz"), "test": test}
    pool, baselines = unseen(DATA / "pool" / "pool.jsonl.gz", given.runs / "unseen.jsonl"), ["zero-shot", "random"]
    if given.cut is not None:
        pool, baselines = cut_of(pool, given.cut), [*baselines, "full"]
    stored = {name: METHODS[name] if given.features else None for name in given.methods}
    methods = {name: {"store": str(given.features / place)} if place else {} for name, place in stored.items()}
    content = {
        "name": "unseen third", "out": str(given.runs), "max_length": 512, "pool": str(pool),
        "models": {"shipped": str(bundled.model_path())}, "targets": targets, "tests": {"limit": 300},
        "methods": methods, "budgets": given.budgets, "seeds": given.seeds, "draws": given.draws,
        "baselines": baselines, "recipe": "small", "workers": given.workers,
    }  # fmt: skip
    path = given.runs / "study.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    results = run_study(StudySettings.from_yaml(path))
    show_results(results)
    write(results.cells, given.out / given.name)


def cut_of(pool: Path, n: int) -> Path:
    """A random part of the candidates, in their order."""
    lines = pool.read_bytes().splitlines(keepends=True)
    cut = pool.with_name(f"unseen-{n}.jsonl")
    cut.write_bytes(b"".join(lines[row] for row in sorted(random.Random(0).sample(range(len(lines)), n))))
    return cut


def write(asked: Sequence[Cell], out: Path) -> None:
    """The tables, and the cells that are done; what two studies share counts once."""
    of_place = {(each.method, each.target, each.budget, each.seed): each for each in asked}
    cells = [cell for cell in of_place.values() if cell.status == "done"]
    kept = [cell.model_dump(mode="json", exclude={"steps", "reason", "status", "model"}) for cell in cells]
    out.with_suffix(".json").write_text("\n".join(["[", ",\n".join(map(json.dumps, kept)), "]", ""]), encoding="utf-8")
    lines = [f"Made by `python benchmarks/study.py`: {len(cells)} of {len(of_place)} cells are done.", ""]
    for metric in ("loss", "choice", "exact-match"):
        lines += [f"## {metric}", "", *_means([cell for cell in cells if metric in cell.metrics], metric), ""]
    lines += ["## Loss of the methods, beside each other", "", *_pairs(cells), ""]
    lines += ["## Spearman's rho of distance and loss", "", *_correlations(cells)]
    out.with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


def _means(cells: list[Cell], metric: str) -> list[str]:
    """A row a method: the mean over seeds, and behind it how much that is off the mean of the random draws."""
    means = {(each.method, each.target, each.budget): each for each in by_seed(cells, metric)}
    off = {(each.method, each.target, each.budget): each for each in against_random(cells, metric)}
    targets = list(dict.fromkeys(cell.target for cell in cells))
    lines = ["| budget | method | " + " | ".join(targets) + " |", "|---:|---|" + "---|" * len(targets)]
    for budget, method in dict.fromkeys((cell.budget, cell.method) for cell in cells):
        entries = []
        for target in targets:
            mean, difference = means.get((method, target, budget)), off.get((method, target, budget))
            if mean is None:
                entries.append("–")
            elif difference is None:
                entries.append(_number(mean.mean) + (f" (sd {mean.sd:.3f})" if method == "random" and mean.sd else ""))
            else:
                between = "" if difference.low is None else f" ({difference.low:+.3f} to {difference.high:+.3f})"
                entries.append(f"{_number(mean.mean)}; {difference.mean:+.3f}{between}")
        lines.append("| " + " | ".join(["" if budget is None else f"{budget:,}", method, *entries]) + " |")
    return lines


def _pairs(cells: list[Cell]) -> list[str]:
    """By loss, how far each method is off the first, at the same seeds, with the interval of the mean difference."""
    methods = list(dict.fromkeys(cell.method for cell in cells if cell.method in METHODS))
    targets = list(dict.fromkeys(cell.target for cell in cells))
    at: dict[tuple[str, str, int], dict[int, float]] = defaultdict(dict)
    for cell in cells:
        if cell.budget is not None:
            at[cell.method, cell.target, cell.budget][cell.seed] = cell.metrics["loss"]
    lines = ["| budget | method | " + " | ".join(targets) + " |", "|---:|---|" + "---|" * len(targets)]
    for budget in sorted({budget for _, _, budget in at}):
        for method in methods[1:]:
            entries = []
            for target in targets:
                own, first = at[method, target, budget], at[methods[0], target, budget]
                low, high, by = difference_interval(own, first)
                paired = "" if by is None else f" ({low:+.3f} to {high:+.3f})"
                entries.append(f"{fmean(own.values()) - fmean(first.values()):+.3f}{paired}" if own and first else "–")
            if set(entries) != {"–"}:
                lines.append("| " + " | ".join([str(budget), f"{method} − {methods[0]}", *entries]) + " |")
    return lines


def _number(value: float) -> str:
    return f"{value:.3f}" if value >= 0.01 or value == 0 else f"{value:.4f}"


def _correlations(cells: list[Cell]) -> list[str]:
    """Of all choices, of the random draws alone, and of the methods alone; a method's loss is its mean over seeds."""
    budgets = sorted({cell.budget for cell in cells if cell.budget is not None})
    targets = list(dict.fromkeys(cell.target for cell in cells))
    heading = "| budget | features | distance | of | " + " | ".join(targets) + " |"
    lines = [heading, "|---:|---|---|---|" + "---:|" * len(targets)]
    for budget in budgets:
        chosen = [cell for cell in cells if cell.budget == budget]
        for features in dict.fromkeys(name for cell in chosen for name in cell.distances):
            for distance in ("query_to_subset", "wasserstein", "mmd"):
                for of in ("all", "random draws", "methods"):
                    own = [c for c in chosen if of == "all" or (c.method == "random") == (of == "random draws")]
                    rho = {
                        row.target: row.rho
                        for row in distance_correlation(own, "loss", distance) if row.features == features
                    }  # fmt: skip
                    shown = ["–" if rho.get(target) is None else f"{rho[target]:+.2f}" for target in targets]
                    if set(shown) != {"–"}:
                        lines.append(
                            "| " + " | ".join([str(budget), features, distance.replace("_", " "), of, *shown]) + " |"
                        )
    return lines


if __name__ == "__main__":
    main()
