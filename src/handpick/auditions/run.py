"""``audition`` and ``select --method auto``, from settings to what is written."""

import math
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handpick.auditions.candidates import Candidates
from handpick.auditions.decision import LOSS, Decision, RoundResult, decide, judge_round
from handpick.auditions.estimate import Floats, Judges
from handpick.auditions.plan import AuditionPlan, plan_audition
from handpick.auditions.queries import can_judge, find_hazards, judges_of, open_queries
from handpick.auditions.rounds import repeats_of
from handpick.auditions.settings import AuditionSettings
from handpick.auditions.values import read_values
from handpick.budget import Budget
from handpick.errors import DataError, SettingsError
from handpick.fingerprint import Fingerprint
from handpick.layout import AuditionLayout, DataLayout
from handpick.model import model_fingerprint
from handpick.overlap import find_overlaps
from handpick.own_folder import check_inputs, hold_folder
from handpick.pipeline.prepare import data_of, files_of, open_data
from handpick.progress import log
from handpick.scorers.provenance import parsed_records
from handpick.sealed import read_sealed, write_sealed
from handpick.store.manifest import contents_of
from handpick.studies.run import Study

PROBE_SECONDS = 20.0
_UNDECIDED = Decision(
    None,
    "nothing is shown to beat random here: the queries all have one answer, and whatever makes the model always say it "
    "would look best; give queries with other answers too, or choose by a --method of your own",
)
_DECIDES = ("metric", "share", "repeats", "draws", "train", "test")  # of an audition's settings


@dataclass(frozen=True)
class Audition:
    """What an audition has found. ``hazards`` are what may have fooled it; ``seconds`` all its runs took together."""

    plan: AuditionPlan
    rounds: list[RoundResult]
    decision: Decision
    hazards: list[str]
    seconds: float
    is_over: bool = True
    folder: Path = field(default_factory=Path)

    @property
    def failed(self) -> dict[str, str]:
        """Why candidates that could not be measured were judged no further, by name."""
        return {name: why for each in self.rounds for name, why in each.failed.items()}

    def to_json(self) -> dict[str, Any]:
        """Return it for machines; an end of an interval that is nowhere is null."""
        found = {
            "winner": self.decision.winner,
            "why": self.decision.why,
            "finished": self.is_over,
            "hazards": self.hazards,
            "rounds": [each.to_json() for each in self.rounds],
            "left_out": self.plan.left_out,
            "choice_seconds": {name: cost.choice for name, cost in self.plan.candidates.items()},
            "planned_seconds": self.plan.seconds,
            "seconds": round(self.seconds, 1),
        }
        cleaned: dict[str, Any] = _without_infinities(found)
        return cleaned


class PreparedAudition:
    """An audition before its work: everything opened and cut, and everything checked that can be.

    Args:
        values: settings of the run that the winner is to make, as plain values, without its method.
        own: settings of the audition.

    Raises:
        HandpickError: of the kind that fits what is wrong.
    """

    def __init__(self, values: Mapping[str, Any], own: AuditionSettings) -> None:
        self.candidates = Candidates(values, own)
        self.own = own
        run, self.layout = self.candidates.any, self.candidates.layout
        if run.is_in_bucket:
            raise SettingsError(f"out {run.out}: an audition is held in a folder of this machine; give another --out")
        check_inputs(self.layout, data_of(run), files_of(run))
        pools = {
            name: open_data("query", files, run.model_copy(update={"query": files, "target": {}}), self.layout).pool
            for name, files in self.candidates.targets.items()
        }
        repeats = own.repeats or repeats_of(max(len(pool) for pool in pools.values()))
        repeated = own.test.get("example_field")
        self.targets = [open_queries(name, pool, repeats, run.seed, repeated) for name, pool in pools.items()]
        self._check_answers()
        self.pool = open_data("pool", run.pool, run, DataLayout(self.layout.folder)).pool
        budget = Budget.parse(run.budget)
        if budget.kind == "tokens":
            raise SettingsError(
                "an audition teaches every candidate as many examples: give a budget in examples or percent"
            )
        self.budget = budget.examples_needed(len(self.pool))
        for target in self.targets:
            target.write(self.layout, repeats)

    def plan(self, seconds: float = PROBE_SECONDS, *, keep: bool = True) -> AuditionPlan:
        """Return what an earlier run has planned, or plan; written down unless it is only looked at.

        Raises:
            FingerprintMismatch: the folder holds an audition of other data, another model or other settings.
            SettingsError: the limit holds no candidate.
        """
        made_from = self._made_from()
        plan = AuditionPlan.open(self.layout.plan, made_from)
        if plan is None:
            plan = plan_audition(self.candidates, self.targets, self.budget, made_from, seconds)
            if keep:
                plan.save(self.layout.plan)
        return plan

    def run(self, seconds: float = PROBE_SECONDS) -> Audition:
        """Hold the audition, or go on with one that was stopped.

        Raises:
            HandpickError: a round cannot be held. What was trained and measured is kept.
        """
        with hold_folder(self.layout.folder):
            return self._run(seconds)

    def _run(self, seconds: float) -> Audition:
        began, spent = time.monotonic(), self._spent()
        plan = self.plan(seconds)
        share_parsed(self.layout, parsed_records(self.candidates.any))
        hazards = find_hazards(self.targets, self.pool, self.own.metric, self._left_out())
        for each in hazards:
            log(f"look out: {each}")
        for name, why in plan.left_out.items():
            log(f"left out: {name}: {why}")
        limit = math.inf if self.own.limit_s is None else self.own.limit_s

        def elapsed() -> float:
            return spent + time.monotonic() - began

        judges, metrics = judges_of(self.targets), self.own.metrics_of(has_answers=True)
        judging = {metric: np.array(can_judge(self.targets, metric))[judges.target_Q] for metric in metrics}
        if not judging[self.own.metric].any():
            return self._keep(Audition(plan, [], _UNDECIDED, hazards, elapsed(), True, self.layout.folder))
        rounds: list[RoundResult] = []
        names, seconds_of = list(plan.candidates), {name: cost.choice for name, cost in plan.candidates.items()}
        decision = Decision(None, "the audition is not over")
        for number, round_ in enumerate(plan.rounds):
            is_last = number == len(plan.rounds) - 1
            log(
                f"round {number + 1} of {len(plan.rounds)}: {', '.join(names)} and {round_.draws} random draws, "
                f"{round_.examples:,} examples each"
            )
            study = Study(self.candidates.study(names, round_, self.targets))
            study.run(lambda: elapsed() < limit, distances=False)
            if elapsed() >= limit and self._is_missing(study):
                decision = Decision(None, f"nothing is decided: the time was over in round {number + 1}")
                return self._keep(Audition(plan, rounds, decision, hazards, elapsed(), False, self.layout.folder))
            values = read_values(study, names, round_, self.targets, metrics).of_judges(judging)
            keep = len(names) if is_last else plan.rounds[number + 1].candidates
            result = judge_round(round_, values, judges, self.own.metric, len(plan.candidates), keep)
            still = f"{self.own.metric} is the same on every query for every model that was trained: the loss judges"
            said = [still] if result.metric != self.own.metric else []
            said += self._without_say(values.draws[result.metric], judges, result.metric)
            hazards += [each for each in said if each not in hazards]
            rounds.append(result)
            if is_last or not result.kept:
                decision = decide(result, values, judges, seconds_of, len(plan.candidates))
                break
            self._keep(Audition(plan, rounds, decision, hazards, elapsed(), False, self.layout.folder))
            names = [name for name in names if name in result.kept]
        return self._keep(Audition(plan, rounds, decision, hazards, elapsed(), True, self.layout.folder))

    def _keep(self, found: Audition) -> Audition:
        write_sealed(self.layout.record, found.to_json())
        return found

    def _without_say(self, draw_DQ: Floats, judges: Judges, metric: str) -> list[str]:
        """Return which of the targets that were to judge have no query with a value, so that the others decide."""
        has_Q: NDArray[np.bool_] = np.all(np.isfinite(draw_DQ), axis=0)
        return [
            f"{target.name}: no query has a value in {metric}: the other targets decide"
            for place, (target, judging) in enumerate(zip(self.targets, can_judge(self.targets, metric), strict=True))
            if judging and not has_Q[judges.target_Q == place].any()
        ]

    def _left_out(self) -> set[int]:
        """Return the pool's rows that repeat an item of the files in ``exclude_overlap``, which nobody may choose."""
        run = self.candidates.any
        if not run.exclude_overlap:
            return set()
        found = find_overlaps(self.pool, run.exclude_overlap, run.folder, run.overlap_threshold, run.reading)
        return {each.row for each in found}

    def _spent(self) -> float:
        """Return the seconds that earlier runs took, up to the last round that they finished."""
        if not self.layout.record.exists():
            return 0.0
        found = read_sealed(self.layout.record, "remove it: nothing but the time that was spent is lost")
        return float(found["seconds"])

    def _is_missing(self, study: Study) -> bool:
        return any(cell.status == "missing" for cell in study.results().cells)

    def _made_from(self) -> Fingerprint:
        own = self.own.model_dump(mode="json")
        return {
            "pool": contents_of(self.pool.files),
            "queries": {target.name: contents_of(target.pool.files) for target in self.targets},
            "model": model_fingerprint(str(self.candidates.any.model)),
            "budget": self.budget,
            "candidates": {
                name: run.model_dump(mode="json", include=run.changed - {"pool", "query", "target", "model", "out"})
                for name, run in self.candidates.runs.items()
            },
            "audition": {name: own[name] for name in _DECIDES},
        }

    def _check_answers(self) -> None:
        for target in self.targets:
            if self.own.metric == LOSS and not target.has_answers:
                raise DataError(
                    f"the queries of {target.name} have no answers, so there is no loss to judge by: say with --metric "
                    "what grades the model's own answers, or give queries with answers"
                )


def share_parsed(layout: AuditionLayout, there: Path) -> None:
    """Let the rounds find the records as the run has parsed them; where links cannot be made they parse them again.

    Args:
        layout: of the audition.
        there: the run's cache of parsed records.
    """
    here = layout.parsed
    with suppress(OSError):
        there.mkdir(parents=True, exist_ok=True)
        if here.is_symlink() and not here.exists():
            here.unlink()
        if not here.exists():  # an audition by an older version has its own
            here.symlink_to(os.path.relpath(there, here.parent), target_is_directory=True)


def _without_infinities(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_infinities(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_infinities(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
