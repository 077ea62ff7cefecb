"""A language model's score as a reward."""

import os
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from handpick.errors import JudgeError
from handpick.judge import SCALE, Judge, JudgeSettings, pointwise_template, rate
from handpick.layout import VerdictsLayout
from handpick.rewards.protocol import Prompt, Record
from handpick.rewards.reference import reference_answers

_MISSING = 0.1  # of the completions without a score, above which the reward is not to be trusted
_AT_LEAST = 10  # of them, so that a small batch does not decide


class JudgeReward:
    """Scores from 0 to 1, asked of a judge for one completion at a time.

    Where the judge gives no score even when asked again, a completion takes the mean of the others to the same prompt,
    which makes it neither better nor worse than they are; where they have none either, that of all in the call, and
    at last the middle of the scale. It does not take the lowest score: that would teach from what is not known.

    Args:
        settings: the judge's; a prompt file may have ``{reference}``, for which the records must have answers.
        cache: the folder in which the judge's answers are kept, as ``judge.jsonl``.

    Raises:
        JudgeError: the openai package is not installed, or a key is needed and there is none.
        SettingsError: the prompt file cannot be read, or lacks a placeholder.
    """

    def __init__(self, settings: JudgeSettings, cache: str | os.PathLike[str]) -> None:
        self.name = f"judge:{settings.model}"
        self._template = pointwise_template(settings.prompt)
        self._judge = Judge(settings, VerdictsLayout(Path(cache)).judge)
        self.scored = 0
        self.missing = 0

    def __call__(self, prompts: Sequence[Prompt], completions: Sequence[str], records: Sequence[Record]) -> list[float]:
        """Return one score per completion.

        Raises:
            JudgeError, DataError: as ``grades``.
        """
        scores = self.grades(prompts, completions, records)
        return _fill_missing(scores, [tuple((turn["role"], turn["content"]) for turn in prompt) for prompt in prompts])

    def grades(
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
            raise JudgeError(
                f"the judge {self._judge.settings.model} gave no score to {self.missing:,} of {self.scored:,} "
                "completions; look into its answers, and change the prompt, max_answer_tokens or the model"
            )
        return scores


def _fill_missing(scores: Sequence[float | None], prompts: Sequence[object]) -> list[float]:
    by_prompt: dict[object, list[float]] = {}
    for score, prompt in zip(scores, prompts, strict=True):
        if score is not None:
            by_prompt.setdefault(prompt, []).append(score)
    given = [score for score in scores if score is not None]
    middle = fmean(given) if given else 0.5
    return [
        (fmean(by_prompt[prompt]) if prompt in by_prompt else middle) if score is None else score
        for score, prompt in zip(scores, prompts, strict=True)
    ]
