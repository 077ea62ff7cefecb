"""Which way keeps the quality of exact gradients for a fifth of their bill: cells of a study on a real small model.

    python benchmarks/cheap_gradients.py choose MODEL_FOLDER          # what every method chooses for every target
    python benchmarks/cheap_gradients.py derive MODEL_FOLDER --recall runs/recall
    python benchmarks/cheap_gradients.py train MODEL_FOLDER           # whatever cells are missing, one after the other
    python benchmarks/cheap_gradients.py train MODEL_FOLDER --methods rds+ less-rr --targets boolq
    python benchmarks/cheap_gradients.py train MODEL_FOLDER --methods full less-rr random --budget 100
    python benchmarks/cheap_gradients.py tables MODEL_FOLDER          # the tables of what is done
    python benchmarks/cheap_gradients.py grid MODEL_FOLDER            # what is to be run, in which order, and its hours

A pool of 2,000 drawn from the large one, budgets 200 and 100 (every choice has an order: the first of it), 200 tests a
target, three seeds of training, random five times; and the model as it is, and after learning the whole pool.
What was chosen stands in benchmarks/results/cheap_gradients_choices.json, as lines of that pool, and what was measured
in benchmarks/results/cheap_gradients.json: neither is made again, on whatever machine. Features and half-done steps
stay in --runs, so that a run that is stopped goes on. `derive` makes the choices of prefilters and landmarks out of
the similarities that recall.py has kept of the whole pool, with the product's own functions: the same candidates, whose
exact rows need not be made again. The data is found through HANDPICK_DATA.
"""

import argparse
import gzip
import json
import math
import random
from itertools import product
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
from beats_random import DATA
from scipy import optimize, stats  # type: ignore[import-untyped]

import handpick
from handpick.allocator import keep_freed_memory
from handpick.selection import Selection
from handpick.studies.cells import FULL, RANDOM, ZERO_SHOT, Cell
from handpick.studies.run import Study
from handpick.studies.settings import StudySettings

RESULTS = Path(__file__).parent / "results"
CELLS, CHOICES = RESULTS / "cheap_gradients.json", RESULTS / "cheap_gradients_choices.json"
N_POOL, BUDGET, N_TESTS, SEEDS, DRAWS = 2_000, 200, 200, 3, 5
MAX_LENGTH = 512
# of the others' answers a model of this size gets none right, so that their loss alone can move
TARGETS: dict[str, dict[str, Any]] = {
    "gsm8k": {"metrics": ["loss"]},
    "boolq": {"metrics": ["loss", "choice"]},
    "mbpp": {"metrics": ["loss"]},
    "xquad": {"metrics": ["loss"]},
}
# a tenth of the pool, 28 steps; by default it would be half of a pool as small as this
WARMUP = {"at_least": 200}
# method → its settings; a prefilter leaves a fifth, since the budget alone is a tenth of the pool
METHODS: dict[str, dict[str, Any]] = {
    "bm25": {},
    "rds+": {},
    "whitened-rds-rr": {},
    "less-rr": {"warmup": WARMUP},
    "gradient-rr": {},
    "prefilter bm25": {"method": "less-rr", "prefilter": "bm25", "prefilter_share": "20%", "warmup": WARMUP},
    "prefilter rds+": {"method": "less-rr", "prefilter": "rds+", "prefilter_share": "20%", "warmup": WARMUP},
    "landmarks": {"landmarks": 100, "warmup": WARMUP},
    # calibration would take hours a target here: the rates' and the depths' middle, for all targets alike
    "tacs": {"tacs_rate": 2e-5, "tacs_depth": 8},
}
BASELINES = (RANDOM, FULL, ZERO_SHOT)
# what is to be run on all targets, what decides first: methods and budget
GRID: list[tuple[tuple[str, ...], int]] = [
    ((RANDOM, ZERO_SHOT, "less-rr", "prefilter bm25"), 200),
    (("rds+", "bm25"), 200),
    ((RANDOM, "less-rr", "prefilter bm25", "rds+", "bm25"), 100),
    ((FULL,), N_POOL),
    (("landmarks", "prefilter rds+", "whitened-rds-rr"), 200),
    (("gradient-rr", "tacs"), 200),
]
# of one core, for a training on 200 with its measuring, on SmolLM2-135M-Instruct; a baseline's serves all targets
MINUTES = {"gsm8k": 11.0, "boolq": 3.6, "mbpp": 11.0, "xquad": 12.5, RANDOM: 13.0, FULL: 13.0}
# 200 examples of a model of 135 M parameters: TIS's four steps at 2e-5 would not move it
TRAIN = {"epochs": 3, "learning_rate": 5e-4, "batch": 16, "lora": {"rank": 16, "alpha": 32, "dropout": 0.0}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["choose", "derive", "train", "tables", "grid"])
    parser.add_argument("model", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs/cheap_gradients"))
    parser.add_argument("--methods", nargs="+", default=[RANDOM, *METHODS], choices=[*BASELINES, *METHODS])
    parser.add_argument("--targets", nargs="+", default=list(TARGETS), choices=list(TARGETS))
    parser.add_argument("--budget", type=int, default=BUDGET, help="of the choices that are trained on: 200 or fewer")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--recall", type=Path, default=Path("runs/recall"), help="derive: the folder of recall.py")
    parser.add_argument("--features", type=Path, help="derive: the store of hidden states, which landmarks take")
    given = parser.parse_args()
    keep_freed_memory()  # as the command line does: a quarter of a cell's time
    if given.what == "choose":
        choose(given)
    elif given.what == "derive":
        derive(given)
    elif given.what == "train":
        train(given)
    elif given.what == "grid":
        print("\n".join(list_grid(read_cells(given.model.name))))
    else:
        cells = read_cells(given.model.name)
        for budget in sorted({cell.budget for cell in cells if cell.budget is not None}, reverse=True):
            print("\n".join([f"{budget} chosen:", "", *table(cells, budget), ""]))
        print("\n".join(["Share of less-rr's own 200:", "", *shares_of_picks(read_choices(given.model.name)), ""]))


def choose(given: argparse.Namespace) -> None:
    """Make the choices that are missing, all of one method before the next's."""
    for method, target in product(given.methods, given.targets):
        if method in BASELINES or target in read_choices(given.model.name).get(method, {}):
            continue
        settings = settings_of(given, [target]) | {"methods": {method: METHODS[method]}}
        study = Study(StudySettings.model_validate(settings))
        study.chosen.choose_all()
        (place,) = {place for place in study.opened.places if place.seed == 0}
        if place in study.opened.reasons:
            raise SystemExit(f"{method} for {target}: {study.opened.reasons[place]}")
        keep_choice(given, method, target, study.chosen.ids(place) or [])


def derive(given: argparse.Namespace) -> None:
    """Make the choices of prefilters and landmarks that are missing, of similarities of the whole pool."""
    import recall

    for target in given.targets:
        kept = given.recall / given.model.name / target
        exact_QN, ids = read_similarity(kept / "less-rr")
        for method in ("bm25", "rds+"):
            if target not in read_choices(given.model.name).get(f"prefilter {method}", {}):
                cheap_QN = recall.aligned(*read_similarity(kept / method), ids)
                picked = recall.picks_of_the_left(exact_QN, cheap_QN, 0.2, BUDGET)
                keep_choice(given, f"prefilter {method}", target, [ids[column] for column in picked])
        if given.features is not None and target not in read_choices(given.model.name).get("landmarks", {}):
            store = handpick.FeatureStore.open(given.features)
            row = {example_id: place for place, example_id in enumerate(store.ids)}
            features_ND = np.asarray(store.array(0))[[row[example_id] for example_id in ids]]
            n = METHODS["landmarks"]["landmarks"]
            picked = recall.picks_by_landmarks(exact_QN, features_ND, "random", n, BUDGET, 0)
            keep_choice(given, "landmarks", target, [ids[column] for column in picked])


def read_similarity(folder: Path) -> tuple[Any, list[str]]:
    """Return a similarity of queries and candidates, and the candidates' ids."""
    names = json.loads((folder / "similarity.json").read_text())
    return np.load(folder / "similarity.npy"), names["examples"]


def keep_choice(given: argparse.Namespace, method: str, target: str, ids: list[str]) -> None:
    """Write a choice down, as lines of the pool."""
    row_of = {json.loads(line)["id"]: row for row, line in enumerate(draw_pool(given.runs).open("rb"))}
    choices = json.loads(CHOICES.read_text()) if CHOICES.exists() else {}
    choices.setdefault(given.model.name, {}).setdefault(method, {})[target] = [row_of[example_id] for example_id in ids]
    CHOICES.write_text(json.dumps(choices).replace("}, ", "},\n").replace("], ", "],\n") + "\n", encoding="utf-8")


def train(given: argparse.Namespace) -> None:
    """Measure the cells that are missing, of the choices that there are."""
    for method in BASELINES:
        if method in given.methods:
            measure(given, method, given.targets)  # together: one training serves all targets
    for target, method in product(given.targets, given.methods):
        if method not in BASELINES:
            measure(given, method, [target])


def measure(given: argparse.Namespace, method: str, targets: list[str]) -> None:
    """Measure a method's cells of some targets."""
    there = done_of(read_cells(given.model.name), method, given.budget)
    wanted = seeds_of(method)
    missing = [target for target in targets if any((target, seed) not in there for seed in wanted)]
    if not missing:
        return
    settings = settings_of(given, missing)
    if method in BASELINES:
        settings |= {"baselines": [method]}
    else:
        (target,) = missing
        rows = read_choices(given.model.name).get(method, {}).get(target)
        if rows is None:
            print(f"{method} has not chosen for {target} yet: `choose` first")
            return
        folder = write_choice(given.runs, method, target, rows[: given.budget])
        settings |= {"methods": {method: {"selection": str(folder)}}}
    # a study trains on the full pool once, with its first seed
    for seeds in [[seed] for seed in wanted] if method == FULL else [list(range(SEEDS))]:
        study = Study(StudySettings.model_validate(settings | {"seeds": seeds}))
        study.opened.places = [place for place in study.opened.places if (place.target, place.seed) not in there]
        try:
            study.run()
        finally:  # also of a run that is stopped by hand
            cells = study.results().cells
            write_cells([cell for cell in cells if cell.status == "done" and (cell.target, cell.seed) not in there])


def seeds_of(method: str) -> range:
    """Return the seeds that a method is to have; a random draw's is its own number."""
    return range(DRAWS if method == RANDOM else 1 if method == ZERO_SHOT else SEEDS)


def done_of(cells: list[Cell], method: str, budget: int) -> set[tuple[str, int]]:
    """Return the targets and seeds of which a method is measured; what chooses nothing has no budget."""
    own = None if method in (FULL, ZERO_SHOT) else budget
    return {(cell.target, cell.seed) for cell in cells if (cell.method, cell.budget) == (method, own)}


def settings_of(given: argparse.Namespace, targets: list[str]) -> dict[str, Any]:
    """Return what every study here has."""
    folders = {target: DATA / "targets" / target for target in targets}
    return {
        "name": "cheap gradients", "out": str(given.runs), "pool": str(draw_pool(given.runs)), "max_length": MAX_LENGTH,
        "models": {given.model.name: str(given.model)}, "budgets": [given.budget], "draws": DRAWS,
        "targets": {
            target: {
                "query": str(folder / "dev.jsonl.gz"),
                "test": {"files": str(folder / "test.jsonl.gz"), "limit": N_TESTS} | TARGETS[target],
            }
            for target, folder in folders.items()
        },
        "baselines": [], "recipe": "tis", "train": TRAIN, "keep": "results", "query_loss": False,
        "workers": given.workers,
    }  # fmt: skip


def write_choice(folder: Path, method: str, target: str, rows: list[int]) -> Path:
    """Write a choice as a study takes one that was made elsewhere."""
    lines = draw_pool(folder).read_bytes().splitlines()
    ids = [json.loads(lines[row])["id"] for row in rows]
    path = folder / "choices" / f"{method}-{target}-{len(rows)}".replace(" ", "-")
    Selection(ids, [0.0] * len(ids), [None] * len(ids), {}, {}, lambda choice: lines[rows[choice]]).save(path)
    return path


def read_choices(model: str) -> dict[str, dict[str, list[int]]]:
    """Return lines of the pool by method and target."""
    found: dict[str, dict[str, list[int]]] = json.loads(CHOICES.read_text()).get(model, {}) if CHOICES.exists() else {}
    return found


def draw_pool(folder: Path) -> Path:
    """Write a random part of the large pool, in its order."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "pool.jsonl"
    if not path.exists():
        with gzip.open(DATA / "pool" / "pool.jsonl.gz") as file:
            lines = file.readlines()
        path.write_bytes(b"".join(lines[row] for row in sorted(random.Random(0).sample(range(len(lines)), N_POOL))))
    return path


def read_cells(model: str | None = None) -> list[Cell]:
    """Return the cells that are done, of one model or of all."""
    cells = [Cell.model_validate(each) for each in json.loads(CELLS.read_text())] if CELLS.exists() else []
    return [cell for cell in cells if model in (None, cell.model)]


def write_cells(found: list[Cell]) -> None:
    """Add cells to the file, which another run may have added to since."""
    kept = [cell.model_dump(mode="json", exclude={"steps", "reason", "status"}) for cell in [*read_cells(), *found]]
    CELLS.write_text("\n".join(["[", ",\n".join(map(json.dumps, kept)), "]", ""]), encoding="utf-8")


def table(cells: list[Cell], budget: int) -> list[str]:
    """Return the mean loss of every method on every target, and what part of less-rr's gain over random it keeps."""
    losses: dict[tuple[str, str], list[float]] = {}
    for cell in cells:
        if cell.budget in (budget, None):
            losses.setdefault((cell.method, cell.target), []).append(cell.metrics["loss"])
    targets = [name for name in TARGETS if any(target == name for _, target in losses)]
    lines = ["| method | " + " | ".join(targets) + " |", "|---|" + "---|" * len(targets)]
    for method in [ZERO_SHOT, RANDOM, *METHODS, FULL]:
        if any((method, target) in losses for target in targets):
            entries = [describe(losses, method, target) for target in targets]
            lines.append("| " + " | ".join([method, *entries]) + " |")
    return lines


def list_grid(cells: list[Cell]) -> list[str]:
    """Return a line for every part of the grid: its trainings, how many of them are done, and hours of one core."""
    lines = ["| methods | budget | trainings | done | hours of a core |", "|---|---:|---:|---:|---:|"]
    total = 0.0
    for methods, budget in GRID:
        trainings, done, minutes = 0, 0, 0.0
        for method in methods:
            if method == ZERO_SHOT:
                continue
            n, there = len(seeds_of(method)), done_of(cells, method, budget)
            each = [MINUTES[method]] if method in BASELINES else [MINUTES[target] for target in TARGETS]
            trainings += n * len(each)
            done += len({seed for _, seed in there}) if method in BASELINES else len(there)
            minutes += n * sum(each) * budget / BUDGET
        total += minutes / 60
        lines.append(f"| {', '.join(methods)} | {budget:,} | {trainings} | {done} | {minutes / 60:.1f} |")
    return [*lines, "", f"{total:.1f} hours of one core in all, choosing not counted"]


def shares_of_picks(choices: dict[str, dict[str, list[int]]]) -> list[str]:
    """Return what part of less-rr's choice every other has chosen too."""
    lines = ["| method | " + " | ".join(TARGETS) + " |", "|---|" + "---:|" * len(TARGETS)]
    for method, own in choices.items():
        shared = [len(set(own[target]) & set(choices["less-rr"][target])) / BUDGET for target in TARGETS]
        lines.append("| " + " | ".join([method, *(f"{share:.2f}" for share in shared)]) + " |")
    return lines


def describe(losses: dict[tuple[str, str], list[float]], method: str, target: str) -> str:
    """Return a mean with its standard deviation and of how many, and the part of less-rr's gain with its interval."""
    own, random, best = (losses.get((name, target), []) for name in (method, RANDOM, "less-rr"))
    if not own:
        return "–"
    said = f"{fmean(own):.4f}" + (f" ± {stdev(own):.4f} ({len(own)})" if len(own) > 1 else "")
    if method in (*BASELINES, "less-rr") or min(map(len, (own, random, best))) < 2:
        return said
    part = kept_gain(random, own, best)
    return said + ("; gain unclear" if part is None else "; keeps {:.2f} ({:.2f} to {:.2f})".format(*part))


def kept_gain(random: list[float], own: list[float], best: list[float]) -> tuple[float, float, float] | None:
    """Return (random − own) ÷ (random − best) of mean losses, and the ends of its 95% interval.

    Fieller's (1954) with Welch's variances in place of a pooled one: draws differ in what was drawn, and trainings on
    one choice only in their seed, so that the first spread many times as far. Every ratio r is in the interval at which
    (random − own) − r (random − best) is not clearly other than 0. None where that ends nowhere: then the gain below is
    not clear, and a ratio of noise.
    """
    means, shares = [fmean(each) for each in (random, own, best)], [stdev(e) ** 2 / len(e) for e in (random, own, best)]
    top, bottom = means[0] - means[1], means[0] - means[2]

    def excess(r: float) -> float:
        """Return how far r is off, less how far it may be."""
        parts = [weight**2 * share for weight, share in zip((1 - r, 1, r), shares, strict=True)]
        freedom = sum(parts) ** 2 / sum(
            part**2 / (len(each) - 1) for part, each in zip(parts, (random, own, best), strict=True)
        )
        return abs(top - r * bottom) - float(stats.t.ppf(0.975, freedom)) * math.sqrt(sum(parts))

    ends = []
    for side in (-1, 1):
        far = next((side * 2.0**k for k in range(-3, 7) if excess(top / bottom + side * 2.0**k) > 0), None)
        if bottom <= 0 or far is None:
            return None
        ends.append(optimize.brentq(lambda off: excess(top / bottom + off), 0.0, far) + top / bottom)
    return top / bottom, ends[0], ends[1]


if __name__ == "__main__":
    main()
