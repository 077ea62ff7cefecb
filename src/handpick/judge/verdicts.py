"""Scores of answers, and comparisons of two answers in both orders.

A judge that does not reply in the form asked for is asked once more with a reminder, which is another request and so
has an answer of its own in the judge's file. What has no verdict then stays without one.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from handpick.errors import SettingsError
from handpick.judge.answers import JudgeAnswer, Prompt
from handpick.judge.parsing import Side, read_score, read_side
from handpick.judge.settings import JudgeSettings
from handpick.judge.template import REFERENCE, Template, as_text
from handpick.progress import log

SCALE = (1, 10)

_REMINDER = "\n\nReply with the JSON object alone, in exactly the form above: no text before it, none after it."
_SWAPPED: dict[Side | None, Side | None] = {"a": "b", "b": "a", "tie": "tie", None: None}

Value = TypeVar("Value")


class AnyJudge(Protocol):
    """Whoever gives verdicts: a ``Judge`` behind a server, or a model on this machine."""

    @property
    def settings(self) -> JudgeSettings: ...

    def ask(self, prompts: Sequence[Prompt]) -> list[JudgeAnswer]: ...


@dataclass(frozen=True, slots=True)
class Verdict:
    """Which of two answers is better.

    ``first`` is what the judge said with answer a shown first, ``second`` with answer b shown first; both name the
    answer, not its place, and are None where the judge gave no verdict.
    """

    first: Side | None
    second: Side | None

    @property
    def outcome(self) -> Side | None:
        """The one that wins in both orders, or in one with a tie in the other; else a tie.

        None where either order has no verdict: one order alone could be won by its place.
        """
        if self.first is None or self.second is None:
            return None
        if self.first == self.second or self.second == "tie":
            return self.first
        return self.second if self.first == "tie" else "tie"

    @property
    def flipped(self) -> bool:
        """Whether the two orders name different winners."""
        return {self.first, self.second} == {"a", "b"}


@dataclass(frozen=True, slots=True)
class Tally:
    """Verdicts counted. ``flipped`` are among the ties; ``missing`` are those without an outcome."""

    a: int
    b: int
    tie: int
    flipped: int
    missing: int


def tally(verdicts: Sequence[Verdict]) -> Tally:
    """Count verdicts by their outcome."""
    counts = Counter(verdict.outcome for verdict in verdicts)
    return Tally(counts["a"], counts["b"], counts["tie"], sum(verdict.flipped for verdict in verdicts), counts[None])


def pointwise_template(path: str | None) -> Template:
    """Load the template that asks for a score.

    Raises:
        SettingsError: the file cannot be read, or lacks a placeholder.
    """
    return Template.load(path, "pointwise", ["prompt", "answer", "low", "high"])


def pairwise_template(path: str | None) -> Template:
    """Load the template that asks for a comparison.

    Raises:
        SettingsError: the file cannot be read, or lacks a placeholder.
    """
    return Template.load(path, "pairwise", ["prompt", "answer_a", "answer_b"])


def rate(
    judge: AnyJudge,
    prompts: Sequence[Prompt],
    answers: Sequence[str],
    *,
    scale: tuple[float, float] = SCALE,
    references: Sequence[str] | None = None,
) -> list[float | None]:
    """Ask for a score for each answer, on the scale given; None where the judge gave none.

    Args:
        judge: who is asked, with the prompt file of its settings.
        prompts: what was answered; a conversation is shown with its roles.
        answers: one a prompt.
        scale: the lowest and the highest score.
        references: a right answer each, for a prompt file that has ``{reference}``.

    Raises:
        SettingsError: the prompt file is wrong, or wants references and there are none.
        JudgeError: as ``Judge.ask``.
    """
    low, high = scale
    template = pointwise_template(judge.settings.prompt)
    more = _references(template, references, len(prompts))
    asked = [
        template.fill({"prompt": as_text(prompt), "answer": answer} | extra, {"low": f"{low:g}", "high": f"{high:g}"})
        for prompt, answer, extra in zip(prompts, answers, more, strict=True)
    ]
    return _verdicts(judge, asked, lambda text: read_score(text, low, high))


def compare(
    judge: AnyJudge,
    prompts: Sequence[Prompt],
    answers_a: Sequence[str],
    answers_b: Sequence[str],
    *,
    references: Sequence[str] | None = None,
) -> list[Verdict]:
    """Ask which of two answers is better, in both orders. Two equal answers are a tie, and nobody is asked.

    Args:
        judge: who is asked, with the prompt file of its settings.
        prompts: what was answered; a conversation is shown with its roles.
        answers_a: one a prompt.
        answers_b: one a prompt.
        references: a right answer each, for a prompt file that has ``{reference}``.

    Raises:
        SettingsError: the prompt file is wrong, or wants references and there are none.
        JudgeError: as ``Judge.ask``.
    """
    template = pairwise_template(judge.settings.prompt)
    more = _references(template, references, len(prompts))
    pairs = list(zip(map(as_text, prompts), answers_a, answers_b, more, strict=True))
    asked = [
        template.fill({"prompt": prompt, "answer_a": first, "answer_b": second} | extra)
        for prompt, a, b, extra in pairs
        if a != b
        for first, second in ((a, b), (b, a))
    ]
    sides: Iterator[Side | None] = iter(_verdicts(judge, asked, read_side))
    return [Verdict("tie", "tie") if a == b else Verdict(next(sides), _SWAPPED[next(sides)]) for _, a, b, _ in pairs]


def _verdicts(judge: AnyJudge, asked: Sequence[str], read: Callable[[str], Value | None]) -> list[Value | None]:
    """Return what ``read`` finds in the answers; where it finds nothing, in the answers to the same with a reminder."""
    answers = judge.ask(asked)
    values = [_parse_answer(answer, read) for answer in answers]
    unread = [i for i, value in enumerate(values) if value is None and answers[i].text is not None]
    for i, answer in zip(unread, judge.ask([asked[i] + _REMINDER for i in unread]), strict=True):
        answers[i], values[i] = answer, _parse_answer(answer, read)
    missing = [answer for answer, value in zip(answers, values, strict=True) if value is None]
    if missing:
        unanswered, cut = sum(answer.text is None for answer in missing), sum(answer.cut for answer in missing)
        log(
            f"{len(missing):,} of {len(asked):,} verdicts are missing: {unanswered:,} without an answer, {cut:,} cut "
            f"off at --max-answer-tokens, {len(missing) - unanswered - cut:,} with an answer that is none"
        )
    return values


def _parse_answer(answer: JudgeAnswer, read: Callable[[str], Value | None]) -> Value | None:
    return None if answer.text is None else read(answer.text)


def _references(template: Template, references: Sequence[str] | None, n: int) -> list[dict[str, str]]:
    """Return for each item the reference answer under its placeholder, where the template has one."""
    if not template.wants_reference:
        return [{} for _ in range(n)]
    if references is None:
        raise SettingsError(
            f"the judge's prompt {template.where} has {{reference}}, and there are no reference answers here; take it "
            "out, or use records that have them"
        )
    return [{REFERENCE: reference} for reference in references]
