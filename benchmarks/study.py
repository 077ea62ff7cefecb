"""The study of docs/study.md: methods × targets × seeds on the third of the pool that the shipped model has never seen.

    python benchmarks/study.py                    # zero-shot, random × 10, six methods, six targets, budget 100
    handpick report runs/study                    # its page, plots and tables

Writes RUNS/study.yaml and does what `handpick study RUNS/study.yaml` does; a run that is stopped goes on. The features
of 34,000 candidates are hours on two CPU cores: with --features, those that benchmarks/presets.py made are taken. The
data is found through HANDPICK_DATA.
"""

import argparse
from pathlib import Path

import yaml
from beats_random import DATA
from unseen_third import unseen

from handpick import embedded
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
    given = parser.parse_args()
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
    show_results(run_study(StudySettings.from_yaml(path)))


if __name__ == "__main__":
    main()
