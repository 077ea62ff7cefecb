"""What a model can do as it is: zero-shot metrics of every target, beside an answer that looks at no question.

    HANDPICK_DATA=… python benchmarks/real_models.py FOLDER --weights "as published, in bfloat16"

FOLDER is a model's folder, as ``handpick select --model`` takes it. A fixed random sample of each target's test set is
answered greedily, or chosen by likelihood. Beside it stands a constant: the most frequent answer of the target's dev
set, of the same subtask where there are subtasks, given to every test and scored by the same metric. The difference is
taken test by test. A target that HANDPICK_DATA does not have is named, and left out. Code runs in the sandbox.

Writes benchmarks/results/real_models.json and .md, where other models' results stay. What was measured of the same
weights, tests and settings is not measured again, so that a run that is stopped goes on.
"""

import argparse
import json
import platform
import shutil
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from beats_random import DATA

from handpick.evaluation.estimate import Estimate, mean
from handpick.evaluation.evaluate import evaluate, prompts_in_json
from handpick.evaluation.run import OpenedModel, open_model
from handpick.evaluation.settings import TaskSettings
from handpick.evaluation.task import Task, open_task
from handpick.fingerprint import digest
from handpick.rewards import find_reward, score
from handpick.rewards.extractors import EXTRACTORS, find_named, normalise_text
from handpick.rewards.ifeval import follows

RESULTS = Path(__file__).parent / "results" / "real_models"
BY_SUBTASK = "by subtask"
READING = (
    "The constant answer is the most frequent one of the target's dev set, of the same subtask where there are "
    "subtasks, and the same for every test; of code it is no program, of IFEval a sentence. Where the last interval is "
    "not above 0, nothing shows that the model reads the question. The tests are a fixed random sample of each test "
    "set, the prompts in the chat template, the answers greedy, and the intervals over examples. †: the constant is "
    "right on every test, so that the target shows what a model has learnt of the form of an answer, and nothing else."
)


@dataclass(frozen=True)
class Target:
    """How a target is measured. ``constant``: the answer that looks at no question; None: the most frequent of dev."""

    metric: str
    shown: str
    answer_tokens: int = 1
    choices: list[str] = field(default_factory=list)
    constant: str | None = None
    example_field: str | None = None


REPEATED = Target("exact-match", "exact match", 24, example_field="example")
CODE = Target("pass@1", "pass@1", 200, constant="")
TARGETS = {
    "gsm8k": Target("exact-match:last-number", "exact match, last number", 200),
    "bbh": Target(f"{Path(__file__).resolve()}:right_on_bbh", "exact match, read by kind of answer", 128),
    "mmlu": Target("choice-likelihood", "choice by likelihood", choices=list("ABCD")),
    "boolq": Target("choice-likelihood", "choice by likelihood", choices=["true", "false"]),
    "xquad": Target("squad-f1", "SQuAD F1", 32),
    "tydiqa": Target("squad-f1", "SQuAD F1", 32),
    "mbpp": CODE,
    "humaneval": CODE,
    "ifeval": Target("ifeval", "IFEval, prompt strict", 256, constant="I do not know."),
    "ag_news": REPEATED,
    "dbpedia": REPEATED,
    "rotten_tomatoes": REPEATED,
}


def right_on_bbh(prompts: Any, completions: Sequence[str], records: Sequence[Mapping[str, Any]]) -> list[float]:
    """Score answers to BIG-Bench Hard, whose references are letters, truths, numbers or words."""
    return [_right(text, str(record["answer"])) for text, record in zip(completions, records, strict=True)]


def _right(text: str, reference: str) -> float:
    for name in ("choice", "true-false", "last-number"):
        find = EXTRACTORS[name].find
        if (wanted := find(reference)) is not None:
            return float(find(text) == wanted)
    if reference in ("valid", "invalid"):
        return float(find_named(text, ["valid", "invalid"]) == reference)
    return float(normalise_text(reference) in normalise_text(text))


def constant_answers(target: Target, dev: Sequence[Mapping[str, Any]], task: Task) -> tuple[list[str], str]:
    """Return one answer a test that looks at no test, and what it is in words."""
    if target.constant is not None:
        return [target.constant] * len(task), f'"{target.constant}"' if target.constant else "no program"
    subtasks = [None] * len(task) if task.subtask_R is None else list(task.subtask_R)
    by_subtask: dict[Any, Counter[str]] = {None: Counter(str(record["answer"]) for record in dev)}
    for record in dev:
        by_subtask.setdefault(record.get("subtask"), Counter())[str(record["answer"])] += 1
    if any(subtask is not None for subtask in subtasks):
        answers = {name: counts.most_common(1)[0][0] for name, counts in by_subtask.items()}
        found = [answers.get(subtask, answers[None]) for subtask in subtasks]
    else:
        found = [by_subtask[None].most_common(1)[0][0]] * len(task)
    return found, f'"{found[0]}"' if len(set(found)) == 1 else BY_SUBTASK


def constant_scores(target: Target, answers: Sequence[str], task: Task) -> list[float]:
    """Score the constant answers as the model's are."""
    if target.choices:
        return [float(text == record["answer"]) for text, record in zip(answers, task.records, strict=True)]
    if target.metric == "ifeval":
        return [float(all(follows(t, record, loose=False))) for t, record in zip(answers, task.records, strict=True)]
    reward = find_reward("unit-tests" if target is CODE else target.metric, allow_code_execution=target is CODE)
    rows, ids = range(len(task)), [example.id for example in task.examples]
    return score(reward, prompts_in_json(task, list(rows)), answers, task.records, ids)


def dev_records(name: str, scratch: Path) -> Sequence[Mapping[str, Any]]:
    """Return the records of a target's dev set."""
    files = [str(DATA / "targets" / name / "dev.jsonl.gz")]
    return open_task(TaskSettings(files=files), scratch, f"{name}-dev").records


def measure(name: str, opened: OpenedModel, task: Task, scratch: Path) -> dict[str, Any]:
    """Measure a target: the model, the constant answer, and the difference on the same tests."""
    target = TARGETS[name]
    shutil.rmtree(scratch, ignore_errors=True)  # answers of a run that was stopped would shorten the time
    predictions = scratch / f"predictions-{name}.jsonl"
    began, cpu_began = time.perf_counter(), time.process_time()
    found = evaluate(
        opened.model, opened.renderer, task, max_length=opened.max_length, predictions=predictions,
        identity=opened.identity, allow_code_execution=target is CODE,
    )  # fmt: skip
    took, cpu_took = time.perf_counter() - began, time.process_time() - cpu_began
    metric = "ifeval:prompt-strict" if target.metric == "ifeval" else next(iter(found.metrics))
    lines = [json.loads(line) for line in predictions.read_text(encoding="utf-8").splitlines()]
    value_R = {row: line["scores"][metric] for row, line in enumerate(lines) if metric in line["scores"]}
    dev = [] if target.constant is not None else dev_records(name, scratch)
    answers, words = constant_answers(target, dev, task)
    constant_R = constant_scores(target, answers, task)
    examples = [task.example_R[row] for row in value_R]
    return {
        "tests": len(value_R),
        "left_out": found.left_out,
        "model": found.metrics[metric].to_json(),
        "constant": mean([constant_R[row] for row in value_R], examples).to_json(),
        "answer": words,
        "difference": mean([value - constant_R[row] for row, value in value_R.items()], examples).to_json(),
        "seconds": took,
        "cpu_seconds": cpu_took,
    }


def table(models: Mapping[str, Any]) -> str:
    """Return the page of all models that were measured."""
    lines = [
        "# What models can do as they are",
        "",
        "Made by `python benchmarks/real_models.py`, zero-shot. " + READING,
    ]
    for name, each in models.items():
        lines += ["", f"## {name}", "", f"**Weights: {each['weights']}.** {each['model']}.", ""]
        lines += [f"{each['made_with']}.", ""]
        lines += [
            "| target | metric | tests (examples) | model (95%) | constant answer | model − constant (95%) "
            "| s | CPU s |",
            "|---|---|---|---|---|---|---|---|",
        ]
        lines += [_row(target, each["targets"].get(target), each["missing"]) for target in TARGETS]
    return "\n".join(lines) + "\n"


def _row(target: str, found: Mapping[str, Any] | None, missing: Mapping[str, str]) -> str:
    shown = TARGETS[target].shown
    if found is None:
        return f"| {target} | {shown} | {missing.get(target, 'not measured')} | | | | | |"
    model, constant, difference = (Estimate.from_json(found[k]) for k in ("model", "constant", "difference"))
    left_out = f", {found['left_out']} left out" if found["left_out"] else ""
    return (
        f"| {target}{' †' if constant.value == 1 else ''} | {shown} | {found['tests']} ({model.n}){left_out} | "
        f"{model.value:.3f} ({model.low:.3f} to {model.high:.3f}) | {constant.value:.3f}: {found['answer']} | "
        f"{difference.value:+.3f} ({difference.low:+.3f} to {difference.high:+.3f}) | "
        f"{found['seconds']:.0f} | {found['cpu_seconds']:.0f} |"
    )


def _machine(opened: OpenedModel) -> str:
    cpu = Path("/proc/cpuinfo").read_text().partition("model name\t: ")[2].partition("\n")[0]
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "tokenizers"))
    dtype = str(next(opened.model.parameters()).dtype).removeprefix("torch.")
    threads = f"{torch.get_num_threads()} thread(s)"
    return f"Computed in {dtype}; {cpu}, {threads}, Python {platform.python_version()}, {packages}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--weights", required=True, help="what has become of the weights; stands above the table")
    parser.add_argument("--targets", nargs="+", default=list(TARGETS), choices=list(TARGETS), metavar="NAME")
    parser.add_argument("--tests", type=int, default=100, help="a target")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--runs", type=Path, default=Path("runs/real_models"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()

    opened = open_model(str(args.folder), base=None, dtype=args.dtype, max_length=None)
    own = "its own chat template" if opened.renderer.tokenizer.chat_template else "no chat template, so the Tulu form"
    n_weights = sum(p.numel() for p in opened.model.parameters()) / 1e6
    name, out = args.folder.resolve().name, args.out.with_suffix(".json")
    models = json.loads(out.read_text()) if out.exists() else {}
    about = {"weights": args.weights, "model": f"{n_weights:,.0f}M parameters, {own}", "made_with": _machine(opened)}
    there = models.get(name, {"targets": {}})
    models[name] = {**about, "missing": there.get("missing", {}), "targets": there["targets"]}
    for target in args.targets:
        tests = DATA / "targets" / target / "test.jsonl.gz"
        if not tests.exists():
            models[name]["missing"][target] = "no test set in HANDPICK_DATA"
            print(f"{target}: left out, there is no {tests}", flush=True)
            continue
        how = TARGETS[target]
        settings = TaskSettings(
            files=[str(tests)], metrics=[how.metric], choices=how.choices, example_field=how.example_field,
            limit=args.tests, max_new_tokens=how.answer_tokens,
        )  # fmt: skip
        scratch = args.runs / name / target
        task = open_task(settings, args.runs / name, target)
        made_of = digest([opened.identity, task.fingerprint(), about["made_with"]])
        if models[name]["targets"].get(target, {}).get("made_of") == made_of:
            continue
        models[name]["targets"][target] = {**measure(target, opened, task, scratch), "made_of": made_of}
        out.write_text(json.dumps(models, indent=1) + "\n")
        args.out.with_suffix(".md").write_text(table(models))
        print(_row(target, models[name]["targets"][target], {}), flush=True)
    args.out.with_suffix(".md").write_text(table(models))


if __name__ == "__main__":
    main()
