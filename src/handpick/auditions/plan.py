"""What an audition will take, from one measured probe, and what of it a limit can hold: fixed before the first training
and written down, so that a run that is resumed, or has other workers, follows the same rounds."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from handpick.auditions.candidates import Candidates
from handpick.auditions.folds import HALVES
from handpick.auditions.queries import TargetQueries
from handpick.auditions.rounds import AuditionRound, plan_rounds
from handpick.costs.cost import StageCost, StageKind
from handpick.costs.probe import Probing
from handpick.data.render import Rendered
from handpick.documents import DAMAGED
from handpick.durations import format_duration
from handpick.errors import DataError, SettingsError, StoreError
from handpick.fingerprint import Fingerprint, require_same
from handpick.model import free_memory
from handpick.objectives.next_token import NextToken
from handpick.planning.evaluation_costs import EvaluationProbe, passes_of
from handpick.planning.finetuning_costs import FinetuningProbe, SampledFinetunings, probe_finetuning
from handpick.planning.select import plan_beside, scratch_folders
from handpick.planning.study import SHARED_STAGES
from handpick.sealed import unseal, write_sealed
from handpick.studies.run import Study
from handpick.studies.trained import single_thread

_SEQUENCES = 64  # examples whose training stands for all


@dataclass(frozen=True, slots=True)
class CandidateCost:
    """Seconds of a candidate: ``once`` for the pool, and for ``each`` choice."""

    once: float
    each: float

    @property
    def choice(self) -> float:
        """Of the choice in the end, as if nothing were there."""
        return self.once + self.each


@dataclass(frozen=True)
class AuditionPlan:
    """The rounds and who is in the first; ``left_out`` says of others why they are not. Seconds are estimates, of a
    fine-tuning in each round and of an evaluation on all queries. ``all_choose``: if nobody wins, all candidates do."""

    candidates: dict[str, CandidateCost]
    left_out: dict[str, str]
    rounds: list[AuditionRound]
    training_s: list[float]
    evaluation_s: float
    targets: int
    limit_s: float | None
    workers: int
    made_from: Fingerprint = field(default_factory=dict)
    all_choose: bool = False

    @property
    def seconds(self) -> float:
        """The audition and the choice after it, at most: of every round the dearest candidates."""
        return bill(
            self.candidates,
            self.rounds,
            self.training_s,
            self.evaluation_s,
            self.targets,
            self.workers,
            all_choose=self.all_choose,
        )

    def to_json(self) -> dict[str, Any]:
        """Return it for machines, with the seconds of all."""
        return asdict(self) | {"seconds": self.seconds}

    def save(self, path: Path) -> None:
        """Write it down, for ``open``."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_sealed(path, asdict(self))

    @classmethod
    def open(cls, path: Path, made_from: Fingerprint) -> "AuditionPlan | None":
        """Read a plan that an earlier run has written; None where there is none.

        Raises:
            FingerprintMismatch: it is of other data, another model or other settings.
            StoreError: it is damaged.
        """
        try:
            found = unseal(json.loads(path.read_bytes()))
            plan = cls(
                **found
                | {
                    "candidates": {name: CandidateCost(**each) for name, each in found["candidates"].items()},
                    "rounds": [AuditionRound(**each) for each in found["rounds"]],
                }
            )
        except FileNotFoundError:
            return None
        except DAMAGED as error:
            raise StoreError(f"{path} is damaged ({error}); remove it, and the audition is planned anew") from error
        require_same(plan.made_from, made_from, what=f"the audition in {path.parent}")
        return plan


def bill(
    candidates: Mapping[str, CandidateCost],
    rounds: Sequence[AuditionRound],
    training_s: Sequence[float],
    evaluation_s: float,
    targets: int,
    workers: int,
    *,
    all_choose: bool = False,
) -> float:
    """Return the seconds of rounds whose dearest candidates stay in, and of the dearest choice in the end, or all."""
    each = sorted((cost.each for cost in candidates.values()), reverse=True)
    total = sum(cost.once for cost in candidates.values()) + (sum(each) if all_choose else max(each, default=0.0))
    for round_, seconds in zip(rounds, training_s, strict=True):
        halves = targets * round_.repeats * HALVES
        total += halves * sum(each[: round_.candidates])
        cells = round_.candidates * halves
        total += (cells * (seconds + evaluation_s / targets) + round_.draws * (seconds + evaluation_s)) / workers
    return total


def plan_audition(
    candidates: Candidates, targets: Sequence[TargetQueries], budget: int, made_from: Fingerprint, seconds: float
) -> AuditionPlan:
    """Measure, and fit the rounds into the limit.

    Args:
        candidates: of the audition.
        targets: whose queries judge.
        budget: examples that are chosen in the end.
        made_from: what the plan is of.
        seconds: to compute for, about.

    Raises:
        SettingsError: the limit holds no candidate; or as ``probe_finetuning``.
        DataError: the metric can grade no query.
        HandpickError: a candidate cannot be run, in the words of its run, which begin with its name.
    """
    own, workers = candidates.own, candidates.any.workers or 1
    repeats = len(targets[0].side_RQ)
    share = seconds / (len(candidates.names) + 2)
    names = list(candidates.names)
    rounds = plan_rounds(len(names), budget, own.share, repeats, own.draws)
    study = Study(candidates.study(names, rounds[-1], targets))
    _require_open(study)
    costs = {name: _candidate_cost(candidates, name, share) for name in candidates.names}
    with single_thread():
        probe, sequences = _probe(study, share)
        evaluation_s = _evaluation_seconds(study, probe, targets, share)
    left_out: dict[str, str] = {}

    def plan_with(names: Sequence[str], repeats: int) -> AuditionPlan:
        rounds = plan_rounds(len(names), budget, own.share, repeats, own.draws)
        training_s = [_training_seconds(probe, sequences, round_.examples) for round_ in rounds]
        kept = {name: costs[name] for name in names}
        return AuditionPlan(
            kept,
            left_out,
            rounds,
            training_s,
            evaluation_s,
            len(targets),
            own.limit_s,
            workers,
            made_from,
            own.if_none == "union",
        )

    plan = plan_with(names, repeats)
    while own.limit_s is not None and plan.seconds > own.limit_s:
        if repeats > 1:
            repeats -= 1
        elif len(names) > 1:
            dearest = max(names, key=lambda name: costs[name].choice)
            names.remove(dearest)
            takes, limit = format_duration(plan.seconds), format_duration(own.limit_s)
            left_out[dearest] = f"with it, all would take {takes} of the {limit} there are"
        else:
            raise SettingsError(
                f"the limit of {format_duration(own.limit_s)} holds no audition: with {names[0]} alone it takes about "
                f"{format_duration(plan.seconds)}; give more, or choose with --method {names[0]}"
            )
        plan = plan_with(names, repeats)
    free_memory()
    return plan


def _require_open(study: Study) -> None:
    """Raise DataError where the queries cannot be measured on, or the model cannot be opened."""
    for place in study.opened.places:
        if not study.opened.is_open(place):
            raise DataError(f"nothing can be judged by {place.target}: {study.opened.reasons[place]}")


def _candidate_cost(candidates: Candidates, name: str, seconds: float) -> CandidateCost:
    with scratch_folders() as scratch:
        settings = candidates.runs[name].model_copy(update={"out": str(scratch.run)})
        try:
            plan = plan_beside(settings, Probing(seconds, scratch.probe), scratch.bad)
        except (DataError, SettingsError) as error:
            raise type(error)(f"the candidate {name}: {error}; leave it out of --methods, or mend it") from error
    per_query = settings.score_only or any(scorer.bound_to_queries for scorer in settings.scorers)
    return cost_of(plan.stages, per_query=per_query)


def cost_of(stages: Sequence[StageCost], *, per_query: bool) -> CandidateCost:
    """Return a candidate's seconds: what choices share counts once, of one with a pass over the pool for each choice
    the warmup alone."""
    once = each = 0.0
    for stage in stages:
        took = 0.0 if stage.seconds is None else stage.seconds.value
        if stage.kind == StageKind.WARMUP or (stage.kind in SHARED_STAGES and not per_query):
            once += took
        else:
            each += took
    return CandidateCost(once, each)


def _probe(study: Study, seconds: float) -> tuple[FinetuningProbe, list[Rendered]]:
    (model,) = study.opened.models.values()
    usable = sorted(set(study.opened.pool.ids()) - study.opened.unusable(model.name))
    drawn = np.random.default_rng(0).permutation(len(usable))[:_SEQUENCES].tolist()
    examples = [study.opened.pool[study.opened.row_of[usable[place]]] for place in drawn]
    sequences = NextToken(model.renderer, model.recipe.max_length).prepare(examples).items
    return probe_finetuning(model, sequences, seconds), sequences


def _training_seconds(probe: FinetuningProbe, sequences: Sequence[Rendered], n: int) -> float:
    some = sequences[:n]
    stage = probe.stage("", SampledFinetunings(n, 1, [some], len(some) / n), 1, kept=False, note="")
    assert stage.seconds is not None
    return stage.seconds.value


def _evaluation_seconds(
    study: Study, probe: FinetuningProbe, targets: Sequence[TargetQueries], seconds: float
) -> float:
    """Return the seconds of one evaluation on all queries of all targets."""
    (model,) = study.opened.models.values()
    tasks = [study.opened.targets[target.half(0, 0)].test for target in targets]
    parts = [part for task in tasks for part in passes_of(task, model.renderer, model.recipe.max_length)]
    probed = EvaluationProbe(probe.model, model.renderer, parts, seconds)
    return sum(probed.seconds(part).value for part in parts)
