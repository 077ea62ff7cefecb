"""A task is data plus metrics: test files of any format that the readers know, and names of what is measured."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from handpick.data.examples import Conversation, Example, before_answer
from handpick.data.own_record import record_of
from handpick.data.pool import Pool
from handpick.data.quarantine import Quarantine
from handpick.data.reading import ReadingSettings, check_columns
from handpick.errors import DataError
from handpick.evaluation.metrics import answers_per_prompt, is_likelihood
from handpick.evaluation.settings import TaskSettings
from handpick.fingerprint import JSON, Fingerprint, digest
from handpick.judge import JudgeOptions
from handpick.layout import DataLayout
from handpick.rewards import reward_fingerprint

_LIMIT_SEED = 0


@dataclass(frozen=True, slots=True)
class Task:
    """Records to measure on, and what is measured.

    ``example_R`` says what each record is a repetition of, ``subtask_R`` where it stands (None: there are none).
    ``contents`` is the digest of the files' bytes, and of how they are read where that is not by the first rule;
    ``columns`` how many records have a column, where some were named.
    """

    name: str
    settings: TaskSettings
    examples: Sequence[Example]
    records: Sequence[dict[str, Any]]
    example_R: Sequence[str]
    subtask_R: Sequence[str] | None
    contents: str
    columns: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.examples)

    def fingerprint(self, judge: JudgeOptions | None = None) -> Fingerprint:
        """Return what decides the results, besides the model: never a path, but what stands there.

        Args:
            judge: settings of a metric ``judge:MODEL``, besides the model.

        Raises:
            SettingsError: a reward of the metrics cannot be had, or a setting of the judge is wrong.
            DataError: the judge's prompt file cannot be read.
        """
        settings: dict[str, JSON] = self.settings.model_dump(
            mode="json", exclude={"files", "metrics", *ReadingSettings.model_fields}
        )
        rewards = [m for m in self.settings.metrics if not is_likelihood(m) and not answers_per_prompt(m)]
        made_of = {metric: reward_fingerprint(metric, judge=judge) for metric in rewards}
        called = {
            metric: f"{found['reward']} of {str(found['file'])[:16]}" if "file" in found else metric
            for metric, found in made_of.items()
        }
        of_reward: dict[str, JSON] = {called[metric]: found for metric, found in made_of.items()}
        metrics: list[JSON] = [called.get(metric, metric) for metric in self.settings.metrics]
        return {"contents": self.contents, **settings, "metrics": metrics, "rewards": of_reward}


def open_task(settings: TaskSettings, scratch: Path, name: str) -> Task:
    """Read a task's files, or what an earlier call has parsed of them.

    Args:
        settings: of the task.
        scratch: folder for the parsed records and, where there are any, ``quarantine-NAME.jsonl`` with bad ones.
        name: of the task.

    Raises:
        DataError: a file cannot be read, no record is usable, or one lacks the field of its example or subtask.
    """
    layout = DataLayout(scratch)
    quarantine = Quarantine(layout.quarantine(name))
    pool = Pool.open(list(settings.files), cache=layout.parsed, quarantine=quarantine, reading=settings.reading)
    quarantine.report()
    rows = list(range(len(pool)))
    if settings.limit is not None:
        rows = sorted(np.random.default_rng(_LIMIT_SEED).permutation(len(pool))[: settings.limit].tolist())
    whole = pool.examples(0, len(pool))
    examples = [whole[row] for row in rows]
    records: list[dict[str, Any]] = [record_of(example) for example in examples]
    if settings.example_field is None:
        example_R = [example.id for example in examples]
    else:
        example_R = [_field(record, settings.example_field, e.id) for record, e in zip(records, examples, strict=True)]
    named, subtask_R = settings.subtask_field, None
    # by its value, not by whether it was said: settings that were written down and read back mean the same
    own = named != TaskSettings.model_fields["subtask_field"].default
    if named is not None and (own or any(record.get(named) is not None for record in records)):
        subtask_R = [_field(record, named, e.id) for record, e in zip(records, examples, strict=True)]
    contents = digest([[file.sha256, file.record_rule] if file.record_rule > 1 else file.sha256 for file in pool.files])
    return Task(name, settings, examples, records, example_R, subtask_R, contents, pool.columns)


def open_tasks(tasks: Mapping[str, TaskSettings], scratch: Path) -> dict[str, Task]:
    """Read the files of several tasks, as ``open_task``.

    Raises:
        DataError: as there, or a column that a task names is in none of them.
    """
    opened = {name: open_task(task, scratch, name) for name, task in tasks.items()}
    for task in tasks.values():
        check_columns(task.reading, [each.columns for each in opened.values()])
    return opened


def prompt_of(example: Example) -> Conversation:
    """Return what is answered: all before the assistant's turn that a record ends with.

    Raises:
        DataError: there is nothing before it.
    """
    prompt = before_answer(example.messages)
    if not prompt:
        raise DataError("no prompt: the record begins with its answer")
    return prompt


def _field(record: dict[str, Any], field: str, id_: str) -> str:
    value = record.get(field)
    if value is None:
        raise DataError(f"the record {id_} has no field {field!r}: add it, or name another field")
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
