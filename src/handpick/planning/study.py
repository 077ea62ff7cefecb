"""``plan_study``: what is left of a study, selections by method, fine-tunings by size, evaluations by target."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from handpick.costs import probe
from handpick.costs.cost import Amount, Plan, StageCost, StageKind
from handpick.costs.machine import machine_notes, resident_bytes
from handpick.data.render import Rendered
from handpick.errors import HandpickError
from handpick.model import compute_dtype
from handpick.objectives.next_token import NextToken
from handpick.planning.evaluation_costs import (
    EvaluationPass,
    EvaluationProbe,
    evaluation_stage,
    passes_of,
    predicted_bytes,
)
from handpick.planning.finetuning_costs import FinetuningProbe, SampledFinetunings, probe_finetuning
from handpick.planning.select import plan_select
from handpick.settings.executor import LOCAL
from handpick.studies.cells import CellKey
from handpick.studies.choosing import PlannedSelection, budget_of
from handpick.studies.listing import ListedStep
from handpick.studies.opened import Model
from handpick.studies.run import Study
from handpick.studies.settings import StudySettings
from handpick.studies.steps import step_name
from handpick.studies.trained import single_thread

_LOOKED_AT = 2_000  # examples of the fine-tunings of one size that are tokenised
# stages of a selection whose result lies in a folder that others of the same inputs find
SHARED_STAGES = (StageKind.WARMUP, StageKind.POOL, StageKind.COVARIANCE, StageKind.LANDMARKS)


def plan_study(settings: StudySettings, seconds: float = 10.0) -> Plan:
    """Plan what ``handpick study`` will take from where it stands.

    Opens and parses all data (the study finds it parsed) and computes some of what the study will compute, for about
    ``seconds``, besides loading models.

    Raises:
        SettingsError: the recipe packs, or trains all weights, which is not planned.
        HandpickError: the pool cannot be read.
    """
    return _StudyPlanner(settings, seconds).plan()


class _StudyPlanner:
    def __init__(self, settings: StudySettings, seconds: float) -> None:
        began = probe.clock()
        self.study = Study(settings)
        self.listed = self.study.list_steps()
        self.settings = settings
        self.read = StageCost(
            "read and parse",
            len(self.study.opened.pool),
            memory=resident_bytes(),
            seconds=Amount.exactly(0.0),
            there=True,
            note=f"done by this plan in {probe.clock() - began:.1f} s",
        )
        self.choices = self._choices()
        self.seconds = seconds / max(1, len(self.choices) + 2 * len(self.study.opened.models))

    def plan(self) -> Plan:
        stages = [self.read, *self._selections()]
        for model in self.study.opened.models.values():
            with single_thread():
                stages += self._model(model)
        done = Counter(step.kind for step in self.listed if step.done)
        there = ", ".join(f"{n:,} × {kind}" for kind, n in done.items()) or "nothing"
        notes = [f"there already, and left out: {there}"]
        if reasons := self.study.opened.reasons:
            notes.append(f"{len(reasons):,} cells cannot be done; the first: {next(iter(reasons.values()))}")
        if self.settings.engine != LOCAL:
            notes.append(
                f"time and memory are those of one process here; --engine {self.settings.engine} shares cells out"
            )
        dtypes = [compute_dtype(model.recipe.dtype) for model in self.study.opened.models.values()]
        return Plan("study", stages, notes + (machine_notes(dtypes[0]) if dtypes else []), [])

    # selections

    def _choices(self) -> dict[tuple[str, str], list[PlannedSelection]]:
        """Return the choices to be made, by model and method."""
        found: dict[tuple[str, str], list[PlannedSelection]] = defaultdict(list)
        for step in self.listed:
            if step.kind in ("selection", "order") and not step.done:
                choice = self.study.chosen.choice(step.places[0])
                if choice is not None:
                    found[step.places[0].model, step.places[0].method].append(choice)
        return found

    def _selections(self) -> list[StageCost]:
        found: list[StageCost] = []
        planned: set[tuple[str, str]] = set()  # features and warmups
        for (model, method), choices in self.choices.items():
            name = self._stage_name(f"selections by {method}", model)
            if choices[0].given is not None:
                n = sum(choice.budget or 0 for choice in choices)
                found.append(StageCost(name, n, seconds=Amount.exactly(0.0), note="made elsewhere"))
                continue
            try:
                found.append(self._selection(name, choices, planned))
            except HandpickError as error:
                found.append(StageCost(name, note=f"cannot be planned: {error}"))
        return found

    def _selection(self, name: str, choices: Sequence[PlannedSelection], planned: set[tuple[str, str]]) -> StageCost:
        """Plan one choice as ``handpick select`` would be; the others differ in their queries."""
        first = choices[0]
        assert first.settings is not None  # it was not given
        settings = first.settings
        warmup = None if first.warmup is None else step_name("warmup", first.warmup)
        if warmup is not None and self.study.opened.steps.read_record(warmup) is not None:
            settings = self.study.chosen.chooser.prepare_settings(first)
        plan = plan_select(settings.model_copy(update={"budget": budget_of(first)}), self.seconds)
        stages: list[StageCost] = []
        bound = any(scorer.bound_to_queries for scorer in settings.scorers)
        per_query = bound or settings.score_only  # a pass over the pool each
        for stage in plan.stages[1:]:
            if stage.kind not in SHARED_STAGES or (per_query and stage.kind != StageKind.WARMUP):
                stages.append(_multiply_stage(stage, len(choices)))
            elif not stage.there and (stage.name, stage.inputs) not in planned:
                planned.add((stage.name, stage.inputs))
                stages.append(stage)
        said = [f"{each.name} {each.seconds.value:,.1f} s" for each in stages if each.seconds is not None]
        total = Plan("select", stages, [], []).total
        return replace(
            total, name=name, examples=stages[-1].examples, note=f"{len(choices)} to make: {', '.join(said)}"
        )

    # fine-tunings and evaluations

    def _model(self, model: Model) -> list[StageCost]:
        """Plan what is left of one model."""
        sampled = self._sample_finetunings(model, [s for s in self.listed if s.kind == "training" and not s.done])
        counts = self._evaluations(model)
        if not sampled and not counts:
            return []
        some = [s for each in sampled for own in each.examples for s in own]
        if not some:
            some = self._prepare_sequences(model, self._draw_ids(model, 64))
        found = probe_finetuning(model, some, self.seconds)
        kept, workers = self.settings.keep == "models", self.settings.at_once
        stages = []
        for each in sampled:
            name = self._stage_name(f"fine-tuning on {each.n:,}", model.name)
            looked = "" if each.share == 1 else f"{100 * each.share:.0f}% of their examples looked at"
            stages.append(found.stage(name, each, workers, kept=kept, note=looked))
        return stages + self._evaluation_stages(model, found, counts)

    def _sample_finetunings(self, model: Model, steps: Sequence[ListedStep]) -> list[SampledFinetunings]:
        """Return the fine-tunings to do, by how many examples they have.

        What is not chosen yet is drawn from the pool.
        """
        by_size: dict[int, list[list[str] | None]] = defaultdict(list)
        for step in steps:
            place = step.places[0]
            if place.model == model.name:
                ids = self.study.chosen.ids(place)
                n = place.budget if ids is None else len(ids)
                if n is not None:
                    by_size[n].append(ids)
        rng = np.random.default_rng(0)
        found = []
        for n, every in sorted(by_size.items()):
            part = min(n, _LOOKED_AT)
            some = [every[i] for i in rng.permutation(len(every))[: max(1, _LOOKED_AT // n)].tolist()]
            drawn = [self._draw_ids(model, part) if own is None else _sample_ids(own, part, rng) for own in some]
            found.append(
                SampledFinetunings(n, len(every), [self._prepare_sequences(model, ids) for ids in drawn], part / n)
            )
        return found

    def _draw_ids(self, model: Model, n: int) -> list[str]:
        unusable = self.study.opened.unusable(model.name)
        usable = [example_id for example_id in self.study.opened.pool.ids() if example_id not in unusable]
        return _sample_ids(usable, min(n, len(usable)), np.random.default_rng(n))

    def _prepare_sequences(self, model: Model, ids: Sequence[str]) -> list[Rendered]:
        pool, row_of = self.study.opened.pool, self.study.opened.row_of
        return NextToken(model.renderer, model.recipe.max_length).prepare([pool[row_of[each]] for each in ids]).items

    def _evaluations(self, model: Model) -> dict[tuple[str, str], int]:
        """Return how many evaluations are left, by target and part: test, or dev."""
        left: dict[tuple[str, str], set[object]] = defaultdict(set)
        trainings, chosen, steps = self.study.trainings, self.study.chosen, self.study.opened.steps
        for place in self.study.opened.places:
            if place.model != model.name or place in self.study.opened.reasons:
                continue
            name = trainings.name(place)
            if name is not None:
                for part, step in trainings.evaluations(place, name).items():
                    if steps.read_record(step) is None:
                        left[place.target, part].add(step)
            else:
                for part in self._parts(place):
                    left[place.target, part].add((chosen.subset(place), place.seed))
        return {key: len(own) for key, own in left.items()}

    def _parts(self, place: CellKey) -> list[str]:
        return ["test"] if self.study.opened.targets[place.target].dev is None else ["test", "dev"]

    def _evaluation_stages(
        self, model: Model, found: FinetuningProbe, counts: dict[tuple[str, str], int]
    ) -> list[StageCost]:
        parts: dict[tuple[str, str], list[EvaluationPass]] = {}
        for target, what in counts:
            opened = self.study.opened.targets[target]
            task = opened.test if what == "test" else opened.dev
            if task is not None:
                parts[target, what] = passes_of(task, model.renderer, model.recipe.max_length)
        every = [part for own in parts.values() for part in own]
        probed = EvaluationProbe(found.model, model.renderer, every, self.seconds)
        stages = []
        for (target, what), own in parts.items():
            n = counts[target, what]
            at_once, opened = min(self.settings.at_once, n), self.study.opened.targets[target]
            task = opened.test if what == "test" or opened.dev is None else opened.dev
            for part in own:
                seconds = probed.seconds(part)
                note = f"{n:,} × {seconds.value:,.2f} s" + (f", {at_once} at a time" if at_once > 1 else "")
                name = f"{part.what}, {target}" + ("" if what == "test" else ", queries")
                stages.append(
                    evaluation_stage(
                        self._stage_name(name, model.name),
                        part,
                        found.training.shape,
                        seconds.times(n / at_once),
                        times=n,
                        disk=predicted_bytes(task) if part is own[0] else 0,
                        memory=resident_bytes() * at_once,
                        note=note,
                    )
                )
        return stages

    def _stage_name(self, what: str, model: str) -> str:
        return what if len(self.settings.models) == 1 else f"{what}, {model}"


def _sample_ids(ids: Sequence[str], n: int, rng: np.random.Generator) -> list[str]:
    return list(ids) if n >= len(ids) else [ids[i] for i in sorted(rng.choice(len(ids), n, replace=False).tolist())]


def _multiply_stage(stage: StageCost, n: int) -> StageCost:
    """Multiply a stage by so many targets."""
    return replace(
        stage,
        examples=None if stage.examples is None else stage.examples * n,
        tokens=None if stage.tokens is None else stage.tokens.times(n),
        flops=None if stage.flops is None else stage.flops * n,
        disk=stage.disk * n,
        seconds=None if stage.seconds is None else stage.seconds.times(n),
    )
