"""How well a prefilter's check tells what was missed, where the whole pool's rows of both stages are there to say.

    handpick select --method rds+ --out RUN … && handpick select --method less-rr --out RUN …
    python benchmarks/prefilter_check.py RUN

For a share, a budget and an algorithm: how much of the choice from the whole pool the prefilter leaves; and, over 40
draws of the checked, the mean of the recall that is told, and how often its 95% interval holds the truth. Writes
benchmarks/results/prefilter_check.md.

Shapes: Q queries, N candidates.
"""

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from handpick.algorithms import pick
from handpick.algorithms.matrix import Matrix
from handpick.layout import RunLayout
from handpick.pipeline.missed import Missed
from handpick.scorers.cut import best_columns
from handpick.similarity import similarity
from handpick.store import FeatureStore

SHARES, BUDGETS, CHECKED, DRAWS = (0.05, 0.1, 0.2), (30, 100), (50, 300), 40


def similarity_of(run: RunLayout, representation: str) -> tuple[list[str], NDArray[np.float32]]:
    """Return the ids of a representation's candidates and their similarity to the queries, (Q, N)."""
    store = FeatureStore.open(run.pool_store(representation))
    queries = map(FeatureStore.open, run.query_stores())
    return list(store.ids), similarity(store, next(q for q in queries if q.manifest.space == store.manifest.space))


def tell(whole_QN: NDArray[np.float32], left_N: NDArray[np.bool_], n_cut: int, row: tuple[str, int, int]) -> str:
    """Return a line of the table."""
    algorithm, budget, checked = row
    truth = float(left_N[pick(whole_QN, budget, algorithm).columns].mean())
    told, held = [], 0
    for seed in range(DRAWS):
        others = np.random.default_rng(seed).permutation(np.flatnonzero(~left_N))
        drawn = others[: round(checked * len(others) / n_cut)]  # of those that were cut, some cannot be used
        columns = np.sort(np.concatenate([np.flatnonzero(left_N), drawn]))
        would_be = int(np.isin(columns[pick(whole_QN[:, columns], budget, algorithm).columns], drawn).sum())
        recall = Missed(["rds+"], int(left_N.sum()), n_cut, {}, budget, checked, would_be).recall
        assert recall is not None
        told.append(recall.value)
        held += recall.low <= truth <= recall.high
    return f"{truth:.2f} | {np.mean(told):.2f} ± {np.std(told):.2f} | {held} of {DRAWS} |"


def main() -> None:
    run = RunLayout(Path(sys.argv[1]))
    ranked_ids, ranked_QN = similarity_of(run, "rds+")
    ids, whole_QN = similarity_of(run, "gradient")
    row_of = {example_id: row for row, example_id in enumerate(ranked_ids)}
    rows_N = np.array([row_of[example_id] for example_id in ids])
    lines = [
        f"{len(ranked_ids):,} candidates by rds+, {len(ids):,} of them with a gradient, {len(whole_QN)} queries.",
        "",
        "| algorithm | share left | budget | checked | of the choice, left | told, over draws | interval holds it |",
        "|---|---|---|---|---|---|---|",
    ]
    for algorithm in ("round-robin", "mean-max", "doubly-greedy"):
        for share in SHARES:
            left = best_columns(Matrix(ranked_QN), round(share * len(ranked_ids)))
            left_N, n_cut = np.isin(rows_N, left), len(ranked_ids) - len(left)
            for budget in BUDGETS:
                for checked in CHECKED:
                    found = tell(whole_QN, left_N, n_cut, (algorithm, budget, checked))
                    lines.append(f"| {algorithm} | {share:.0%} | {budget} | {checked} | {found}")
    text = "\n".join(lines) + "\n"
    (Path(__file__).parent / "results" / "prefilter_check.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
