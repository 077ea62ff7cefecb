"""Which records a metric can grade, found out from their references before a single answer is drawn."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from handpick.errors import DataError
from handpick.evaluation.choice import choices_of, right_choices
from handpick.evaluation.metrics import answers_per_prompt
from handpick.evaluation.task import Task
from handpick.judge import JudgeOptions, pointwise_template
from handpick.progress import log
from handpick.rewards import REWARDS, find_reward
from handpick.rewards.protocol import Record
from handpick.rewards.reference import reference_answers

Check = Callable[[Record], object]  # raises a DataError on a record without what it needs
Ungradable = Mapping[str, Mapping[int, str]]  # by metric, then by row: why


def ungradable_records(task: Task, judge: JudgeOptions | None = None) -> dict[str, dict[int, str]]:
    """Return for each metric the rows that it cannot grade, with the reason; a metric that can grade all is not there.

    Args:
        task: with its metrics.
        judge: settings of a metric ``judge:MODEL``, besides the model.

    Raises:
        DataError: a metric can grade none: no answer would be worth drawing.
        SettingsError: a metric cannot be had.
    """
    found: dict[str, dict[int, str]] = {}
    for metric in task.settings.metrics:
        if metric.startswith("choice-likelihood"):
            rows = refused_rows(task, metric, partial(_check_choices, task))
        elif (check := reference_check(metric, judge)) is not None:
            rows = refused_rows(task, metric, partial(_check_row, task, check))
        else:
            continue
        if rows:
            found[metric] = rows
    return found


def refused_rows(task: Task, what: str, check: Callable[[int], object]) -> dict[int, str]:
    """Return the rows that ``check`` raises a DataError on, with what it says.

    Raises:
        DataError: it does so on all.
    """
    refused: dict[int, str] = {}
    for row in range(len(task)):
        try:
            check(row)
        except DataError as error:
            refused[row] = str(error)
    if len(refused) == len(task):
        raise DataError(f"{refused[0]} ({what} can grade none of the {len(task):,} records of {task.name})")
    return refused


def reference_check(spec: str, judge: JudgeOptions | None = None) -> Check | None:
    """Return what finds out of a record, without an answer, whether a metric or reward can grade answers to it.

    None where nobody can tell (a function of the user's own), or where it needs no reference. Neither is code run for
    it, nor a judge or a reward model opened.

    Raises:
        SettingsError: there is no such reward, or the judge's prompt file cannot be used.
    """
    name = spec.partition(":")[0]
    if answers_per_prompt(spec) or name == "unit-tests":
        from handpick.rewards.unit_tests import read_tests

        return read_tests
    if name == "judge":
        wanted = pointwise_template(JudgeOptions.from_values(judge or {}).prompt).wants_reference
        return reference_answers if wanted else None
    if name == "model" or name not in REWARDS:
        return None
    found: Check | None = getattr(find_reward(spec), "check", None)
    return found


def say_ungradable(task: Task, ungradable: Ungradable) -> None:
    """Say of each metric how many records it cannot grade, and why not the first."""
    for metric, rows in ungradable.items():
        row, why = next(iter(rows.items()))
        log(
            f"{metric} cannot grade {len(rows):,} of the {len(task):,} records of {task.name}, which are left out of "
            f"it; {task.examples[row].id}: {why}"
        )


def gradable_rows(ungradable: Ungradable, metrics: Sequence[str], rows: Sequence[int]) -> list[int]:
    """Return those of some rows that at least one of the metrics can grade."""
    return [row for row in rows if any(row not in ungradable.get(metric, {}) for metric in metrics)]


def _check_row(task: Task, check: Check, row: int) -> None:
    check(task.records[row])


def _check_choices(task: Task, row: int) -> None:
    record = task.records[row]
    right_choices(record, task.examples[row], choices_of(record, task.settings.choices))
