"""IterSelectTune where the truth is known: does it find the third of a pool that is hard for the model?

    python benchmarks/iterselect.py

The pool is 1,500 real records that the shipped model has never seen: two thirds of kinds that it was trained on, one
third of kinds that it was never shown (arithmetic, algebra, code; ``handpick.bundled.split``), with responses of like
length, so that length says nothing. That makes them hard by construction, and the rule only roughly agrees: an answer
with ROUGE-L below .15 is worse than the reference.

1. Rounds: of the judged, how many are hard; the classifier on what was held out, and on every record that was never
   judged, against the truth and not the rule.
2. The share of truly hard among the chosen fifth, by round and by α, against random, longest, perplexity and IFD.
3. Answers and seconds of each round, and how many judge calls a judge would have taken, against the whole pool.

All of it for either value of ``--reads``: the classifier and the embeddings read the prompt alone, or the conversation
with its answer. What was judged first is the same for all α, of one reading.

The data is found through HANDPICK_DATA. What is there is not made again, so that a run that is stopped goes on.
"""

import argparse
import csv
import json
import random
import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from beats_random import DATA
from unseen_third import unseen

import handpick
from handpick import bundled
from handpick.data.pool import Pool
from handpick.data.quarantine import Quarantine
from handpick.iterselecttune.classifier import Classifier
from handpick.iterselecttune.held_out import held_out_metrics
from handpick.iterselecttune.reads import READ_AS
from handpick.iterselecttune.round_files import read_round_seconds
from handpick.iterselecttune.run import IterRun, run_iterselect
from handpick.iterselecttune.settings import IterSelectSettings, Reads
from handpick.layout import RunLayout

ENCODER = "all-minilm-l6-v2"
N, ROUNDS, BATCH, BUDGET = 1500, 3, 100, "20%"
ALPHAS = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]  # the paper's figure 5
DEFAULT = 0.6
# (source, category) or the beginning of a category of t0
HARD = [("flan_cot", "gsm8k"), ("flan_cot", "aqua"), ("gpteacher", "codegen")]
EASY = [
    ("gpteacher", "toolformer"), ("flan_cot", "creak"), ("flan_cot", "strategyqa"), ("flan_cot", "qasc"),
]  # fmt: skip
BELOW = 0.15
CLASSIFIER = {"model": ENCODER, "epochs": 4, "learning_rate": 1e-4, "max_length": 64}
UNREAD = {**CLASSIFIER, "epochs": 1, "max_length": 8}  # at α 0, where the classifier decides nothing

RoundsOf = dict[Reads, list[dict[str, Any]]]  # a line of figures a round
Curves = dict[Reads, dict[float, dict[str, float | None]]]  # figures by α


def known_truth(runs: Path) -> tuple[Path, dict[str, bool]]:
    """The pool, and which ids are hard."""
    path = runs / "pool.jsonl"
    whole = unseen(DATA / "pool" / "pool.jsonl.gz", runs / "unseen.jsonl")
    records = [json.loads(line) for line in whole.read_bytes().splitlines()]
    draw = random.Random(0)
    chosen: list[dict[str, Any]] = []
    truth: dict[str, bool] = {}
    drawn = {hard: by_length(records, HARD if hard else EASY, draw) for hard in (True, False)}
    room = {length: min(len(drawn[True][length]), len(drawn[False][length]) // 2) for length in drawn[True]}
    parts = {length: round(N / 3 * n / sum(room.values())) for length, n in room.items()}  # of the hard third
    for hard, times in ((True, 1), (False, 2)):
        for length, n in parts.items():
            for record in drawn[hard][length][: n * times]:
                chosen.append(record)
                truth[record["id"]] = hard
    draw.shuffle(chosen)
    runs.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in chosen), encoding="utf-8")
    return path, truth


def by_length(
    records: list[dict[str, Any]], kinds: list[tuple[str, str]], draw: random.Random
) -> dict[int, list[dict[str, Any]]]:
    """Records of some kinds, shuffled, by the length of their response in steps of 20 characters."""
    found: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for record in draw.sample(records, len(records)):
        if is_of(record, kinds):
            found[len(record["messages"][-1]["content"]) // 20].append(record)
    return found


def is_of(record: dict[str, Any], kinds: list[tuple[str, str]]) -> bool:
    return any(record["source"] == s and (record.get("category") or "").startswith(c) for s, c in kinds)


def settings(pool: Path, runs: Path, alpha: float, reads: Reads) -> IterSelectSettings:
    return IterSelectSettings.from_values(
        {
            "pool": str(pool), "model": str(bundled.model_path()), "judge": "rule:rouge-l", "hard_below": BELOW,
            "out": str(runs / reads / f"alpha-{alpha}"), "reads": reads, "budget": BUDGET, "rounds": ROUNDS,
            "batch": BATCH, "alpha": alpha,
            "diverse": N, "clusters": 30, "patience": 0, "max_new_tokens": 64, "max_length": 512,
            "dtype": "float32", "encoder": ENCODER,
            "store": str(RunLayout(runs / "embeddings").pool_store(READ_AS[reads].representation)),
            "classifier": CLASSIFIER if alpha else UNREAD,
        }
    )  # fmt: skip


def same_beginning(there: Path, folder: Path) -> None:
    """Before there is a hard example, α decides nothing: what was done by then is done for all of them."""
    for name in ("diverse.npy", "rounds/1", "answers"):
        if not (folder / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            if (there / name).is_dir():
                shutil.copytree(there / name, folder / name)
            else:
                shutil.copyfile(there / name, folder / name)


def share(ids: list[str], truth: dict[str, bool]) -> float:
    return float(np.mean([truth[each] for each in ids]))


def by_round(run: IterRun, made: IterSelectSettings, pool: Pool, truth: dict[str, bool]) -> list[dict[str, Any]]:
    """Of every round: what was judged, and the classifier on all records that were not judged by then."""
    texts = {e.id: READ_AS[made.reads].text(e) for e in pool.examples(0, len(pool))}
    judged: set[str] = set()
    found = []
    for figures in run.figures:
        folder = made.folder / "rounds" / str(figures["round"])
        lines = [json.loads(line) for line in (folder / "verdicts.jsonl").read_bytes().splitlines()]
        judged |= {line["id"] for line in lines}
        left = [each for each in texts if each not in judged]
        said = Classifier.open(folder / "classifier").probabilities([texts[each] for each in left])
        held = held_out_metrics(said, [truth[each] for each in left])
        agree = np.mean([line["hard"] == truth[line["id"]] for line in lines])
        found.append(
            {
                "round": figures["round"], "judged": figures["judged"], "judged hard": figures["hard"],
                "truly hard of the judged": share([line["id"] for line in lines], truth), "rule agrees": float(agree),
                "held-out accuracy": figures["accuracy"], "held-out AUC": figures["auc"],
                "AUC on the unjudged, truth": held.auc, "accuracy there": held.accuracy, "ECE there": held.ece,
                "seconds": read_round_seconds(made.layout.round(figures["round"])),
            }
        )  # fmt: skip
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/iterselect-benchmark"))
    parser.add_argument("--alphas", type=float, nargs="*", default=ALPHAS)
    parser.add_argument("--reads", nargs="+", choices=list(READ_AS), default=list(READ_AS))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--name", default="iterselect", help="of the files of results")
    given = parser.parse_args()
    runs: Path = given.runs
    path, truth = known_truth(runs)
    pool = Pool.open([path], cache=runs / "parsed", quarantine=Quarantine(runs / "quarantine.jsonl"))
    for reads in given.reads:
        handpick.represent_pool(
            path, method="embed", representation=READ_AS[reads].representation, encoder=ENCODER,
            out=str(runs / "embeddings"),
        )  # fmt: skip
    model = str(bundled.model_path())
    baselines: dict[str, float] = {}
    for method in ("longest", "perplexity", "ifd"):
        chosen = handpick.select(
            path, model=model, method=method, budget=BUDGET, out=str(runs / method), max_length=512, dtype="float32"
        )
        baselines[method] = share(chosen.ids, truth)
    draws = [
        share(handpick.select(path, method="random", budget=BUDGET, seed=s, out=str(runs / "random")).ids, truth)
        for s in range(10)
    ]
    baselines["random"] = float(np.mean(draws))
    rounds: RoundsOf = {}
    curves: Curves = {reads: {} for reads in given.reads}
    for alpha in [DEFAULT, *(a for a in given.alphas if a != DEFAULT)]:
        for reads in given.reads:
            made = settings(path, runs, alpha, reads)
            if alpha != DEFAULT:
                same_beginning(settings(path, runs, DEFAULT, reads).folder, made.folder)
            run = run_iterselect(made)
            curves[reads][alpha] = {
                "hard of the chosen": share(run.selection.ids, truth),
                "judged hard": sum(each["hard"] for each in run.figures) / sum(each["judged"] for each in run.figures),
                "held-out AUC": run.figures[-1]["auc"] if alpha else None,
            }
            if alpha == DEFAULT:
                rounds[reads] = by_round(run, made, pool, truth)
                shorter = {}
                for n in range(1, ROUNDS):
                    cut = made.model_copy(update={"rounds": n})
                    shorter[n] = share(run_iterselect(cut).selection.ids, truth)
                shorter[ROUNDS] = curves[reads][alpha]["hard of the chosen"]
                run_iterselect(made)
                for line in rounds[reads]:
                    line["hard of the chosen"] = shorter[line["round"]]
            write(given.out / given.name, len(truth), rounds, curves, baselines, draws)
    print((given.out / f"{given.name}.md").read_text(encoding="utf-8"))


def write(out: Path, n: int, rounds: RoundsOf, curves: Curves, baselines: dict[str, float], draws: list[float]) -> None:
    """The tables, the numbers behind them, and the two pictures; ``out`` is their name without an ending."""
    first = next(iter(rounds.values()))
    n_judged = sum(line["judged"] for line in first)
    columns = [name for name in first[0] if name != "seconds"]
    heading = ["reads", *columns, "seconds (answers, judge, classifier)"]
    lines = [
        f"Made by `python benchmarks/iterselect.py`: {n:,} records, a third hard by construction; {ROUNDS} rounds of "
        f"{BATCH}.", "",
        "| " + " | ".join(heading) + " |", "|---|" + "---:|" * (len(heading) - 1),
    ]  # fmt: skip
    for reads, of_reading in rounds.items():
        for line in of_reading:
            seconds = ", ".join(f"{line['seconds'].get(part, 0):.0f}" for part in ("answers", "judge", "classifier"))
            cells = [reads, *(_cell(line[name]) for name in columns), seconds]
            lines.append("| " + " | ".join(cells) + " |")
    alphas = sorted({alpha for curve in curves.values() for alpha in curve})

    def each_reading(alpha: float, name: str) -> str:
        return " | ".join(_cell(curve.get(alpha, {}).get(name)) for curve in curves.values())

    lines += ["", f"| truly hard of the chosen fifth, by | {' | '.join(curves)} |", "|---|" + "---:|" * len(curves)]
    lines += [f"| iterselect, α {alpha} | {each_reading(alpha, 'hard of the chosen')} |" for alpha in alphas]
    named = {name: value for name, value in baselines.items() if name != "random"}
    named[f"random, mean of 10 draws ({min(draws):.3f} to {max(draws):.3f})"] = baselines["random"]
    lines += [f"| {name} | {' | '.join([_cell(value)] * len(curves))} |" for name, value in named.items()]
    for name in ("judged hard", "held-out AUC"):
        said = {"judged hard": "judged hard of the judged", "held-out AUC": "held-out AUC, last round"}[name]
        lines += ["", f"| {said} | {' | '.join(curves)} |", "|---|" + "---:|" * len(curves)]
        lines += [f"| α {alpha} | {each_reading(alpha, name)} |" for alpha in alphas]
    lines += [
        "",
        f"A judge in both orders would have been asked {2 * n_judged:,} times; for the whole pool {2 * n:,} times "
        f"({n_judged / n:.0%} of them).",
        "",
    ]
    out.with_name(f"{out.name}.md").write_text("\n".join(lines), encoding="utf-8")
    by_alpha = {reads: {str(a): f for a, f in sorted(curve.items())} for reads, curve in curves.items()}
    content = {"rounds": rounds, "alpha": by_alpha, "baselines": baselines, "random draws": draws}
    out.with_name(f"{out.name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    with out.with_name(f"{out.name}.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["reads", "by", "at", "hard of the chosen"])
        for reads, curve in curves.items():
            of_rounds = rounds.get(reads, [])
            writer.writerows([[reads, "round", line["round"], line["hard of the chosen"]] for line in of_rounds])
            writer.writerows([[reads, "alpha", a, f["hard of the chosen"]] for a, f in sorted(curve.items())])
    picture(out.with_name(f"{out.name}.png"), rounds, curves, baselines)


def _cell(value: Any) -> str:
    return "–" if value is None else f"{value:.3f}" if isinstance(value, float) else f"{value:,}"


def picture(path: Path, rounds: RoundsOf, curves: Curves, baselines: dict[str, float]) -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 3.8), sharey=True, layout="constrained")
    for reads, style in zip(curves, ("-", "--"), strict=False):
        of_reading = rounds.get(reads, [])
        at = [line["round"] for line in of_reading]
        for name, marker, colour in (
            ("hard of the chosen", "o", "C0"), ("AUC on the unjudged, truth", "s", "C1"),
            ("truly hard of the judged", "^", "C2"),
        ):  # fmt: skip
            values = [line[name] for line in of_reading]
            left.plot(at, values, style, marker=marker, color=colour, label=f"{name} ({reads})")
        alphas = sorted(curves[reads])
        chosen = [curves[reads][alpha]["hard of the chosen"] for alpha in alphas]
        right.plot(alphas, chosen, style, marker="o", color="C0", label=f"iterselect, reads {reads}")
    left.set(xlabel="round", xticks=range(1, ROUNDS + 1), ylim=(0, 1.03), title=f"rounds, α {DEFAULT}")
    right.set(xlabel="α: weight of the classifier", title="truly hard of the chosen fifth")
    for name, line_style in (("random", ":"), ("longest", "--"), ("perplexity", "-."), ("ifd", (0, (1, 3)))):
        right.axhline(baselines[name], linestyle=line_style, color="0.45", linewidth=1)
        right.annotate(name, (1.0, baselines[name]), textcoords="offset points", xytext=(4, 2), fontsize=8, ha="right")
    for axes in (left, right):
        axes.legend(fontsize=7)
        axes.grid(alpha=0.25)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
