"""What a round has found, out of its study's evaluations: the value of every query on every trained model.

Legend: Q queries of all targets, one target behind the other; J trained models of a candidate, D random draws.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

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
    values = partial(_values_of, study, metrics=metrics)
    key_of = partial(_key_of, study, round_)
    draws: dict[str, list[Floats]] = {metric: [] for metric in metrics}
    for draw in range(round_.draws):
        # a draw is one model; its evaluation on a target is one too, whichever half asks for it
        found = [values(key_of(RANDOM, target.half(0, 0), draw), n=len(target.examples)) for target in targets]
        for metric in metrics:
            draws[metric].append(np.concatenate([each[metric] for each in found]))
    own: dict[str, dict[str, Floats]] = {metric: {} for metric in metrics}
    failed: dict[str, str] = {}
    for name in names:
        keys = [key_of(name, t.half(r, s), 0) for t in targets for r in range(round_.repeats) for s in range(HALVES)]
        if why := next((reasons[key] for key in keys if key in reasons), None):
            failed[name] = why
            continue
        rows: dict[str, list[Floats]] = {metric: [] for metric in metrics}
        for repeat in range(round_.repeats):
            for side in range(HALVES):
                parts: dict[str, list[Floats]] = {metric: [] for metric in metrics}
                for target in targets:
                    found_M = values(key_of(name, target.half(repeat, side), 0), n=len(target.examples))
                    for metric in metrics:
                        judged = target.side_RQ[repeat] == side
                        parts[metric].append(np.where(judged, found_M[metric], np.nan))
                for metric in metrics:
                    rows[metric].append(np.concatenate(parts[metric]))
        for metric in metrics:
            own[metric][name] = np.stack(rows[metric])
    return RoundValues(own, {metric: np.stack(each) for metric, each in draws.items()}, failed)


def _key_of(study: Study, round_: AuditionRound, method: str, target: str, seed: int) -> CellKey:
    (model,) = study.settings.models
    return CellKey(model, method, target, round_.examples, None, seed)


def _values_of(study: Study, key: CellKey, *, metrics: Sequence[str], n: int) -> dict[str, Floats]:
    """Return the values of all queries of a target on a cell's model; NaN of a record that has none."""
    step = study.trainings.name(key)
    assert step is not None  # the cell is done
    evaluation = study.trainings.evaluations(key, step)["test"]
    path = StepLayout(study.opened.steps.path(evaluation)).predictions
    lines = [json.loads(line)["scores"] for line in path.read_bytes().splitlines()]
    assert len(lines) == n
    return {metric: np.array([scores.get(metric, np.nan) for scores in lines]) for metric in metrics}
