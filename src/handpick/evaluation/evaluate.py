"""A task's metrics on a model: every record scored once, estimates with intervals, and what it answered.

Legend: R records.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from handpick.data.examples import before_answer
from handpick.data.render import Rendered, Renderer
from handpick.errors import DataError, ModelError
from handpick.evaluation.answers import generate_answers, greedy_sampling, pass_at_k_sampling, prompts_of
from handpick.evaluation.choice import choices_of, render_with_choice, right_choices
from handpick.evaluation.estimate import Estimate, macro_mean, mean
from handpick.evaluation.gradable import gradable_rows, say_ungradable, ungradable_records
from handpick.evaluation.likelihood import log_likelihood
from handpick.evaluation.metrics import answers_per_prompt, is_likelihood
from handpick.evaluation.pass_at_k import pass_at_k
from handpick.evaluation.task import Task, prompt_of
from handpick.files import atomic_write
from handpick.fingerprint import Fingerprint
from handpick.judge import JudgeOptions
from handpick.layout import EvaluationLayout
from handpick.model import device, padding_id
from handpick.progress import log, progress
from handpick.rewards import Reward, find_reward, score
from handpick.rewards.ifeval import ACCURACIES, follows
from handpick.sampling.generate import Sampling

BATCH_TOKENS = {"cpu": 8192, "cuda": 32768}
_AT_ONCE = 256  # answers that a reward is given, so that a bar can move

Ask = Callable[[Sampling], dict[int, list[str]]]  # texts of every prompt's answers, by row


@dataclass(frozen=True)
class Evaluation:
    """Estimates by metric, over all records; ``macro``, over subtasks that count the same; and of each subtask.

    ``records`` were measured in some metric; ``left_out`` of them were not in every one, because of themselves
    (too long, no answer to compare with). The predictions say which and why.
    """

    metrics: dict[str, Estimate]
    macro: dict[str, Estimate]
    subtasks: dict[str, dict[str, Estimate]]
    records: int
    left_out: int

    def to_json(self) -> dict[str, Any]:
        return {
            "metrics": _to_json(self.metrics),
            "macro": _to_json(self.macro),
            "subtasks": {name: _to_json(each) for name, each in self.subtasks.items()},
            "records": self.records,
            "left_out": self.left_out,
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> "Evaluation":
        return cls(
            _from_json(found["metrics"]),
            _from_json(found["macro"]),
            {name: _from_json(each) for name, each in found["subtasks"].items()},
            found["records"],
            found["left_out"],
        )


def _to_json(estimates: Mapping[str, Estimate]) -> dict[str, Any]:
    return {name: estimate.to_json() for name, estimate in estimates.items()}


def _from_json(found: Mapping[str, Any]) -> dict[str, Estimate]:
    return {name: Estimate.from_json(each) for name, each in found.items()}


@dataclass
class RecordScores:
    """What is found of the records, by row."""

    values: dict[str, dict[int, float]] = field(default_factory=dict)  # by metric
    weights: dict[str, dict[int, float]] = field(default_factory=dict)  # of the metrics whose records weigh differently
    answers: dict[int, str] = field(default_factory=dict)
    samples: dict[int, list[str]] = field(default_factory=dict)
    picked: dict[str, dict[int, str]] = field(default_factory=dict)
    refused: dict[int, str] = field(default_factory=dict)  # and why
    ungradable: dict[str, dict[int, str]] = field(default_factory=dict)  # by metric, and why; among the refused


def rewards_of(
    metrics: Sequence[str],
    *,
    allow_code_execution: bool = False,
    allow_weak_sandbox: bool = False,
    judge: JudgeOptions | None = None,
    cache: Path | None = None,
) -> dict[str, Reward]:
    """Return what scores the answers, by metric; arguments as ``find_reward``.

    Raises:
        SettingsError: a metric cannot be had, or is not allowed.
    """
    return {
        m: find_reward(
            "unit-tests" if answers_per_prompt(m) else m,
            allow_code_execution=allow_code_execution,
            allow_weak_sandbox=allow_weak_sandbox,
            judge=judge,
            cache=cache,
        )
        for m in metrics
        if not is_likelihood(m) and m != "ifeval"
    }


def evaluate(
    model: nn.Module,
    renderer: Renderer,
    task: Task,
    *,
    max_length: int,
    batch_tokens: int | None = None,
    predictions: Path | None = None,
    identity: Fingerprint | None = None,
    allow_code_execution: bool = False,
    allow_weak_sandbox: bool = False,
    judge: JudgeOptions | None = None,
    quiet: bool = False,
) -> Evaluation:
    """Measure a task's metrics on a model.

    Args:
        model: a causal language model, with an adapter or without.
        renderer: with its tokenizer.
        task: what to measure, on which records.
        max_length: tokens of a conversation that the loss is taken of; a prompt and its answer must fit into it.
        batch_tokens: padded tokens of a batch, at most; changes the time and the last bits.
        predictions: the file for every record's answers and scores, written whole at the end. Answers are kept beside
            it in ``answers/`` as they come, and none is generated again; those that are drawn (pass@K) are for the
            same prompts alone. None: nothing is kept.
        identity: what the model is, for finding its answers again; None: the digest of its weights.
        allow_code_execution: whether tests may run the model's code, in the sandbox.
        allow_weak_sandbox: whether also where nothing shuts it off.
        judge: settings of a metric ``judge:MODEL``, besides the model.
        quiet: no progress bars.

    Returns:
        The estimates; of IFEval's four accuracies under ``ifeval:prompt-strict`` and so on.

    Raises:
        SettingsError: a metric cannot be had, or is not allowed.
        DataError: a metric can grade no record, which is found out before any work, or has none left.
        ModelError: the model has no decoder apart from its head, or a likelihood is no number.
        JudgeError: as ``JudgeReward``.
        StoreError: the predictions cannot be written.
    """
    metrics, layout = task.settings.metrics, None if predictions is None else EvaluationLayout(predictions.parent)
    rewards = rewards_of(  # made first: what is not there or not allowed is said before any work
        metrics,
        allow_code_execution=allow_code_execution,
        allow_weak_sandbox=allow_weak_sandbox,
        judge=judge,
        cache=None if layout is None else layout.verdicts,
    )
    scores = RecordScores(ungradable=ungradable_records(task, judge))
    for metric, rows in scores.ungradable.items():
        scores.refused |= {row: f"{metric}: {why}" for row, why in rows.items() if row not in scores.refused}
    if not quiet:
        say_ungradable(task, scores.ungradable)
    tokens = batch_tokens or BATCH_TOKENS[device().type]
    if "loss" in metrics:
        _measure_loss(scores, model, renderer, task, max_length, tokens, quiet)
    if by_likelihood := [m for m in metrics if m.startswith("choice-likelihood")]:
        _measure_choices(scores, by_likelihood, model, renderer, task, max_length, tokens, quiet)
    _check_any(scores, task)  # before answers are generated, which takes longest
    if _greedy_metrics(task) or task.settings.answers_drawn:
        prompts, refused = prompts_of(task, renderer, max_length)
        scores.refused |= refused
        answering = [metric for metric in metrics if not is_likelihood(metric)]
        prompts = {row: prompts[row] for row in gradable_rows(scores.ungradable, answering, list(prompts))}
        folder = None if layout is None else layout.answers
        ask = _asking(model, renderer, prompts, seed=task.settings.seed, folder=folder, identity=identity, quiet=quiet)
        _score_answers(scores, ask, rewards, task, quiet)
    if predictions is not None:
        _write_predictions(predictions, scores, task)
    if not quiet:
        _say_left_out(scores, task)
    return summarise_scores(scores, task)


def _asking(
    model: nn.Module,
    renderer: Renderer,
    prompts: Mapping[int, list[int]],
    *,
    seed: int,
    folder: Path | None,
    identity: Fingerprint | None,
    quiet: bool,
) -> Ask:
    """Return what gives the texts of every prompt's answers, by row; arguments as ``generate_answers``."""

    def ask(sampling: Sampling) -> dict[int, list[str]]:
        texts = generate_answers(
            model,
            renderer,
            list(prompts.values()),
            sampling,
            seed=seed,
            folder=folder,
            identity=identity,
            quiet=quiet,
        )
        return dict(zip(prompts, texts, strict=True))

    return ask


def _greedy_metrics(task: Task) -> list[str]:
    """Return the metrics of one answer, the likeliest: pass@K too, where none are drawn."""
    drawn_for = answers_per_prompt if task.settings.answers_drawn else lambda _: None
    return [metric for metric in task.settings.metrics if not is_likelihood(metric) and not drawn_for(metric)]


def _score_answers(scores: RecordScores, ask: Ask, rewards: Mapping[str, Reward], task: Task, quiet: bool) -> None:
    """Generate what the metrics score, and score it."""
    if greedy_for := _greedy_metrics(task):
        scores.answers = {row: text for row, (text,) in ask(greedy_sampling(task)).items()}
        _measure_greedy(scores, greedy_for, rewards, task, quiet)
    if task.settings.answers_drawn:
        scores.samples = ask(pass_at_k_sampling(task))
        _measure_pass_at_k(
            scores, {m: k for m in task.settings.metrics if (k := answers_per_prompt(m))}, rewards, task, quiet
        )


def _say_left_out(scores: RecordScores, task: Task) -> None:
    """Say how many records were left out, if any, and why the first was."""
    known = {row for rows in scores.ungradable.values() for row in rows}  # said before any work
    refused = {row: why for row, why in scores.refused.items() if row not in known}
    if refused:
        row, why = next(iter(refused.items()))
        log(f"{len(refused):,} of {len(task):,} records of {task.name} left out; {task.examples[row].id}: {why}")


def summarise_scores(scores: RecordScores, task: Task) -> Evaluation:
    """Estimate all metrics that records have values of.

    Raises:
        DataError: a metric has none.
    """
    metrics: dict[str, Estimate] = {}
    macro: dict[str, Estimate] = {}
    subtasks: dict[str, dict[str, Estimate]] = {}
    measured: set[int] = set()
    _check_any(scores, task)
    for name, values in scores.values.items():
        measured |= values.keys()
        weights = scores.weights.get(name)
        metrics[name] = _mean(task, values, list(values), weights)
        if task.subtask_R is not None:
            of_row = {row: task.subtask_R[row] for row in values}
            for subtask in sorted(set(of_row.values())):
                rows = [row for row in values if of_row[row] == subtask]
                subtasks.setdefault(subtask, {})[name] = _mean(task, values, rows, weights)
            if weights is None:  # a ratio of sums has no macro mean that is a sum over examples
                example_R = [task.example_R[row] for row in values]
                macro[name] = macro_mean(list(values.values()), example_R, list(of_row.values()))
    return Evaluation(metrics, macro, subtasks, len(measured), len(scores.refused))


def _check_any(scores: RecordScores, task: Task) -> None:
    for name, values in scores.values.items():
        if not values:
            why = next(iter(scores.refused.values()), "none has what it needs")
            raise DataError(f"{name} has no record left of the {len(task):,} of {task.name}: {why}")


def _mean(
    task: Task, values: Mapping[int, float], rows: Sequence[int], weights: Mapping[int, float] | None
) -> Estimate:
    weight_R = None if weights is None else [weights[row] for row in rows]
    return mean([values[row] for row in rows], [task.example_R[row] for row in rows], weight_R)


def _measure_loss(
    scores: RecordScores, model: nn.Module, renderer: Renderer, task: Task, max_length: int, tokens: int, quiet: bool
) -> None:
    rendered: dict[int, Rendered] = {}
    for row, example in enumerate(task.examples):
        try:
            rendered[row] = renderer(example.messages, max_length)
        except DataError as error:
            scores.refused[row] = str(error)
    log_R = _log_likelihood(model, renderer, list(rendered.values()), tokens, f"loss, {task.name}", quiet).mean_S
    scores.values["loss"] = dict(zip(rendered, (-log_R).tolist(), strict=True))


def _measure_choices(
    scores: RecordScores,
    metrics: Sequence[str],
    model: nn.Module,
    renderer: Renderer,
    task: Task,
    max_length: int,
    tokens: int,
    quiet: bool,
) -> None:
    sequences: list[Rendered] = []
    asked: list[tuple[int, list[str], set[int], int]] = []  # row, its choices, the right ones, its first sequence
    for row in gradable_rows(scores.ungradable, metrics, range(len(task))):
        record, example = task.records[row], task.examples[row]
        choices = choices_of(record, task.settings.choices)
        right = right_choices(record, example, choices)
        try:
            own = [render_with_choice(renderer, example, choice, max_length) for choice in choices]
        except DataError as error:
            scores.refused[row] = str(error)
            continue
        asked.append((row, choices, right, len(sequences)))
        sequences += own
    found = _log_likelihood(model, renderer, sequences, tokens, f"choices, {task.name}", quiet)
    for metric in metrics:
        log_S = found.mean_S if metric.endswith(":mean") else found.sum_S
        picked = {row: int(np.argmax(log_S[at : at + len(choices)])) for row, choices, _, at in asked}
        scores.values[metric] = {row: float(picked[row] in right) for row, _, right, _ in asked}
        scores.picked[metric] = {row: choices[picked[row]] for row, choices, _, _ in asked}


def _log_likelihood(
    model: nn.Module, renderer: Renderer, sequences: Sequence[Rendered], tokens: int, what: str, quiet: bool
) -> Any:
    with nullcontext(lambda n: None) if quiet else progress(what, total=len(sequences)) as advance:
        found = log_likelihood(
            model, sequences, pad_id=padding_id(renderer.tokenizer), batch_tokens=tokens, advance=advance
        )
    if bad := int((~np.isfinite(found.sum_S)).sum()):
        raise ModelError(
            f"{what}: the model finds no number for {bad:,} of {len(sequences):,} answers; compute in "
            "float32 (--dtype), and if that does not help its weights are damaged"
        )
    return found


def _measure_greedy(
    scores: RecordScores, metrics: Sequence[str], rewards: Mapping[str, Reward], task: Task, quiet: bool
) -> None:
    for metric in metrics:
        rows = gradable_rows(scores.ungradable, [metric], list(scores.answers))
        if metric == "ifeval":
            _measure_ifeval(scores, task, rows)
            continue
        texts = [scores.answers[row] for row in rows]
        if metric.startswith("judge:"):
            _grade_answers(scores, metric, rewards[metric], task, rows, texts)
            continue
        found = _score_texts(rewards[metric], task, rows, texts, quiet)
        if answers_per_prompt(metric):  # one answer passes or not
            found = [pass_at_k(1, int(share == 1), 1) for share in found]
        scores.values[metric] = dict(zip(rows, found, strict=True))


def _measure_pass_at_k(
    scores: RecordScores, metrics: Mapping[str, int], rewards: Mapping[str, Reward], task: Task, quiet: bool
) -> None:
    rows = gradable_rows(scores.ungradable, list(metrics), list(scores.samples))
    samples = {row: scores.samples[row] for row in rows}
    flat = [(row, text) for row, texts in samples.items() for text in texts]
    reward = rewards[next(iter(metrics))]
    shares = iter(_score_texts(reward, task, [row for row, _ in flat], [text for _, text in flat], quiet))
    passed = {row: sum(next(shares) == 1 for _ in texts) for row, texts in samples.items()}
    for metric, k in metrics.items():
        scores.values[metric] = {row: pass_at_k(len(samples[row]), n, k) for row, n in passed.items()}


def _grade_answers(
    scores: RecordScores, metric: str, judge: Any, task: Task, rows: Sequence[int], texts: Sequence[str]
) -> None:
    """Let a judge look at all at once, with its own bar; a record that it gives no grade is left out."""
    grades = judge(prompts_in_json(task, rows), texts, [task.records[row] for row in rows])
    for row, grade in zip(rows, grades, strict=True):
        if grade is None:
            scores.refused[row] = f"{metric} gave no grade"
    scores.values[metric] = {row: grade for row, grade in zip(rows, grades, strict=True) if grade is not None}


def prompts_in_json(task: Task, rows: Sequence[int]) -> list[list[dict[str, str]]]:
    """Return what stands before the answer in each row, as judges and rewards take it."""
    return [[message.to_json() for message in prompt_of(task.examples[row])] for row in rows]


def _score_texts(reward: Reward, task: Task, rows: Sequence[int], texts: Sequence[str], quiet: bool) -> list[float]:
    prompts = prompts_in_json(task, rows)
    ids = [task.examples[row].id for row in rows]
    records = [task.records[row] for row in rows]
    found: list[float] = []
    silent = quiet or len(rows) <= _AT_ONCE
    with nullcontext(lambda n: None) if silent else progress(f"scores, {task.name}", total=len(rows)) as advance:
        for start in range(0, len(rows), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            found += score(reward, prompts[part], texts[part], records[part], ids[part])
            advance(len(ids[part]))
    return found


def _measure_ifeval(scores: RecordScores, task: Task, rows: Sequence[int]) -> None:
    answers = {row: scores.answers[row] for row in rows}
    for accuracy in ACCURACIES:
        level, _, how = accuracy.partition("-")
        followed = {row: follows(text, task.records[row], loose=how == "loose") for row, text in answers.items()}
        name = f"ifeval:{accuracy}"
        scores.values[name] = {
            row: float(all(each)) if level == "prompt" else sum(each) / len(each) for row, each in followed.items()
        }
        if level == "instruction":  # each instruction counts the same, not each prompt
            scores.weights[name] = {row: float(len(each)) for row, each in followed.items()}


def _write_predictions(path: Path, scores: RecordScores, task: Task) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(_prediction_lines(scores, task))
    atomic_write(path, lines.encode("utf-8", "surrogatepass"), private=True)


def _prediction_lines(scores: RecordScores, task: Task) -> Iterator[str]:
    """Yield a JSON line per record."""
    for row, example in enumerate(task.examples):
        line: dict[str, Any] = {"id": example.id, "example": task.example_R[row]}
        if task.subtask_R is not None:
            line["subtask"] = task.subtask_R[row]
        line["prompt"] = [m.to_json() for m in before_answer(example.messages)]
        if row in scores.answers:
            line["answer"] = scores.answers[row]
        if row in scores.samples:
            line["samples"] = scores.samples[row]
        if picked := {metric: found[row] for metric, found in scores.picked.items() if row in found}:
            line["picked"] = picked
        line["scores"] = {name: values[row] for name, values in scores.values.items() if row in values}
        if weights := {name: found[row] for name, found in scores.weights.items() if row in found}:
            line["weights"] = weights
        if row in scores.refused:
            line["left_out"] = scores.refused[row]
        yield json.dumps(line, ensure_ascii=False) + "\n"
