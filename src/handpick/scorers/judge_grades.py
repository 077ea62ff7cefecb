"""The grade that a language model gives an example's own last answer, from 0 to 1; nothing is asked twice.

An example that the judge gives no grade is set aside: what is not known is no grade.
"""

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from handpick.costs.cost import Extent, StageCost, StageKind, Work
from handpick.costs.probe import Probing
from handpick.errors import DataError, JudgeError
from handpick.fingerprint import Fingerprint
from handpick.layout import RunLayout, SamplesLayout
from handpick.objectives.judge_fields import judge_options
from handpick.progress import progress
from handpick.rewards import reward_fingerprint
from handpick.rewards.judge import JudgeReward
from handpick.scorers.direct_scorer import READ_TOGETHER, DirectScorer
from handpick.scorers.reward_scores import OwnAnswer, own_answer


class Judged(DirectScorer):
    """Asks a judge for the grade of every record's last answer."""

    @property
    def model(self) -> str:
        """The judge, as its server knows it."""
        return self.settings.used_representation.partition(":")[2]

    @cached_property
    def reward(self) -> JudgeReward:
        """The judge, with everything that it has said before."""
        return JudgeReward(
            judge_options(self.settings).for_model(self.model),
            SamplesLayout(RunLayout(self.settings.folder).samples).verdicts,
        )

    def preflight(self) -> None:
        """Refuse a judge that cannot be asked: no key, no package, no prompt."""
        _ = self.reward

    def fingerprint(self) -> Fingerprint:
        """Return what decides a grade."""
        return {"kind": "judge", **reward_fingerprint(f"judge:{self.model}", judge=judge_options(self.settings))}

    def usable_rows(self) -> list[int]:
        """Return the rows that have a grade; asks for what was not asked for before, and sets the others aside.

        Raises:
            JudgeError: as ``JudgeReward``, or no row has a grade.
        """
        answered = super().usable_rows()
        with progress("grades", total=len(answered)) as advance:
            for start in range(0, len(answered), READ_TOGETHER):
                rows = answered[start : start + READ_TOGETHER]
                self._grade(rows)
                advance(len(rows))
        if self.reward.scored and not self._grades:
            raise JudgeError(f"{self.reward.lack}, so there is nothing to choose by; {self.reward.advice}")
        return [row for row in answered if row in self._grades]

    @cached_property
    def _grades(self) -> dict[int, float]:
        """The grade of every row that has one."""
        return {}

    def _grade(self, rows: list[int]) -> None:
        asked: dict[int, OwnAnswer] = {}
        for row in rows:
            try:
                asked[row] = own_answer(self.pool.pool[row])
            except DataError as error:
                self.set_aside(row, str(error))
        answers = list(asked.values())
        grades = self.reward(
            [each.prompt for each in answers], [each.text for each in answers], [each.record for each in answers]
        )
        for row, grade in zip(asked, grades, strict=True):
            if grade is None:
                self.set_aside(row, f"the judge {self.model} gave no grade")
            else:
                self._grades[row] = grade

    def scores(self, rows_N: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the grades, float32 (N,)."""
        return np.array([self._grades[row] for row in rows_N.tolist()], dtype=np.float32)

    def work(self, probing: Probing) -> Work:
        """Return how often the judge is asked; its time is not estimated."""
        n = len(self.pool.pool)
        note = f"up to {n:,} calls of the judge; their time is not estimated"
        line = StageCost(StageKind.INDEX.value, n, note=note, kind=StageKind.INDEX)
        return Work([line], extent=Extent(n, 0, 1, 1))
