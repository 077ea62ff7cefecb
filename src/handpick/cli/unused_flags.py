"""Flags of ``handpick evaluate`` that nothing would read: each is refused with one sentence."""

from collections.abc import Mapping
from typing import Any

from handpick.data.reading import ReadingSettings
from handpick.errors import SettingsError
from handpick.evaluation.metrics import is_likelihood
from handpick.evaluation.settings import EvaluateSettings, TaskSettings
from handpick.flag_names import as_flag, flag_of
from handpick.judge.settings import JudgeOptions

_OF_TASKS = ("metrics", "choices", "samples", "temperature", "subtask_field", "batch_tokens")
_OF_ANSWERING = (
    "example_field", "max_new_tokens", "stop", "allow_code_execution", "allow_weak_sandbox",
    *ReadingSettings.model_fields,
)  # fmt: skip


def refuse_unread(
    task: Mapping[str, Any],
    settings: Mapping[str, Any],
    of_harness: Mapping[str, Any],
    *,
    target: list[str] | None,
    versus: str | None,
    lm_eval: str | None,
) -> None:
    """Refuse what is for tasks, for a comparison or for the harness where there is none of it.

    Args:
        task: what was given of a task.
        settings: what was given of the model and how it is run.
        of_harness: flags of the harness.
        target: tasks to measure on.
        versus: the model to compare with.
        lm_eval: tasks of the harness.

    Raises:
        SettingsError: the first flag that would not be read.
    """
    for name in [*task, *settings]:
        flag = flag_of(TaskSettings, name)
        if name in _OF_TASKS and not target:
            raise SettingsError(f"{flag} is for the tasks of --target, and there is none: leave {flag} out")
        if name in _OF_ANSWERING and not (target or versus):
            raise SettingsError(f"{flag} is for --target and --versus, and there is neither: leave {flag} out")
    if "template_args" in settings and not (target or versus or of_harness["lm_eval_chat"]):
        flag = flag_of(EvaluateSettings, "template_args")
        raise SettingsError(
            f"{flag} is for the chat template, which --lm-eval uses with --lm-eval-chat: leave {flag} out"
        )
    for name in [name for name, value in of_harness.items() if value and not lm_eval]:
        raise SettingsError(f"{as_flag(name)} is for --lm-eval, and there is none: leave {as_flag(name)} out")
    if target and not versus:
        refuse_unread_answers(task)


def refuse_unread_answers(task: Mapping[str, Any]) -> None:
    """Refuse what is for answers of the model's own where no metric looks at any.

    Raises:
        SettingsError: the first flag that would not be read.
    """
    metrics = task.get("metrics", TaskSettings.model_fields["metrics"].default)
    if not all(map(is_likelihood, metrics)):
        return
    for name in [name for name in ("max_new_tokens", "stop") if name in task]:
        flag = flag_of(TaskSettings, name)
        raise SettingsError(
            f"{flag} is for answers of the model's own, and {' and '.join(metrics)} asks for none: give a --metric "
            f"that does, such as exact-match, or leave {flag} out"
        )


def refuse_unread_judge(task: Mapping[str, Any], settings: Mapping[str, Any], judge: str | None) -> None:
    """Refuse a judge's settings where no metric is graded by one and none compares.

    Raises:
        SettingsError: the first flag that would not be read.
    """
    from handpick.evaluation.run import is_rule

    if any(metric.startswith("judge:") for metric in task.get("metrics", ())):
        return
    if judge is not None and (judge.startswith("judge:") or not is_rule(judge)):
        return
    there = "there is none here" if judge is None else f"{judge} is a rule"
    for name in settings.get("judge", {}):
        flag = flag_of(JudgeOptions, name)
        raise SettingsError(
            f"{flag} is for a language model that judges, and {there}: leave {flag} out, or name one "
            "(--metric judge:MODEL, or --versus with --judge MODEL)"
        )
