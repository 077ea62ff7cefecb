"""A language model's score as a reward."""

import os
from collections.abc import Sequence
from pathlib import Path

from handpick.errors import JudgeError
from handpick.judge import SCALE, Judge, JudgeSettings, pointwise_template, rate
from handpick.layout import VerdictsLayout
from handpick.rewards.protocol import Prompt, Record
from handpick.rewards.reference import reference_answers

_MISSING = 0.1  # of the completions without a score, above which the reward is not to be trusted
_AT_LEAST = 10  # of them, so that a small batch does not decide


class JudgeReward:
    """Scores from 0 to 1, asked of a judge for one completion at a time; None where it gives none when asked again too.

    What is not known is no score: neither the lowest, nor the middle of the scale, nor what the others got. Whoever
    asks has to do without it.

    Args:
        settings: the judge's; a prompt file may have ``{reference}``, for which the records must have answers.
        cache: the folder in which the judge's answers are kept, as ``judge.jsonl``.

    Raises:
        JudgeError: the openai package is not installed, or a key is needed and there is none.
        SettingsError: the prompt file cannot be read, or lacks a placeholder.
    """

    may_abstain = True

    def __init__(self, settings: JudgeSettings, cache: str | os.PathLike[str]) -> None:
        self.name = f"judge:{settings.model}"
        self._template = pointwise_template(settings.prompt)
        self._judge = Judge(settings, VerdictsLayout(Path(cache)).judge)
        self.scored = 0
        self.missing = 0

    def check(self, record: Record) -> None:
        """Raise DataError where the prompt file has ``{reference}`` and the record no reference answer."""
        if self._template.wants_reference:
            reference_answers(record)

    def __call__(
        self, prompts: Sequence[Prompt], completions: Sequence[str], records: Sequence[Record]
    ) -> list[float | None]:
        """Return one score per completion; None where the judge gave none.

        Raises:
            JudgeError: as ``Judge.ask``, or more than a tenth of all completions so far have no score.
            DataError: the prompt file has ``{reference}`` and a record has no reference answer.
        """
        references = [reference_answers(record)[0] for record in records] if self._template.wants_reference else None
        low, high = SCALE
        scores = [
            None if score is None else (score - low) / (high - low)
            for score in rate(self._judge, prompts, completions, references=references)
        ]
        self.scored += len(scores)
        self.missing += scores.count(None)
        if self.missing >= _AT_LEAST and self.missing > _MISSING * self.scored:
            raise JudgeError(f"{self.lack}; {self.advice}")
        return scores

    @property
    def lack(self) -> str:
        """How many completions of this run have no score, as a sentence."""
        return (
            f"the judge {self._judge.settings.model} gave no score to {self.missing:,} of {self.scored:,} completions"
        )

    @property
    def advice(self) -> str:
        """What to do about it."""
        return (
            f"look into its answers, which are kept in {self._judge.path}, and change --judge-prompt, "
            "--max-answer-tokens or the model; what got no answer in time is asked again (--judge-timeout, "
            "--judge-retries)"
        )
