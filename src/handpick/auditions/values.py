"""What a round has found, out of its study's evaluations: the value of every query on every trained model.

Legend: Q queries of all targets, one target behind the other; J trained models of a candidate, D random draws.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from handpick.auditions.estimate import Floats
from handpick.auditions.folds import HALVES
from handpick.auditions.queries import TargetQueries
from handpick.auditions.rounds import AuditionRound
from handpick.errors import DataError
from handpick.layout import StepLayout
from handpick.studies.cells import RANDOM, CellKey
from handpick.studies.run import Study


@dataclass(frozen=True)
class RoundValues:
    """Values by metric and candidate, (J, Q), NaN where a query had a part in the choice or has no value; and those of
    the random draws, (D, Q). ``failed`` says of a candidate why it has none."""

    own: dict[str, dict[str, Floats]]
    draws: dict[str, Floats]
    failed: dict[str, str]

    def of_judges(self, judging: Mapping[str, NDArray[np.bool_]]) -> "RoundValues":
        """Return the values of the queries that judge by each metric, (Q,); the others have none."""

        def keep(metric: str, value_Q: Floats) -> Floats:
            return np.where(judging[metric], value_Q, np.nan)

        own = {
            metric: {name: keep(metric, each) for name, each in values.items()} for metric, values in self.own.items()
        }
        return RoundValues(own, {metric: keep(metric, each) for metric, each in self.draws.items()}, self.failed)


def read_values(
    study: Study, names: Sequence[str], round_: AuditionRound, targets: Sequence[TargetQueries], metrics: Sequence[str]
) -> RoundValues:
    """Read the values of a round whose study has run.

    Raises:
        DataError: a random draw could not be trained on or measured, so that there is nothing to hold others against.
    """
    reasons = study.opened.reasons
    if why := next((why for key, why in reasons.items() if key.method == RANDOM), None):
        raise DataError(f"a random draw could not be measured: {why}")
    values = partial(_values_of, study, round_, metrics=metrics)
    halves = [(repeat, side) for repeat in range(round_.repeats) for side in range(HALVES)]
    # a draw is one model, and its evaluation on a target is one too, whichever half asks for it
    drawn = [[values(RANDOM, t.half(0, 0), draw, n=len(t.examples)) for t in targets] for draw in range(round_.draws)]
    draws = {metric: np.stack([np.concatenate([of[metric] for of in draw]) for draw in drawn]) for metric in metrics}
    own: dict[str, dict[str, Floats]] = {metric: {} for metric in metrics}
    failed: dict[str, str] = {}
    for name in names:
        if why := next((why for key, why in reasons.items() if key.method == name), None):
            failed[name] = why
            continue
        # of each half, of each target: which queries judge, and what all were given
        found = [
            [(t.side_RQ[repeat] == side, values(name, t.half(repeat, side), 0, n=len(t.examples))) for t in targets]
            for repeat, side in halves
        ]
        for metric in metrics:
            rows = [np.concatenate([np.where(judge_Q, of[metric], np.nan) for judge_Q, of in half]) for half in found]
            own[metric][name] = np.stack(rows)
    return RoundValues(own, draws, failed)


def _values_of(
    study: Study, round_: AuditionRound, method: str, target: str, seed: int, *, metrics: Sequence[str], n: int
) -> dict[str, Floats]:
    """Return the values of all queries of a target on a cell's model; NaN of a record that has none."""
    (model,) = study.settings.models
    key = CellKey(model, method, target, round_.examples, None, seed)
    step = study.trainings.name(key)
    assert step is not None  # the cell is done
    evaluation = study.trainings.evaluations(key, step)["test"]
    path = StepLayout(study.opened.steps.path(evaluation)).predictions
    lines = [json.loads(line)["scores"] for line in path.read_bytes().splitlines()]
    assert len(lines) == n
    return {metric: np.array([scores.get(metric, np.nan) for scores in lines]) for metric in metrics}
