"""Every preset on real data: how alike their choices are, what they choose, and what that teaches.

    python benchmarks/presets.py

1. The small pool, three targets: the Jaccard index of the first 500 of every two presets (a picture and a CSV).
2. The third of the pool that the shipped model has never seen (about 34,000 candidates), six targets: the share of the
   target's own source among the first 500.
3. There too: the loss on the target's tests after fine-tuning on the 500 (benchmarks/finetune.py), against the model as
   it is and random draws.

``rose`` and ``nice`` are left out: they need preferences and rewards. The data is found through HANDPICK_DATA.
Features, choices and losses that are there are not made again, so that a run that is stopped goes on; ``--steps`` does
a part, and the tables show which cells are missing.
"""

import argparse
import csv
import gzip
import itertools
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from beats_random import DATA
from finetune import MAX_LENGTH, Job, read, rendered, renderer_of, run
from finetune import RECIPE as FOUR_EPOCHS
from one_gist_pass import fill_gist_stores
from unseen_third import unseen

import handpick
from handpick import bundled
from handpick.data.pool import Pool
from handpick.data.render import Rendered, Renderer
from handpick.errors import StoreError
from handpick.fingerprint import digest
from handpick.methods import METHODS
from handpick.model import model_fingerprint
from handpick.objectives.next_token import NextToken
from handpick.representations import SCORERS

ENCODER = "all-minilm-l6-v2"
RECIPE = FOUR_EPOCHS.model_copy(update={"epochs": 1})  # 63 steps on 500 examples; 100 fine-tunings are hours as it is
PRESETS = [name for name in METHODS if name not in ("rose", "nice")]
SETTINGS: dict[str, dict[str, Any]] = {name: {"method": name} for name in PRESETS} | {
    "whitened-rr, damping 0.1": {"method": "whitened-rr", "whitening_damping": 0.1},
    "whitened-rr, damping 1": {"method": "whitened-rr", "whitening_damping": 1.0},
    "whitened-rr, damping 100": {"method": "whitened-rr", "whitening_damping": 100.0},
    "dsir, smoothing 1e-4": {"method": "dsir", "dsir_smoothing": 1e-4},
    "random, draw 1": {"method": "random", "seed": 1},
    "random, draw 2": {"method": "random", "seed": 2},
}
DRAWS = ["random", "random, draw 1", "random, draw 2"]
SMALL_TARGETS = ["gsm8k", "boolq", "mbpp"]
TARGETS = [*SMALL_TARGETS, "ag_news", "dbpedia", "xquad-en"]
OWN: dict[str, Callable[[str, str], bool]] = {
    "gsm8k": lambda source, category: category == "gsm8k",
    "boolq": lambda source, category: category == "boolq",
    "mbpp": lambda source, category: source == "mbpp" or (source, category) == ("gpteacher", "codegen"),
    "ag_news": lambda source, category: source == "t0" and category.startswith("ag_news"),
    "dbpedia": lambda source, category: source == "t0" and category.startswith("dbpedia"),
    "xquad-en": lambda source, category: (
        source == "t0" and category.startswith(("adversarial_qa", "quoref", "ropes", "duorc"))
    ),
}
SCORED = 8_000  # candidates for perplexity and ifd, a random cut, to save the time of three passes over all
# in this order they are fine-tuned on, a target after another
DECIDING = ["less-rr", "whitened-rr", "less", "rds+", "gist", "embed", "bm25", "gradient-rr"]
LATER = ["tsds", "tsds-uniform", "less-uot", "dsir", "dsir, smoothing 1e-4"]
LATER += ["whitened-rr, damping 1", "whitened-rr, damping 100"]


def target_file(target: str, part: str, runs: Path) -> Path:
    """A target's dev or test set; of the one in several languages, what is English."""
    name, _, language = target.partition("-")
    whole = DATA / "targets" / name / f"{part}.jsonl.gz"
    if not language:
        return whole
    own = runs / "targets" / f"{target}-{part}.jsonl"
    if not own.exists():
        own.parent.mkdir(parents=True, exist_ok=True)
        with gzip.open(whole, "rb") as lines:
            own.write_bytes(b"".join(line for line in lines if json.loads(line)["subtask"] == language))
    return own


def cut(pool: Path, runs: Path) -> Path:
    """A random ``SCORED`` of a pool's records; the pool itself where it has no more."""
    opened = gzip.open if pool.suffix == ".gz" else open
    with opened(pool, "rb") as lines:
        records = lines.readlines()
    if len(records) <= SCORED:
        return pool
    path = runs / f"cut-{SCORED}.jsonl"
    if not path.exists():
        kept = sorted(np.random.default_rng(0).permutation(len(records))[:SCORED].tolist())
        path.write_bytes(b"".join(records[row] for row in kept))
    return path


def for_a_query(name: str) -> bool:
    """Whether what a preset chooses depends on the target."""
    return "query" in SCORERS[METHODS[SETTINGS[name]["method"]].representation].needs


class Choices:
    """The presets' choices from one pool: makes the features that are missing, once for all targets.

    Args:
        pool: a file.
        targets: what to choose for.
        runs: the folder of this pool's features and choices.
        model: the language model.
        budget: how many to choose.
    """

    def __init__(self, pool: Path, targets: list[str], runs: Path, model: str, budget: int) -> None:
        self.runs = runs
        self.targets = targets
        self._budget = budget
        self._queries = {target: target_file(target, "dev", runs) for target in targets}
        self._model = {"pool": str(pool), "model": model, "max_length": MAX_LENGTH}
        self._words = {"pool": str(pool)}

    def fill(self, presets: Iterable[str]) -> None:
        """The features that several presets or targets share."""
        used = {(METHODS[name].representation, METHODS[name].optimizer) for name in presets if name in METHODS}
        if used & {("gradient", "adam"), ("whitened", "adam")}:
            handpick.represent_pool(**self._model, storage="float16", out=str(self.runs))
        if ("gradient", "sgd") in used:
            handpick.represent_pool(
                **self._at_the_checkpoints(), storage="float16", method="gradient-rr", out=str(self.runs / "sgd")
            )
        if ("gist", "sgd") in used:
            fill_gist_stores(self._at_the_checkpoints(), self._queries, self.runs / "gist")
        if ("rds+", "adam") in used:
            handpick.represent_pool(**self._model, method="rds+", out=str(self.runs / "rds+"))
        if ("embed", "adam") in used:
            handpick.represent_pool(**self._words, method="embed", encoder=ENCODER, out=str(self.runs / "embed"))

    def ids(self, name: str, target: str) -> list[str]:
        """What a preset chooses, in order; the same list for every target where it looks at no query."""
        if (there := self.made(name, target)) is not None:
            return there
        query = {"query": str(self._queries[target])} if for_a_query(name) else {}
        new = handpick.select(**query, **self._settings(name, target), budget=self._budget)
        new.save(self._folder(name, target))
        print(f"chosen: {name}, {self._folder(name, target).name}", flush=True)
        return new.ids

    def made(self, name: str, target: str) -> list[str] | None:
        """What a preset has chosen in this run or an earlier one."""
        try:
            return handpick.Selection.open(self._folder(name, target)).ids
        except StoreError:
            return None

    def _folder(self, name: str, target: str) -> Path:
        return self.runs / "chosen" / name / (target if for_a_query(name) else "any")

    def _settings(self, name: str, target: str) -> dict[str, Any]:
        own = SETTINGS[name]
        method = METHODS[own["method"]]
        scratch = {"out": str(self.runs / "scratch" / method.representation)}
        match method.representation:
            case "gradient" | "whitened":
                side = self.runs / ("sgd" if method.optimizer == "sgd" else ".")
                return own | {"store": str(side / "features" / "pool"), "out": str(self.runs / "scratch" / "gradient")}
            case "gist":
                return own | self._at_the_checkpoints() | {"out": str(self.runs / "gist" / target)}
            case "rds+" | "embed" as kind:
                return own | scratch | {"store": str(self.runs / kind / "features" / f"pool-{kind}")}
            case "bm25" | "dsir" | "none":
                return own | scratch | self._words
            case "perplexity" | "ifd" as kind:
                cut_pool = cut(Path(self._model["pool"]), self.runs)
                return own | self._model | {"pool": str(cut_pool), "out": str(self.runs / kind)}
            case "length":
                return own | self._model | {"out": str(self.runs / "length")}

    def _at_the_checkpoints(self) -> dict[str, Any]:
        record = json.loads((self.runs / "warmup" / "warmup.json").read_text())
        return self._model | {"checkpoints": [str(self.runs / "warmup" / name) for name in record["checkpoints"]]}


def jaccard(one: list[str], other: list[str]) -> float:
    return len(set(one) & set(other)) / len(set(one) | set(other))


def alike(choices: Choices, out: Path) -> None:
    """The Jaccard index of every two presets for every target, as CSV, and the mean over targets as a picture."""
    similar_TPP = np.array(
        [[[jaccard(choices.ids(a, target), choices.ids(b, target)) for b in PRESETS] for a in PRESETS]
         for target in choices.targets]
    )  # fmt: skip
    with out.with_suffix(".csv").open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["preset", "other", *choices.targets, "mean"])
        for (i, a), (j, b) in itertools.combinations(enumerate(PRESETS), 2):
            table.writerow([a, b, *(f"{x:.4f}" for x in similar_TPP[:, i, j]), f"{similar_TPP[:, i, j].mean():.4f}"])
    draw(similar_TPP.mean(0), choices.targets, out.with_suffix(".png"))


def draw(similar_PP: np.ndarray, targets: list[str], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(9.5, 8.6), layout="constrained", facecolor="white")
    shown_PP = np.ma.masked_where(np.triu(np.ones_like(similar_PP, dtype=bool)), similar_PP)[1:, :-1]
    image = axes.imshow(shown_PP, cmap="Blues", vmin=0, vmax=1)
    for row, column in zip(*np.nonzero(~np.ma.getmaskarray(shown_PP)), strict=True):
        value = shown_PP[row, column]
        axes.text(column, row, f"{value:.2f}".removeprefix("0"), ha="center", va="center", fontsize=9,
                  color="white" if value > 0.55 else "#202020")  # fmt: skip
    axes.set_xticks(range(len(PRESETS) - 1), PRESETS[:-1], rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(PRESETS) - 1), PRESETS[1:])
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelsize=10)
    axes.set_title(
        f"How alike the presets choose: Jaccard index of the first 500 of 3,149\nmean over {', '.join(targets)}",
        fontsize=12,
    )
    figure.colorbar(image, ax=axes, shrink=0.6, label="shared of all that either chooses")
    figure.savefig(path, dpi=110)
    plt.close(figure)


class Trained:
    """What the fine-tunings are: one for a choice, under a name that the sequences, the recipe and the model decide."""

    def __init__(self, choices: Choices, pool: Pool, model: str, tests: dict[str, list[Rendered]]) -> None:
        self._choices = choices
        self._pool = pool
        self._model = model
        self._tests = tests
        self._learn = NextToken(renderer_of(model), MAX_LENGTH)
        self._row_of = {example_id: row for row, example_id in enumerate(pool.ids())}
        self._of_model = model_fingerprint(model)

    def zero_shot(self) -> Job:
        return self._job("zero-shot", [], list(self._tests))

    def job(self, name: str, target: str) -> Job | None:
        """None where nothing was chosen; of a preset that looks at no query one job serves all targets."""
        ids = self._choices.made(name, target)
        return None if ids is None else self._job(name, ids, [target] if for_a_query(name) else list(self._tests))

    def _job(self, name: str, ids: list[str], targets: list[str]) -> Job:
        learned = self._learn.prepare([self._pool[self._row_of[each]] for each in ids]).items
        tests = {target: self._tests[target] for target in targets}
        key = digest(
            [
                self._of_model, RECIPE.model_dump(mode="json"), [each.input_ids for each in learned],
                {target: [each.input_ids for each in own] for target, own in tests.items()},
            ]
        )  # fmt: skip
        where = targets[0] if len(targets) == 1 else "all"
        return Job(f"{name}, {where}, {key}", self._model, learned, tests, seed=0, recipe=RECIPE)


def shares(choices: Choices, names: list[str], kind: dict[str, tuple[str, str]], n: int) -> list[str]:
    """A table of the share of each target's own source among ``n`` chosen; a dash where nothing was chosen."""
    there = {t: sum(OWN[t](*each) for each in kind.values()) for t in choices.targets}
    lines = [
        "| | " + " | ".join(choices.targets) + " |", "|---|" + "---|" * len(choices.targets),
        "| in the pool | " + " | ".join(f"{there[t]:,} ({there[t] / len(kind):.3f})" for t in choices.targets) + " |",
        f"| most that {n} can hold | " + " | ".join(f"{min(1, there[t] / n):.3f}" for t in choices.targets) + " |",
    ]  # fmt: skip
    for name in names:
        made = [(t, choices.made(name, t)) for t in choices.targets]
        own = [None if ids is None else float(np.mean([OWN[t](*kind[i]) for i in ids])) for t, ids in made]
        lines.append(f"| {name} | " + " | ".join(map(cell, own)) + " |")
    return lines


def cell(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def test_losses(
    trained: Trained, names: list[str], targets: list[str], losses: dict[str, dict[str, float]]
) -> list[str]:
    """A table of the losses that are there; a dash where none is."""

    def row(name: str, job_for: Callable[[str], Job | None]) -> str:
        found = [losses.get(job.key, {}).get(target) if (job := job_for(target)) else None for target in targets]
        return f"| {name} | " + " | ".join(map(cell, found)) + " |"

    lines = ["| | " + " | ".join(targets) + " |", "|---|" + "---|" * len(targets)]
    lines.append(row("zero-shot", lambda _: trained.zero_shot()))
    return lines + [row(name, lambda target, name=name: trained.job(name, target)) for name in names]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(bundled.model_path()))
    parser.add_argument("--budget", type=int, default=500)
    parser.add_argument("--tests", type=int, default=300, help="test examples a target")
    parser.add_argument("--steps", nargs="+", choices=["alike", "choose", "train", "report"],
                        default=["alike", "choose", "train", "report"])  # fmt: skip
    parser.add_argument("--presets", nargs="+", default=list(SETTINGS), help="to choose by and fine-tune on")
    parser.add_argument("--targets", nargs="+", default=TARGETS, help="to fine-tune for, in this order")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--runs", type=Path, default=Path("runs/unseen_third"), help="shared with unseen_third.py")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/presets"))
    args = parser.parse_args()

    if "alike" in args.steps:
        small = Choices(
            DATA / "pool" / "pool_small.jsonl.gz", SMALL_TARGETS, args.runs / "small", args.model, args.budget
        )
        small.fill(PRESETS)
        alike(small, args.out)

    source = unseen(DATA / "pool" / "pool.jsonl.gz", args.runs / "unseen.jsonl")
    choices = Choices(source, TARGETS, args.runs, args.model, args.budget)
    if "choose" in args.steps:
        choices.fill(args.presets)
        for name, target in itertools.product(args.presets, TARGETS):
            choices.ids(name, target)
    if not {"train", "report"} & set(args.steps):
        return

    pool = read([source], args.runs)
    renderer = renderer_of(args.model)
    tests = {target: test_set(target, args.tests, args.runs, renderer) for target in TARGETS}
    trained = Trained(choices, pool, args.model, tests)
    if "train" in args.steps:
        wanted = [(name, TARGETS[0]) for name in (*DRAWS, "perplexity", "ifd", "longest")]
        wanted += [(name, target) for group in (DECIDING, LATER) for target in args.targets for name in group]
        jobs = {"zero-shot": trained.zero_shot()}
        jobs |= {job.key: job for each in wanted if each[0] in args.presets and (job := trained.job(*each))}
        run(list(jobs.values()), args.out.with_suffix(".json"), args.workers)
    if "report" in args.steps:
        kept = args.out.with_suffix(".json")
        losses = json.loads(kept.read_text()) if kept.exists() else {}
        kind = dict(zip(pool.ids(), zip(pool.column("source"), pool.column("category"), strict=True), strict=True))
        lines = [f"{len(pool):,} records, {args.budget} chosen. Share of the target's own source among them:", ""]
        lines += shares(choices, args.presets, kind, args.budget)
        lines += ["", f"Loss on {args.tests} tests after fine-tuning on them, one seed; a dash was not run:", ""]
        lines += test_losses(trained, args.presets, TARGETS, losses)
        table = "\n".join(lines)
        args.out.with_suffix(".md").write_text(table + "\n")
        print(table)


def test_set(target: str, n: int, runs: Path, renderer: Renderer) -> list[Rendered]:
    """A fixed random sample of a target's test set."""
    whole = rendered(read([target_file(target, "test", runs)], runs), renderer)
    return [whole[i] for i in sorted(np.random.default_rng(0).permutation(len(whole))[:n])]


if __name__ == "__main__":
    main()
