"""Evaluation from files to files: a model's tasks, one model against another, the harness's tasks."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import JsonValue
from torch import nn

from handpick.choices import Dtype
from handpick.data.render import Renderer
from handpick.data.unwritten import count_unwritten_of, report_unwritten
from handpick.documents import DAMAGED
from handpick.errors import ModelError, SettingsError, StoreError
from handpick.evaluation.answers import generate_answers, greedy_sampling, prompts_of
from handpick.evaluation.evaluate import Evaluation, evaluate, prompts_in_json, rewards_of
from handpick.evaluation.gradable import Check, reference_check, refused_rows, say_ungradable, ungradable_records
from handpick.evaluation.harness import harness_results
from handpick.evaluation.judges import LOCAL, find_judge
from handpick.evaluation.settings import EvaluateSettings, TaskSettings
from handpick.evaluation.task import Task, open_tasks
from handpick.evaluation.versus import Match, judge_by_rule, match
from handpick.file_names import check_file_names
from handpick.files import atomic_write
from handpick.finetuning.finetune import load_finetuned
from handpick.finetuning.record import read_record
from handpick.fingerprint import Fingerprint, digest, file_digest, require_same
from handpick.judge import Verdict, compare, pairwise_template
from handpick.layout import EvaluationLayout
from handpick.listing import matching
from handpick.model import (
    TOKENIZER_FILE,
    compute_dtype,
    load_base,
    load_tokenizer,
    model_fingerprint,
    position_limit,
    tokenizer_fingerprint,
)
from handpick.object_store import is_address
from handpick.own_folder import check_inputs
from handpick.progress import log
from handpick.rewards import find_reward, is_reward
from handpick.rewards.reference import reference_answers
from handpick.run_place import fetch_place, hold_place
from handpick.sealed import unseal, write_sealed
from handpick.training.sealed_checkpoint import ADAPTER_CONFIG

VERSUS = "versus"  # the task of what both models answer
_MAX_LENGTH = 2048  # where the model can read as many


def is_rule(judge: str) -> bool:
    """Return whether ``--judge`` names a reward, whose higher score wins, and no language model that compares."""
    return not judge.startswith(LOCAL) and is_reward(judge)


@dataclass(frozen=True)
class OpenedModel:
    """A model that is ready to be measured, and what it is."""

    model: nn.Module
    renderer: Renderer
    max_length: int
    identity: Fingerprint


def open_model(
    name: str,
    *,
    base: str | None,
    dtype: Dtype,
    max_length: int | None,
    template_args: Mapping[str, JsonValue] | None = None,
) -> OpenedModel:
    """Load a base model, a fine-tuned one, or an adapter on its base.

    An adapter's tokenizer is the one in its folder, else its base's.

    Raises:
        ModelError: it cannot be loaded, or an adapter names no base.
        SettingsError: ``max_length`` is more than it can read, or a base was named for what is no adapter.
    """
    folder = Path(name)
    if (folder / ADAPTER_CONFIG).exists():
        base = base or _base_of(folder)
        model = load_finetuned(folder, base=base, dtype=dtype)
        weights = [file_digest(path) for path in matching(folder, "adapter_*")]
        own: Fingerprint = {"base": model_fingerprint(base), "adapter": digest(weights)}
        tokenizer = load_tokenizer(name if (folder / TOKENIZER_FILE).exists() else base)
    elif base is not None:
        raise SettingsError(f"--base is for an adapter, and {name} is none: it has no {ADAPTER_CONFIG}")
    else:
        base = name
        model = load_finetuned(folder, dtype=dtype) if folder.is_dir() else load_base(name, compute_dtype(dtype)).eval()
        own = {"model": model_fingerprint(name)}
        tokenizer = load_tokenizer(name)
    length = reading_length(base, max_length)
    n_embeddings = int(model.get_input_embeddings().weight.shape[0])  # type: ignore[operator]
    renderer = Renderer(tokenizer, template_args, n_embeddings)
    _compare_with_training(folder, renderer)
    return OpenedModel(model, renderer, length, {**own, **tokenizer_fingerprint(renderer)})


def _compare_with_training(folder: Path, renderer: Renderer) -> None:
    """Say where a model that was trained here was told something else by the template than it is now."""
    told = ((read_record(folder) if folder.is_dir() else None) or {}).get("template_args", {})
    if told != renderer.template_args:
        log(f"{folder} was trained with the template's arguments {told}, and is read with {renderer.template_args}")


def reading_length(model: str, max_length: int | None) -> int:
    """Return how many tokens of a conversation are read: as asked for, else 2,048, or what the model can read.

    Raises:
        SettingsError: it was asked for more than that.
    """
    limit = position_limit(model)
    if max_length is not None and limit is not None and max_length > limit:
        raise SettingsError(f"the model reads {limit} tokens at most: give --max-length {limit} or less")
    return max_length or min(_MAX_LENGTH, limit or _MAX_LENGTH)


def run_evaluate(settings: EvaluateSettings, tasks: Mapping[str, TaskSettings]) -> dict[str, Evaluation]:
    """Measure a model's tasks. Writes ``evaluation.json`` after each one, and ``predictions-NAME.jsonl``.

    Tasks of other names that the folder has of the same model stay in ``evaluation.json``.

    Returns:
        The evaluations by the tasks' names.

    Raises:
        FingerprintMismatch: the folder has the evaluation of another model.
        HandpickError: as ``evaluate``, ``open_task`` and ``open_model``.
    """
    check_file_names(tasks, "the task")
    _check_inputs(settings, tasks)
    with hold_place(settings.place):
        return _evaluate_tasks(settings, tasks)


def _check_inputs(settings: EvaluateSettings, tasks: Mapping[str, TaskSettings]) -> None:
    """Refuse a task whose files lie where the evaluation writes; as ``check_inputs``."""
    data = {f"the task {name}" if name != VERSUS else "prompts": list(task.files) for name, task in tasks.items()}
    files = {"metric": [metric for task in tasks.values() for metric in task.metrics]}
    files["judge_prompt"] = [settings.judge.prompt] if settings.judge.prompt else []
    check_inputs(settings.layout, data, files)


def _evaluate_tasks(settings: EvaluateSettings, tasks: Mapping[str, TaskSettings]) -> dict[str, Evaluation]:
    folder, layout = settings.folder, settings.layout
    opened_tasks = open_tasks(tasks, folder)
    fingerprints = {name: task.fingerprint(settings.judge) for name, task in opened_tasks.items()}
    for task in opened_tasks.values():  # before a model is loaded, and before the first of several tasks is measured
        rewards_of(
            task.settings.metrics,
            allow_code_execution=settings.allow_code_execution,
            allow_weak_sandbox=settings.allow_weak_sandbox,
            judge=settings.judge,
            cache=layout.verdicts,
        )
        ungradable_records(task, settings.judge)
    opened = open_settings_model(settings, settings.model)
    written = _read_written(folder, opened.identity, settings)
    found: dict[str, Evaluation] = {}
    unwritten = {
        f"task {name}": count_unwritten_of(task.examples, opened.renderer) for name, task in opened_tasks.items()
    }
    report_unwritten(unwritten, layout.unwritten)
    for name, task in opened_tasks.items():
        found[name] = evaluate(
            opened.model,
            opened.renderer,
            task,
            max_length=opened.max_length,
            batch_tokens=settings.batch_tokens,
            predictions=layout.predictions(name),
            identity=opened.identity,
            allow_code_execution=settings.allow_code_execution,
            allow_weak_sandbox=settings.allow_weak_sandbox,
            judge=settings.judge,
        )
        if gone := sorted(written["tasks"].get(name, {}).get("metrics", {}).keys() - found[name].metrics.keys()):
            log(f"{', '.join(gone)} of {name}, measured before, is no longer in {folder}: name all metrics at once")
        written["tasks"][name] = {**found[name].to_json(), "task": fingerprints[name]}
        write_sealed(layout.evaluation, written)
    return found


def run_versus(settings: EvaluateSettings, versus: str, prompts: TaskSettings, judge: str) -> Match:
    """Compare both models' greedy answers. Writes ``versus.json`` and ``verdicts.jsonl``.

    Args:
        settings: of the first model, whose ``base`` also holds for the second where that is an adapter.
        versus: the second model.
        prompts: the file; records need no answers.
        judge: the name of a judge's model as its server knows it, ``local:PATH``, or a reward as the rule.

    Raises:
        JudgeError: as ``Judge``; what was answered and judged is kept.
        HandpickError: as ``open_task``, ``open_model`` and ``find_reward``.
    """
    _check_inputs(settings, {VERSUS: prompts})
    with hold_place(settings.place):
        return _compare_models(settings, versus, prompts, judge)


def _compare_models(settings: EvaluateSettings, versus: str, prompts: TaskSettings, judge: str) -> Match:
    layout = settings.layout
    task = open_tasks({VERSUS: prompts}, settings.folder)[VERSUS]
    decide, check = _make_decider(settings, judge, layout.verdicts)  # first: what is not there is said before any work
    ungradable = {} if check is None else refused_rows(task, judge, lambda row: check(task.records[row]))
    if ungradable:
        say_ungradable(task, {judge: ungradable})
    asked = [row for row in range(len(task)) if row not in ungradable]
    a, b = (_likeliest_answers(settings, model, task, asked, layout.answers) for model in (settings.model, versus))
    both = [row for row in a.texts if row in b.texts]
    left_out = len(task) - len(both)
    if left_out > len(ungradable):
        row, reason = next(iter((a.refused | b.refused).items()))
        n = left_out - len(ungradable)
        log(f"{n:,} of {len(task):,} prompts are left out; {task.examples[row].id}: {reason}")
    verdicts = decide(task, both, [a.texts[row] for row in both], [b.texts[row] for row in both])
    lines = [
        {
            "id": task.examples[row].id,
            "prompt": prompt,
            "a": a.texts[row],
            "b": b.texts[row],
            "first": verdict.first,
            "second": verdict.second,
            "outcome": verdict.outcome,
        }
        for row, prompt, verdict in zip(both, prompts_in_json(task, both), verdicts, strict=True)
    ]
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    atomic_write(layout.versus_verdicts, text.encode(), private=True)
    found = match(verdicts, [task.example_R[row] for row in both])
    _write(
        layout.versus,
        {
            "a": settings.model,
            "b": versus,
            "judge": judge,
            **found.to_json(),
            "left_out": left_out,
            "models": {"a": a.identity, "b": b.identity},
            "prompts": task.contents,
        },
    )
    return found


@dataclass(frozen=True, slots=True)
class _Answers:
    """What a model answers, and why it cannot be asked the rest, by row; and what the model is."""

    texts: dict[int, str]
    refused: dict[int, str]
    identity: Fingerprint


def _likeliest_answers(
    settings: EvaluateSettings, model: str, task: Task, rows: Sequence[int], folder: Path
) -> _Answers:
    """Return a model's answers to some of a task's prompts; the model is let go of before this returns."""
    opened = open_settings_model(settings, model)
    prompts, refused = prompts_of(task, opened.renderer, opened.max_length)
    prompts = {row: prompts[row] for row in rows if row in prompts}
    refused = {row: refused[row] for row in rows if row in refused}
    found = generate_answers(
        opened.model,
        opened.renderer,
        list(prompts.values()),
        greedy_sampling(task),
        seed=0,
        folder=folder,
        identity=opened.identity,
        quiet=False,
    )
    return _Answers({row: text for row, (text,) in zip(prompts, found, strict=True)}, refused, opened.identity)


def run_harness(
    settings: EvaluateSettings, tasks: Sequence[str], *, limit: int | None, include: Path | None, chat: bool
) -> dict[str, dict[str, float]]:
    """Measure tasks of lm-evaluation-harness. Writes ``lm_eval.json``.

    Raises:
        HandpickError: as ``harness_results`` and ``open_model``.
    """
    opened = open_settings_model(settings, settings.model)
    found = harness_results(
        opened.model, opened.renderer, tasks, max_length=opened.max_length, limit=limit, include=include, chat=chat
    )
    with hold_place(settings.place):
        _write(
            settings.layout.lm_eval,
            {"model": settings.model, "identity": opened.identity, "tasks": found},
        )
    return found


Decide = Callable[[Task, Sequence[int], Sequence[str], Sequence[str]], list[Verdict]]


def _make_decider(settings: EvaluateSettings, judge: str, verdicts: Path) -> tuple[Decide, Check | None]:
    """Return what compares two answers: a rule where ``judge`` is a reward's text, else a language model.

    With it comes what finds out of a record, without answers, whether they can be compared.
    """
    if is_rule(judge):
        reward = find_reward(
            judge,
            allow_code_execution=settings.allow_code_execution,
            allow_weak_sandbox=settings.allow_weak_sandbox,
            judge=settings.judge,
            cache=verdicts,
        )

        def rule(task: Task, rows: Sequence[int], a: Sequence[str], b: Sequence[str]) -> list[Verdict]:
            records, ids = [task.records[row] for row in rows], [task.examples[row].id for row in rows]
            return judge_by_rule(reward, prompts_in_json(task, rows), a, b, records, ids)

        return rule, reference_check(judge, settings.judge)
    asked = find_judge(judge, settings.judge, verdicts, dtype=settings.dtype)
    wants_reference = pairwise_template(asked.settings.prompt).wants_reference

    def ask(task: Task, rows: Sequence[int], a: Sequence[str], b: Sequence[str]) -> list[Verdict]:
        references = [reference_answers(task.records[row])[0] for row in rows] if wants_reference else None
        return compare(asked, prompts_in_json(task, rows), a, b, references=references)

    return ask, reference_answers if wants_reference else None


def open_settings_model(settings: EvaluateSettings, model: str) -> OpenedModel:
    """Open a model as the settings say, out of a bucket too, as ``open_model`` and ``fetch_place``."""
    is_own = model == settings.model
    model = str(fetch_place(model)) if is_address(model) else model
    is_adapter = (Path(model) / ADAPTER_CONFIG).exists()
    base = settings.base if is_adapter or is_own else None
    return open_model(
        model, base=base, dtype=settings.dtype, max_length=settings.max_length, template_args=settings.template_args
    )


def _base_of(adapter: Path) -> str:
    try:
        found = json.loads((adapter / ADAPTER_CONFIG).read_text(encoding="utf-8"))
        base = found["base_model_name_or_path"]
    except DAMAGED as error:
        raise ModelError(f"{adapter}/{ADAPTER_CONFIG} cannot be read: give --base, the adapter's base model") from error
    if not base:
        raise ModelError(f"{adapter}/{ADAPTER_CONFIG} names no base model: give --base")
    return str(base)


def _read_written(folder: Path, identity: Fingerprint, settings: EvaluateSettings) -> dict[str, Any]:
    """Read what ``evaluation.json`` has of this model already."""
    path = EvaluationLayout(folder).evaluation
    provenance: Fingerprint = {**identity, "dtype": settings.dtype, "max_length": settings.max_length}
    new: dict[str, Any] = {"model": settings.model, "made_with": provenance, "tasks": {}}
    if not path.exists():
        return new
    try:
        there = unseal(json.loads(path.read_text(encoding="utf-8")))
        kept, tasks = there["made_with"], dict(there["tasks"])
    except DAMAGED as error:
        raise StoreError(f"{path} cannot be read; remove it, or give another --out") from error
    require_same(kept, provenance, what=f"the evaluation in {folder}")
    return new | {"tasks": tasks}


def _write(path: Path, content: Mapping[str, Any]) -> None:
    atomic_write(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False).encode())
