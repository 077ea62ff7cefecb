"""``handpick.evaluate``: a model measured on tasks."""

import re
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from handpick.api.handed_over import Model, Records, merge_settings, name_inputs, name_sources
from handpick.choices import Dtype
from handpick.data.read import FileInput
from handpick.errors import SettingsError
from handpick.evaluation.evaluate import Evaluation
from handpick.evaluation.run import run_evaluate
from handpick.evaluation.settings import EvaluateSettings, TaskSettings
from handpick.flag_names import parse_settings
from handpick.in_memory import PREFIX, is_in_memory


def evaluate(
    model: Model,
    target: Records | Mapping[str, Records],
    *,
    metrics: str | Sequence[str] | None = None,
    out: str | Path | None = None,
    base: Model | None = None,
    dtype: Dtype | None = None,
    max_length: int | None = None,
    batch_tokens: int | None = None,
    limit: int | None = None,
    max_new_tokens: int | None = None,
    stop: str | Sequence[str] | None = None,
    choices: Sequence[str] | None = None,
    samples: int | None = None,
    allow_code_execution: bool | None = None,
    **others: Any,
) -> dict[str, Evaluation]:
    """Measure a model on tasks, with 95% intervals over examples. Answers are kept, and not made again.

    Args:
        model: a base model, a fine-tuned model's folder, an adapter's folder, or (module, tokenizer).
        target: the test records of tasks by name; or of one task, which is then called by its file, or ``task``.
        metrics: ``loss``, which it is unless given, ``choice-likelihood``, ``pass@K``, ``ifeval`` or a reward such as
            ``exact-match:last-number``; one or several.
        out: the folder for ``evaluation.json`` and predictions; ``runs/evaluation-`` and the model unless given.
        base: an adapter's base model, where it is not the one it names.
        dtype: what the model computes in.
        max_length: tokens of a conversation.
        batch_tokens: padded tokens of a batch, at most.
        limit: a fixed random sample of so many records.
        max_new_tokens: tokens of an answer, at most.
        stop: texts that end an answer.
        choices: for ``choice-likelihood``: the answers to choose from, where records have none.
        samples: for ``pass@K``: answers per prompt.
        allow_code_execution: run the model's code, in a sandbox.
        others: any other field of ``EvaluateSettings`` or ``TaskSettings`` in
            ``handpick.evaluation.settings``.

    Returns:
        The evaluations by the tasks' names.

    Raises:
        HandpickError: of the kind that fits what is wrong (see ``handpick.errors``).
    """
    values = merge_settings(
        metrics=metrics, out=out, base=base, dtype=dtype, max_length=max_length, batch_tokens=batch_tokens,
        limit=limit, max_new_tokens=max_new_tokens, stop=stop, choices=choices, samples=samples,
        allow_code_execution=allow_code_execution, **others,
    )  # fmt: skip
    with checked_tasks(model, target, values) as (settings, tasks):
        return run_evaluate(settings, tasks)


@contextmanager
def checked_tasks(
    model: Model, target: Records | Mapping[str, Records], values: Mapping[str, Any]
) -> Generator[tuple[EvaluateSettings, dict[str, TaskSettings]]]:
    """Yield checked settings of a model and of every task, in which what is in memory has names, known inside.

    Args:
        model, target: as ``evaluate``.
        values: of the model's settings and the tasks'.

    Raises:
        SettingsError: a name is unknown, or a value is wrong.
        ModelError: a model in memory cannot be used.
    """
    held: list[object] = []
    files = {name: name_sources(records, "target", held) for name, records in _by_task(target).items()}
    of_task = {name: value for name, value in values.items() if name in TaskSettings.model_fields}
    with name_inputs(
        {"model": model} | {name: value for name, value in values.items() if name not in of_task}
    ) as plain:
        if is_in_memory(plain["model"]):
            plain.setdefault("out", f"runs/evaluation-{plain['model'].removeprefix(PREFIX)}")
        tasks = {name: parse_settings(TaskSettings, of_task | {"files": own}) for name, own in files.items()}
        yield parse_settings(EvaluateSettings, plain), tasks


def _by_task(target: Any) -> dict[str, Any]:
    """Return records by the name of their task."""
    if isinstance(target, str | Path):
        return {FileInput(Path(target)).stem: target}
    found = dict(target) if isinstance(target, Mapping) else {"task": target}
    if wrong := [name for name in found if not isinstance(name, str) or not re.fullmatch(r"[\w.+-]+", name)]:
        raise SettingsError(f"{wrong[0]!r} is no name of a task: take letters, digits, - and _ (it names a file)")
    return found
