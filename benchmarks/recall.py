"""What share of less-rr's first picks a cheaper first look finds: over prefilter shares, and over landmarks.

    python benchmarks/recall.py                        # the shipped model, its pool and gsm8k's queries; 40 minutes
    python benchmarks/recall.py --model M --pool pool.jsonl --targets boolq xquad --runs runs/recall

Every similarity is the product's own, kept in --runs, so that a run that is stopped goes on; what a first look leaves,
and what landmarks foretell, is computed from these with the product's own functions. Recall is by the picks of all of
less-rr's rows: of a prefilter the share of them that it leaves, of landmarks the share that round-robin picks as well.
`chance` is what a random draw would find. The tables are written to benchmarks/results/recall_MODEL.md.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from beats_random import DATA
from numpy.typing import NDArray

import handpick
from handpick import bundled
from handpick.algorithms import pick
from handpick.algorithms.matrix import Matrix
from handpick.pipeline.run import run_similarity
from handpick.scorers.cut import best_columns
from handpick.scorers.landmark_draw import draw_from_clusters, draw_uniformly
from handpick.scorers.ridge import fit_ridge
from handpick.settings import parse_settings

PREFILTERS: dict[str, dict[str, Any]] = {
    "bm25": {}, "rds+": {}, "whitened-rds-rr": {}, "tacs": {"tacs_rate": 1e-5, "tacs_depth": 2},
}  # fmt: skip
SHARES = (0.02, 0.05, 0.1, 0.2, 0.4)
LANDMARKS = (0.01, 0.02, 0.05, 0.1, 0.2)
DRAWS = 3
Floats = NDArray[np.float32]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=bundled.model_path())
    parser.add_argument("--pool", type=Path, nargs="+", default=bundled.pool_paths())
    parser.add_argument("--targets", nargs="+", default=["gsm8k"])
    parser.add_argument("--budget", type=int, default=200)
    parser.add_argument("--max-length", type=int, default=512)
    parser.add_argument("--runs", type=Path, default=Path("runs/recall"))
    parser.add_argument("--methods", nargs="+", default=list(PREFILTERS), choices=list(PREFILTERS))
    parser.add_argument(
        "--store", nargs="+", default=[], metavar="METHOD=FOLDER", help="features that there are already"
    )
    given = parser.parse_args()
    given.store = dict(each.split("=", 1) for each in given.store)
    name = given.model.resolve().name if given.model != bundled.model_path() else "shipped"
    command = " ".join(["python benchmarks/recall.py", *sys.argv[1:]])
    lines = [f"`{command}`, {time.strftime('%Y-%m-%d')}.", ""]
    for target in given.targets:
        lines += tables(given, target)
    (Path(__file__).parent / "results" / f"recall_{name}.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def tables(given: argparse.Namespace, target: str) -> list[str]:
    """Return both tables of a target."""
    exact_QN, ids = similarity(given, target, "less-rr", {})
    wanted = set(pick(Matrix(exact_QN), given.budget, "round-robin").columns.tolist())
    n = len(ids)
    lines = [f"## {target}: {len(wanted)} picks of {n:,} candidates, {len(exact_QN)} queries", ""]
    lines += ["| left by | " + " | ".join(f"{share:.0%}" for share in SHARES) + " |", "|---|" + "---|" * len(SHARES)]
    for method in given.methods:
        cheap_QN = aligned(*similarity(given, target, method, PREFILTERS[method]), ids)
        found = [len(wanted & set(best_columns(Matrix(cheap_QN), round(share * n)).tolist())) for share in SHARES]
        lines.append(f"| {method} | " + " | ".join(f"{each / len(wanted):.2f}" for each in found) + " |")
    lines.append("| chance | " + " | ".join(f"{share:.2f}" for share in SHARES) + " |")
    lines += ["", "| landmarks, over rds+ | " + " | ".join(f"{share:.0%}" for share in LANDMARKS) + " |"]
    lines.append("|---|" + "---|" * len(LANDMARKS))
    features_ND = rds_features(given, target, ids)
    for draw in ("random", "kmeans"):
        entries = []
        for share in LANDMARKS:
            each = [spread_recall(exact_QN, features_ND, draw, round(share * n), wanted, seed) for seed in range(DRAWS)]
            entries.append(f"{fmean(each):.2f}")
        lines.append(f"| {draw} | " + " | ".join(entries) + " |")
    return [*lines, ""]


def spread_recall(exact_QN: Floats, features_ND: Floats, draw: str, n: int, wanted: set[int], seed: int) -> float:
    """Return the share of the picks that round-robin finds where ``n`` candidates are exact and the others foretold."""
    return len(wanted & set(picks_by_landmarks(exact_QN, features_ND, draw, n, len(wanted), seed))) / len(wanted)


def picks_by_landmarks(exact_QN: Floats, features_ND: Floats, draw: str, n: int, budget: int, seed: int) -> list[int]:
    """Return what round-robin picks where ``n`` candidates are exact and the others foretold."""
    total = exact_QN.shape[1]
    if draw == "random":
        landmarks_L = draw_uniformly(total, max(2, n), seed)
    else:
        landmarks_L = draw_from_clusters(lambda rows: features_ND[rows], total, max(2, n), seed)
    fitted = fit_ridge(features_ND[landmarks_L], exact_QN[:, landmarks_L].T)
    foretold_QN = fitted.ridge.predict(features_ND).T.astype(np.float32)
    foretold_QN[:, landmarks_L] = exact_QN[:, landmarks_L]
    picked: list[int] = pick(Matrix(foretold_QN), budget, "round-robin").columns.tolist()
    return picked


def picks_of_the_left(exact_QN: Floats, cheap_QN: Floats, share: float, budget: int) -> list[int]:
    """Return what round-robin picks of the candidates that a cheap similarity leaves."""
    left = np.sort(best_columns(Matrix(cheap_QN), round(share * exact_QN.shape[1])))
    picked: list[int] = left[pick(Matrix(exact_QN[:, left]), budget, "round-robin").columns].tolist()
    return picked


def folder(given: argparse.Namespace, target: str, method: str) -> Path:
    return Path(given.runs) / given.model.name / target / method


def settings(given: argparse.Namespace, target: str, method: str, own: dict[str, Any]) -> Any:
    query = DATA / "targets" / target / "dev.jsonl.gz"
    start = {"store": given.store[method]} if method in given.store else {"pool": [str(path) for path in given.pool]}
    return parse_settings(
        {
            **start, "model": str(given.model), "method": method,
            "query": str(query if query.exists() else bundled.target_path(target)),
            "max_length": given.max_length, "out": str(folder(given, target, method)), **own,
        },
        where="--",
    )  # fmt: skip


def similarity(given: argparse.Namespace, target: str, method: str, own: dict[str, Any]) -> tuple[Floats, list[str]]:
    """Return a method's similarity of every query and candidate, and the candidates' ids; what is there is read."""
    made = run_similarity(settings(given, target, method, own))
    names = json.loads((made / "similarity.json").read_text())
    return np.load(made / "similarity.npy"), names["examples"]


def aligned(found_QN: Floats, found: list[str], ids: list[str]) -> Floats:
    """Return a similarity's columns in the order of ``ids``; what it does not have is last of all."""
    column = {example_id: place for place, example_id in enumerate(found)}
    out_QN = np.full((len(found_QN), len(ids)), -np.inf, dtype=np.float32)
    for place, example_id in enumerate(ids):
        if example_id in column:
            out_QN[:, place] = found_QN[:, column[example_id]]
    return out_QN


def rds_features(given: argparse.Namespace, target: str, ids: list[str]) -> Floats:
    """Return the unit rows of the candidates in the store that ``rds+`` has left."""
    kept = given.store.get("rds+")
    (path,) = [Path(kept)] if kept else (folder(given, target, "rds+") / "features").glob("pool-rds*")
    store = handpick.FeatureStore.open(path)
    row = {example_id: place for place, example_id in enumerate(store.ids)}
    rows_ND = np.asarray(store.array(0))
    return rows_ND[[row[example_id] for example_id in ids]]


if __name__ == "__main__":
    main()
