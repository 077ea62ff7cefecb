"""What a prefilter has missed, as told by the candidates that it left out and that were scored all the same. Ours.

The choice is made once more, by the same algorithm, budget and constraints, with the M that were drawn from the cut
among the candidates. If s of them are chosen, s / M of the cut would be, about: missed = s / M · cut. The interval of
s / M is Clopper's and Pearson's (1934), wider than need be where the M are a large part of the cut.

    recall = B / (B + missed)

of all that is good enough to be among the B chosen, the share that was left to be chosen from. (Those that were missed
would not all be chosen together: they would also push each other out.) It is of the last stage's own ranking: a
prefilter that agrees with it loses nothing, whatever either is worth.
"""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from handpick.budget import Budget
from handpick.documents import DAMAGED, as_kind
from handpick.errors import HandpickError, StoreError
from handpick.evaluation.estimate import Estimate
from handpick.files import atomic_write
from handpick.pipeline.apply_constraints import apply_constraints
from handpick.progress import log
from handpick.scorers.inputs import Inputs
from handpick.scorers.scoring_problem import ScoringProblem
from handpick.settings import Settings

TOLD = 0.8  # of the recall: a sample that is too small to say as much, even if none of it would be chosen, is called so


@dataclass(frozen=True)
class Missed:
    """What prefilters left, and what is known of the rest.

    ``prefilters`` by name, ``left`` and ``cut`` candidates, ``depths`` as in ``Prefiltered``. Of the ``checked``,
    ``would_be`` would have been among the ``chosen``.
    """

    prefilters: list[str]
    left: int
    cut: int
    depths: dict[str, int]
    chosen: int
    checked: int
    would_be: int

    @property
    def recall(self) -> Estimate | None:
        """The recall of the choice; None where nothing was checked or chosen."""
        if not self.cut:
            return Estimate(1.0, 1.0, 1.0, 0)
        if not self.checked or not self.chosen:
            return None
        from scipy.stats import binomtest  # type: ignore[import-untyped]

        share = self.would_be / self.checked
        ends = binomtest(self.would_be, self.checked).proportion_ci(method="exact")
        low, high = (share, share) if self.checked == self.cut else (float(ends.low), float(ends.high))
        return Estimate(self._recall_at(share), self._recall_at(high), self._recall_at(low), self.checked)

    def _recall_at(self, share: float) -> float:
        return self.chosen / (self.chosen + share * self.cut)

    @property
    def enough(self) -> int:
        """How many must be checked for the recall to be told as ``TOLD`` or more, if none of them would be chosen."""
        share = self.chosen * (1 / TOLD - 1) / self.cut if self.cut else 1.0
        return 1 if share >= 1 else min(self.cut, math.ceil(math.log(0.025) / math.log1p(-share)))

    @property
    def is_told(self) -> bool:
        """Whether so many were checked."""
        return not self.cut or self.checked >= self.enough

    def describe(self) -> str:
        """Say it in a sentence or two."""
        names, recall = " and ".join(self.prefilters), self.recall
        said = f"prefilter {names}: {self.left:,} of {self.left + self.cut:,} candidates were left"
        if not self.cut:
            return f"{said}, so that none was missed"
        if recall is None:
            return f"{said}; none of the others was looked at, so what was missed is not known (--prefilter-check)"
        said += (
            f"; of {self.checked:,} of the others, drawn at random, {self.would_be:,} would have been chosen: "
            f"about {_percent(recall.value)} of all that is good enough was left (95%: {_percent(recall.low)} to "
            f"{_percent(recall.high)})"
        )
        if self.is_told:
            return said
        return f"{said}. So few cannot tell {_percent(TOLD)}: that takes --prefilter-check {self.enough} at least"


def _percent(share: float) -> str:
    return f"{100 * share:.0f}%"


def estimate_missed(
    settings: Settings, problem: ScoringProblem, budget: Budget, inputs: Inputs, n_chosen: int
) -> Missed | None:
    """Estimate what the prefilters of a choice have missed; None where there are none.

    Args:
        settings: of the run.
        problem: that it was made by.
        budget: of it.
        inputs: of the run.
        n_chosen: how many were chosen.
    """
    found = problem.prefiltered
    if found is None:
        return None
    checked, would_be = len(found.checked), 0
    if checked:
        again = budget if budget.kind == "tokens" else Budget.parse(n_chosen)
        try:
            picks, _ = apply_constraints(settings, found.wider, again, inputs)
            would_be = int(np.isin(found.wider.rows[picks.columns], found.checked).sum())
        except HandpickError as error:  # the choice stands all the same
            log(f"what the prefilter missed cannot be told: {error}")
            checked = 0
    n_left = found.n_candidates - found.n_cut
    return Missed(settings.prefilter, n_left, found.n_cut, dict(found.depths), n_chosen, checked, would_be)


def write_missed(missed: Missed | None, path: Path) -> None:
    """Write it down for the report; of a run without prefilters, remove an earlier one's.

    Raises:
        StoreError: the folder cannot be written.
    """
    if missed is None:
        path.unlink(missing_ok=True)
        return
    recall = missed.recall
    figures: dict[str, Any] = asdict(missed) | {"recall": None if recall is None else recall.to_json()}
    atomic_write(path, json.dumps(figures, indent=1, ensure_ascii=False).encode())


def read_missed(path: Path) -> Missed | None:
    """Read what ``write_missed`` wrote; None where there is nothing.

    Raises:
        StoreError: it is damaged.
    """
    if not path.exists():
        return None
    try:
        figures: dict[str, Any] = json.loads(path.read_bytes())
        figures.pop("recall")
        return as_kind(Missed, figures)
    except DAMAGED as error:
        raise StoreError(f"{path} cannot be read ({error}); remove it, or select again") from error
