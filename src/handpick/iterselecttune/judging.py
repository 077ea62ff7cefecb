"""Which examples are hard: the base model's own answer is worse than the reference answer.

A tie is easy, and so is a pair whose winner changes with the order; an example without a verdict is neither hard nor
easy. Source: IterSelectTune (arXiv 2410.13464); verdicts in both orders as in its evaluation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from handpick.errors import SettingsError
from handpick.evaluation.judges import find_judge
from handpick.fingerprint import Fingerprint
from handpick.iterselecttune.settings import RULE, IterSelectSettings
from handpick.judge import JudgeSettings, Usage, compare, pairwise_template, pointwise_template, rate
from handpick.judge.answers import estimate_tokens
from handpick.layout import VerdictsLayout
from handpick.rewards import check_record, find_reward, reward_fingerprint, score
from handpick.rewards.protocol import Reward

_SIDES = {"a": "answer", "b": "reference", "tie": "tie", None: None}  # what a comparison's two answers are here


@dataclass(frozen=True, slots=True)
class Question:
    """One example to judge: what was asked, the reference answer, the base model's, and the record as it came."""

    id: str
    prompt: list[dict[str, str]]
    reference: str
    answer: str
    record: dict[str, Any]


@dataclass(frozen=True, slots=True)
class JudgedExample:
    """What a judge says of one example; ``hard`` is None without a verdict, ``said`` is what is written down."""

    hard: bool | None
    said: dict[str, Any]
    tie: bool = False
    flipped: bool = False


class Judging(Protocol):
    """A way to tell hard from easy.

    ``calls_each`` is how many requests an example takes, without repeated ones. ``used`` counts all that were made.
    ``settings`` are the judge's, None of a rule.
    """

    calls_each: int

    @property
    def settings(self) -> JudgeSettings | None: ...

    @property
    def used(self) -> Usage: ...

    def fingerprint(self) -> Fingerprint: ...

    def cost(self, usage: Usage) -> float | None:
        """Return the money it costs; None without prices."""

    def check(self, record: Mapping[str, Any]) -> None:
        """Raise DataError where no answer to a record could be judged."""

    def tokens_in(self, prompt: str, reference: str) -> int:
        """Estimate how many tokens it takes to ask, where the base model's answer is as long as may be."""

    def __call__(self, questions: Sequence[Question]) -> list[JudgedExample]: ...


def find_judging(settings: IterSelectSettings) -> Judging:
    """Return the judge, or the rule, that the settings name.

    Raises:
        HandpickError: as ``find_judge`` and ``find_reward``.
    """
    folder = settings.layout.verdicts
    if settings.judge.startswith(RULE):
        return RuleJudging(settings, folder)
    asked = find_judge(settings.judge, settings.judging, folder, dtype=settings.dtype, until_cap=True)
    if VerdictsLayout(folder).judge.exists():
        asked.ask([])  # which reads what earlier runs have used
    return ModelJudging(asked, settings.verdict, settings.max_new_tokens)


class RuleJudging:
    """No judge: an answer whose score is below ``hard_below`` is worse than the reference.

    The reference itself scores highest by any metric that compares with it, so that the two scores say nothing.
    """

    calls_each = 0
    settings = None
    used = Usage()

    def __init__(self, settings: IterSelectSettings, folder: Path) -> None:
        self._spec = settings.judge.removeprefix(RULE)
        if self._spec.partition(":")[0] == "judge":
            raise SettingsError(f"{self._spec} is a judge and no rule: give --judge {self._spec.partition(':')[2]}")
        self._reward: Reward = find_reward(
            self._spec,
            allow_code_execution=settings.allow_code_execution,
            allow_weak_sandbox=settings.allow_weak_sandbox,
            cache=folder,
        )
        self._below = settings.hard_below

    def fingerprint(self) -> Fingerprint:
        return {**reward_fingerprint(self._spec), "hard_below": self._below}

    def cost(self, usage: Usage) -> float | None:
        return None

    def check(self, record: Mapping[str, Any]) -> None:
        """Raise DataError where the rule can score no answer: there is no reference, or none that it reads."""
        check_record(self._reward, record)

    def tokens_in(self, prompt: str, reference: str) -> int:
        return 0

    def __call__(self, questions: Sequence[Question]) -> list[JudgedExample]:
        scores = score(
            self._reward,
            [q.prompt for q in questions],
            [q.answer for q in questions],
            [q.record for q in questions],
            [q.id for q in questions],
        )
        return [JudgedExample(each < self._below, {"score": each}) for each in scores]


class ModelJudging:
    """A language model, asked for a comparison in both orders or for a score of either answer.

    Args:
        judge: who is asked; has ``used`` and ``fingerprint`` too.
        verdict: ``pairwise`` or ``pointwise``.
        max_new_tokens: of the base model's answer.

    Raises:
        SettingsError: the prompt file cannot be read, or lacks a placeholder.
    """

    calls_each = 2

    def __init__(self, judge: Any, verdict: str, max_new_tokens: int) -> None:
        self._judge = judge
        self._longest = max_new_tokens
        self._pairwise = verdict == "pairwise"
        self._template = (pairwise_template if self._pairwise else pointwise_template)(judge.settings.prompt)
        if self._template.wants_reference:
            raise SettingsError(
                f"the judge's prompt {self._template.where} has {{reference}}, which is one of the two answers here: "
                "take it out"
            )

    @property
    def settings(self) -> JudgeSettings:
        found: JudgeSettings = self._judge.settings
        return found

    @property
    def used(self) -> Usage:
        found: Usage = self._judge.used
        return found

    def cost(self, usage: Usage) -> float | None:
        return self.settings.cost(usage)

    def fingerprint(self) -> Fingerprint:
        return {**self._judge.fingerprint(), "verdict": "pairwise" if self._pairwise else "pointwise"}

    def check(self, record: Mapping[str, Any]) -> None:
        """Refuse nothing: a judge is shown the example's own answer."""

    def tokens_in(self, prompt: str, reference: str) -> int:
        if self._pairwise:
            text = self._template.fill({"prompt": prompt, "answer_a": reference, "answer_b": ""})
            return self.calls_each * (estimate_tokens([{"content": text}]) + self._longest)
        texts = [
            self._template.fill({"prompt": prompt, "answer": answer}, {"low": "1", "high": "10"})
            for answer in (reference, "")
        ]
        return estimate_tokens([{"content": text} for text in texts]) + self._longest

    def __call__(self, questions: Sequence[Question]) -> list[JudgedExample]:
        prompts = [each.prompt for each in questions]
        own, references = [each.answer for each in questions], [each.reference for each in questions]
        if self._pairwise:
            verdicts = compare(self._judge, prompts, own, references)
            return [
                JudgedExample(
                    None if v.outcome is None else v.outcome == "b",
                    {"first": _SIDES[v.first], "second": _SIDES[v.second]},
                    tie=v.outcome == "tie",
                    flipped=v.flipped,
                )
                for v in verdicts
            ]
        # side by side, so that a cap cuts between examples
        both = [answer for pair in zip(own, references, strict=True) for answer in pair]
        scores = rate(self._judge, [prompt for prompt in prompts for _ in range(2)], both)
        pairs = zip(scores[::2], scores[1::2], strict=True)
        return [
            JudgedExample(
                None if mine is None or theirs is None else mine < theirs,
                {"answer": mine, "reference": theirs},
                tie=mine is not None and mine == theirs,
            )
            for mine, theirs in pairs
        ]
