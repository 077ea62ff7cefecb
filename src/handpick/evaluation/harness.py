"""Tasks of lm-evaluation-harness on a model that is loaded here, adapters and all (extra ``lm-eval``)."""

import logging
from collections.abc import Sequence
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import nn

from handpick.data.render import Renderer
from handpick.errors import DataError, SettingsError, first_line


def harness_results(
    model: nn.Module,
    renderer: Renderer,
    tasks: Sequence[str],
    *,
    max_length: int,
    limit: int | None = None,
    include: Path | None = None,
    chat: bool = False,
    batch: int = 8,
) -> dict[str, dict[str, float]]:
    """Return what the harness's ``simple_evaluate`` finds, by task or group and metric.

    ``METRIC_stderr`` is its own error.

    Args:
        model: a causal language model of transformers, or PEFT's around one.
        renderer: with its tokenizer.
        tasks: names, as ``lm-eval ls tasks`` lists them.
        max_length: tokens of a prompt and its answer, at most.
        limit: the first so many records of each task.
        include: a folder with task files of one's own.
        chat: write prompts with the chat template, as handpick's own metrics do.
        batch: requests at a time.

    Raises:
        SettingsError: the harness is not installed, or there is no such task.
        DataError: a task's data cannot be had (most are on the Hub).
    """
    if find_spec("lm_eval") is None:
        raise SettingsError("--lm-eval needs lm-evaluation-harness: pip install 'handpick[lm-eval]'")
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=None if include is None else str(include))
    for task in tasks:
        if not manager.match_tasks([task]):
            close = get_close_matches(task, manager.all_tasks, n=1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise SettingsError(f"lm-evaluation-harness has no task {task!r}{hint}; `lm-eval ls tasks` lists them")
    tokenizer = renderer.tokenizer
    if chat and not tokenizer.chat_template:
        tokenizer.chat_template = renderer.template
    lm = HFLM(pretrained=model, tokenizer=tokenizer, max_length=max_length, batch_size=batch)
    try:
        found: Any = simple_evaluate(
            model=lm, tasks=list(tasks), task_manager=manager, limit=limit, apply_chat_template=chat, log_samples=False
        )
    except (OSError, ConnectionError, ValueError) as error:
        raise DataError(f"lm-evaluation-harness cannot run {', '.join(tasks)}: {first_line(error)}") from error
    results = {**found["results"], **found.get("groups", {})}
    return {task: _numbers(each) for task, each in results.items()}


def _numbers(found: dict[str, Any]) -> dict[str, float]:
    """Return ``"acc,none": .5`` as ``"acc": .5``; the filter's name stays where it says something."""
    return {
        name.removesuffix(",none"): float(value)
        for name, value in found.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and "," in name
    }
