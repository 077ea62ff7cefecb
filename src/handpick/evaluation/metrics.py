"""The names of metrics: what each one is, and in which direction it is better.

| text | what it is |
|---|---|
| ``loss`` | mean cross-entropy of the response tokens (nats) |
| ``choice-likelihood`` | 1 where the right choice is the likeliest: ``:sum`` (the default) or ``:mean`` a token |
| ``pass@K`` | the chance that one of K answers passes the record's unit tests |
| ``ifeval`` | instructions followed: four accuracies |
| any reward | of the model's likeliest (greedy) answer: ``exact-match:last-number``, ``choice``, ``my.py:function`` |

A new metric of answers is a new reward: one file and one line in ``rewards/__init__.py``. One of likelihoods is named
here, and measured in ``evaluate.py``.
"""

import re

from handpick.choices import look_up
from handpick.errors import SettingsError

_OF_ANSWERS = ("loss", "choice-likelihood", "choice", "exact-match", "squad-f1", "squad-em", "rouge-l")
_OWN = ("loss", "choice-likelihood", "choice-likelihood:sum", "choice-likelihood:mean", "pass@1", "pass@10", "ifeval")


def larger_is_better(name: str) -> bool:
    """Return True of every metric but a loss."""
    return name != "loss"


def answers_per_prompt(metric: str) -> int | None:
    """Return the K of ``pass@K``; None of another metric."""
    match = re.fullmatch(r"pass@([1-9]\d*)", metric)
    return int(match[1]) if match else None


def is_likelihood(metric: str) -> bool:
    """Return whether a metric looks at likelihoods of given answers, and not at answers of the model's own."""
    return metric == "loss" or metric.partition(":")[0] == "choice-likelihood"


def looks_at_answer(metric: str) -> bool:
    """Return whether a metric holds what the model says against the record's own answer."""
    return metric.partition(":")[0] in _OF_ANSWERS


def check_metric(metric: str) -> None:
    """Check that there is such a metric; what stands behind a reward's colon is checked when the reward is made.

    Raises:
        SettingsError: there is none.
    """
    if metric in _OWN or answers_per_prompt(metric):
        return
    name, colon, _ = metric.partition(":")
    if metric.startswith("pass@") or name == "choice-likelihood":
        raise SettingsError(f"there is no metric {metric}; write pass@1, pass@10, choice-likelihood:sum or :mean")
    if not colon:
        from handpick.rewards import REWARDS

        look_up(dict.fromkeys((*_OWN, *REWARDS)), name, "metric")
