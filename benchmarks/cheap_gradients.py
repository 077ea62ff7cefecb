"""Which way keeps the quality of exact gradients for a fifth of their bill: cells of a study on a real small model.

    python benchmarks/cheap_gradients.py MODEL_FOLDER                 # whatever cells are missing, one after the other
    python benchmarks/cheap_gradients.py MODEL_FOLDER --methods rds+ less-rr --targets boolq
    python benchmarks/cheap_gradients.py --tables                     # the table of what is done

A pool of 2,000 drawn from the large one, budget 200, 200 tests a target, three seeds of training, random three times.
Cells that are done stand in benchmarks/results/cheap_gradients.json and are not made again; what they are made of stays
in --runs, so that a run that is stopped goes on. The data is found through HANDPICK_DATA.
"""

import argparse
import gzip
import json
import random
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

import yaml
from beats_random import DATA

from handpick.studies.cells import Cell
from handpick.studies.run import run_study
from handpick.studies.settings import StudySettings

RESULTS = Path(__file__).parent / "results" / "cheap_gradients.json"
N_POOL, BUDGET, N_TESTS, SEEDS = 2_000, 200, 200, 3
MAX_LENGTH = 512
# XQuAD's answers are short; of the others a model of this size gets none right, so that their loss alone can move
TARGETS: dict[str, dict[str, Any]] = {
    "boolq": {"metrics": ["loss", "choice"]},
    "gsm8k": {"metrics": ["loss"]},
    "mbpp": {"metrics": ["loss"]},
    "xquad": {"metrics": ["loss"]},
}
# method → its settings; the first of these is what the others are held against
METHODS: dict[str, dict[str, Any]] = {
    "random": {}, "bm25": {}, "rds+": {}, "whitened-rds-rr": {}, "less-rr": {}, "gradient-rr": {},
}  # fmt: skip
# 200 examples of a model of 135 M parameters: TIS's four steps at 2e-5 would not move it
TRAIN = {"epochs": 3, "learning_rate": 5e-4, "batch": 16, "lora": {"rank": 16, "alpha": 32, "dropout": 0.0}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, nargs="?")
    parser.add_argument("--runs", type=Path, default=Path("runs/cheap_gradients"))
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--targets", nargs="+", default=list(TARGETS), choices=list(TARGETS))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--tables", action="store_true")
    given = parser.parse_args()
    done = read_cells()
    if not given.tables:
        if given.model is None:
            parser.error("name the folder of a model")
        pool = draw_pool(given.runs)
        for method, target in product(given.methods, given.targets):
            model = given.model.name
            there = {cell.seed for cell in done if (cell.model, cell.method, cell.target) == (model, method, target)}
            if there >= set(range(SEEDS)):
                continue
            study = StudySettings.model_validate(settings_of(given, method, target, pool))
            (given.runs / f"{method}-{target}.yaml").write_text(
                yaml.safe_dump(settings_of(given, method, target, pool))
            )
            for cell in run_study(study).cells:
                if cell.status == "done" and cell.seed not in there:
                    done.append(cell)
            write_cells(done)
    print("\n".join(table(done)))


def settings_of(given: argparse.Namespace, method: str, target: str, pool: Path) -> dict[str, Any]:
    """Return the study of one method on one target."""
    folder = DATA / "targets" / target
    test = {"files": str(folder / "test.jsonl.gz"), "limit": N_TESTS} | TARGETS[target]
    chosen = (
        {"baselines": ["random"]} if method == "random" else {"baselines": [], "methods": {method: METHODS[method]}}
    )
    return chosen | {
        "name": "cheap gradients", "out": str(given.runs), "pool": str(pool), "max_length": MAX_LENGTH,
        "models": {given.model.name: str(given.model)}, "budgets": [BUDGET], "seeds": SEEDS, "draws": SEEDS,
        "targets": {target: {"query": str(folder / "dev.jsonl.gz"), "test": test}},
        "recipe": "tis", "train": TRAIN, "keep": "results", "workers": given.workers,
    }  # fmt: skip


def draw_pool(folder: Path) -> Path:
    """Write a random part of the large pool, in its order."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "pool.jsonl"
    if not path.exists():
        with gzip.open(DATA / "pool" / "pool.jsonl.gz") as file:
            lines = file.readlines()
        path.write_bytes(b"".join(lines[row] for row in sorted(random.Random(0).sample(range(len(lines)), N_POOL))))
    return path


def read_cells() -> list[Cell]:
    return [Cell.model_validate(each) for each in json.loads(RESULTS.read_text())] if RESULTS.exists() else []


def write_cells(cells: list[Cell]) -> None:
    kept = [cell.model_dump(mode="json", exclude={"steps", "reason", "status"}) for cell in cells]
    RESULTS.write_text("\n".join(["[", ",\n".join(map(json.dumps, kept)), "]", ""]), encoding="utf-8")


def table(cells: list[Cell]) -> list[str]:
    """Return the mean loss of every method on every target, with those of its seeds."""
    targets = [name for name in TARGETS if any(cell.target == name for cell in cells)]
    lines = ["| method | " + " | ".join(targets) + " |", "|---|" + "---|" * len(targets)]
    for method in dict.fromkeys(cell.method for cell in cells):
        entries = []
        for target in targets:
            own = [cell.metrics["loss"] for cell in cells if (cell.method, cell.target) == (method, target)]
            entries.append(f"{fmean(own):.4f} ({', '.join(f'{each:.4f}' for each in own)})" if own else "–")
        lines.append("| " + " | ".join([method, *entries]) + " |")
    return lines


if __name__ == "__main__":
    main()
