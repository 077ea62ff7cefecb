"""The flags of a language model that judges, for every command that asks one."""

import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any, NamedTuple

import typer

from handpick.cli.expanded import Command, expanded
from handpick.cli.given import given_of


class _Flag(NamedTuple):
    setting: str  # of ``JudgeSettings``
    kind: type
    help: str
    metavar: str | None = None


_FLAGS = {
    "judge_url": _Flag("url", str, "OpenAI-compatible server (default: OpenAI's own)."),
    "judge_key_env": _Flag("key_env", str, "Variable that holds the key (default: OPENAI_API_KEY)."),
    "judge_prompt": _Flag("prompt", str, "File with the prompt, instead of ours."),
    "judge_workers": _Flag("workers", int, "Requests at a time (default: 8)."),
    "judge_temperature": _Flag(
        "temperature", str, "Of the judge; none leaves it out, for models that take none (default: 0).", "N|none"
    ),
    "max_answer_tokens": _Flag("max_answer_tokens", int, "Tokens of a judge's answer, at most (default: 1024)."),
    "max_judge_calls": _Flag("max_calls", int, "Requests, at most."),
    "max_judge_tokens": _Flag("max_tokens_total", int, "Tokens in and out, at most."),
    "max_judge_cost": _Flag("max_cost", float, "Money, at most; needs both prices."),
    "judge_price_in": _Flag("price_in", float, "Of a million tokens of prompts."),
    "judge_price_out": _Flag("price_out", float, "Of a million tokens of answers."),
}
JUDGE_FLAGS = {flag.setting: f"--{name.replace('_', '-')}" for name, flag in _FLAGS.items()}


def with_judge(panel: str, **helps: str) -> Callable[[Command], Command]:
    """A decorator: in ``judging`` the command gets the settings of its judge that were given.

    Args:
        panel: the heading in the command's help.
        helps: words of the command's own, by the flag's name.
    """
    flags = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[
                flag.kind | None,
                typer.Option(help=helps.get(name, flag.help), metavar=flag.metavar, rich_help_panel=panel),
            ],
        )
        for name, flag in _FLAGS.items()
    ]
    return expanded("judging", flags, _judging)


def _judging(given: Mapping[str, Any]) -> dict[str, Any]:
    judging = {_FLAGS[name].setting: value for name, value in given_of(given).items()}
    if judging.get("temperature") == "none":
        judging["temperature"] = None
    return judging
