"""How much worse is what ``--method auto`` takes than the best in hindsight, and does it say so where nothing helps?

    python benchmarks/auto.py                       # the shipped model; some thirteen processor minutes each
    python benchmarks/auto.py --seeds 0 1 --targets gsm8k boolq
    python benchmarks/auto.py --tables

Every seed has a pool of 1,000 of its own, drawn from the third that the shipped model has never seen, and its own 48
queries of a target. The candidates are held in an audition for a budget of 100; then each of them chooses 100 with all
queries, is trained on them as an audition trains, and is measured on 200 tests, beside four random draws, which are
trained on once for all targets of a seed. The regret is the mean loss of what was taken less that of the best method:
as each is trained on once, some of every regret is the noise of the best. In `like the pool` the queries and the tests
are drawn as the pool is, so that a random draw has nothing to be ahead of; in `one class` all queries are boolq's with
one answer, and the tests have both.
What is done stands in benchmarks/results/auto.json and is not done again. The data is found through HANDPICK_DATA.
"""

import argparse
import gzip
import json
import random
import time
from itertools import product
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from beats_random import DATA

from handpick import bundled
from handpick.allocator import keep_freed_memory
from handpick.auditions.run import PreparedAudition
from handpick.auditions.settings import CANDIDATES, AuditionSettings
from handpick.bundled.split import is_unseen
from handpick.data.examples import Message
from handpick.studies.run import run_study
from handpick.studies.settings import StudySettings

RESULTS = Path(__file__).parent / "results" / "auto.json"
N_POOL, N_QUERIES, N_TESTS, BUDGET, DRAWS = 1_000, 48, 200, 100, 4
MAX_LENGTH = 384
OWN = AuditionSettings()
HELPED, HOPELESS = ("gsm8k", "mbpp", "boolq"), ("like the pool", "one class")
Record = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(10)))
    parser.add_argument("--targets", nargs="+", default=[*HELPED, *HOPELESS], choices=[*HELPED, *HOPELESS])
    parser.add_argument("--runs", type=Path, default=Path("runs/auto"))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--tables", action="store_true")
    given = parser.parse_args()
    keep_freed_memory()  # as the command line does
    done: list[Record] = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    for seed, target in product([] if given.tables else given.seeds, given.targets):
        if not any((each["seed"], each["target"], each["draws"]) == (seed, target, OWN.draws) for each in done):
            done.append(hold(given, seed, target))
            RESULTS.write_text("\n".join(["[", ",\n".join(map(json.dumps, done)), "]", ""]), encoding="utf-8")
    for draws in sorted({each["draws"] for each in done}):
        print("\n".join([f"{draws} draws:", "", *table([each for each in done if each["draws"] == draws]), ""]))


def hold(given: argparse.Namespace, seed: int, target: str) -> Record:
    """Hold one audition, and measure in hindsight what each candidate would have brought."""
    folder = given.runs / f"{seed}-{target}".replace(" ", "-")
    files = write_data(folder, seed, target)
    began = time.monotonic()
    values = {
        "pool": str(files["pool"]), "query": str(files["query"]), "model": str(bundled.model_path()), "budget": BUDGET,
        "max_length": MAX_LENGTH, "seed": seed, "out": str(folder / "run"),
    }  # fmt: skip
    found = PreparedAudition(values, OWN).run(5.0)
    took = time.monotonic() - began
    study = StudySettings.model_validate(
        {
            "name": "hindsight", "out": str(given.runs / f"{seed}-hindsight"), "pool": str(files["pool"]),
            "models": str(bundled.model_path()), "budgets": [BUDGET], "seeds": [seed], "draws": DRAWS,
            "baselines": ["random"], "methods": {name: {"seed": seed} for name in CANDIDATES}, "recipe": "small",
            "targets": {"all": {"query": str(files["query"]), "test": str(files["test"])}}, "keep": "models",
            "max_length": MAX_LENGTH, "workers": given.workers, "query_loss": False,
        }
    )  # fmt: skip
    losses: dict[str, list[float]] = {}
    for cell in run_study(study).cells:
        losses.setdefault(cell.method, []).append(cell.metrics["loss"])
    return {
        "seed": seed, "target": target, "draws": OWN.draws, "taken": found.decision.winner,
        "why": found.decision.why,
        "losses": losses, "hazards": len(found.hazards), "seconds": round(took, 1),
        "less_rr_seconds": round(found.plan.candidates["less-rr"].choice, 1),
    }  # fmt: skip


def write_data(folder: Path, seed: int, target: str) -> dict[str, Path]:
    """Write the pool, the queries and the tests of a seed."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(seed)  # the pool is the same for all targets
    with gzip.open(DATA / "pool" / "pool.jsonl.gz", "rt") as file:
        pool = [json.loads(line) for line in file]
    unseen = [each for each in rng.sample(pool, 6 * N_POOL) if is_unseen([Message(**m) for m in each["messages"]])]
    rng = random.Random(f"{seed} {target}")
    if target == "like the pool":
        every = rng.sample(unseen[N_POOL:], N_QUERIES + N_TESTS)
        queries, tests = every[:N_QUERIES], every[N_QUERIES:]
    else:
        name = "boolq" if target == "one class" else target
        queries, tests = (read(DATA / "targets" / name / f"{part}.jsonl.gz") for part in ("dev", "test"))
        if target == "one class":
            answer = queries[0]["messages"][-1]["content"]
            queries = [each for each in queries if each["messages"][-1]["content"] == answer]
        queries, tests = rng.sample(queries, min(N_QUERIES, len(queries))), rng.sample(tests, N_TESTS)
    found = {"pool": unseen[:N_POOL], "query": queries, "test": tests}
    for what, records in found.items():
        (folder / f"{what}.jsonl").write_text("".join(json.dumps(each) + "\n" for each in records))
    return {what: folder / f"{what}.jsonl" for what in found}


def read(path: Path) -> list[Record]:
    with gzip.open(path, "rt") as file:
        return [json.loads(line) for line in file]


def table(done: list[Record]) -> list[str]:
    """Return the mean regret of auto beside those of always taking one thing, and how often it says that none helps."""
    always = [*CANDIDATES, "random"]
    lines = ["| target | seeds | nothing helps, says auto | auto | " + " | ".join(f"always {a}" for a in always) + " |"]
    lines.append("|---|---:|---:|" + "---:|" * (1 + len(always)))
    for target in [*HELPED, *HOPELESS]:
        own = [each for each in done if each["target"] == target]
        if not own:
            continue
        said = sum(each["taken"] is None for each in own)
        cells = [spread([regret(each, each["taken"] or "random") for each in own])]
        cells += [spread([regret(each, name) for each in own]) for name in always]
        lines.append(f"| {target} | {len(own)} | {said} | " + " | ".join(cells) + " |")
    return lines


def regret(found: Record, method: str) -> float:
    """Return how much more loss a method has than the best in hindsight, random among them."""
    means = {name: fmean(losses) for name, losses in found["losses"].items()}
    return means[method] - min(means.values())


def spread(values: list[float]) -> str:
    """Return the mean, with its standard error where there are several."""
    return f"{fmean(values):.3f}" + (f" ± {stdev(values) / len(values) ** 0.5:.3f}" if len(values) > 1 else "")


if __name__ == "__main__":
    main()
