"""A cascade: a cheap representation ranks the whole pool, the method's own looks at what that leaves (cut.py). Ours.

The last stage is the method's own representation on a part of the pool, in a folder of its own; what is trained first
is trained on the whole pool, so that its rows are those of a run without a prefilter. Several prefilters are a cascade
that ends in the last of them. Some of those that were left out, drawn at random, are scored as well, so that it can be
told what was missed (``pipeline/missed.py``).

Shapes: N candidates of the whole pool, C columns asked for.
"""

from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handpick.algorithms.matrix import Matrix
from handpick.budget import Budget
from handpick.costs import probe as clocks
from handpick.costs.cost import Amount, Extent, StageCost, StageKind, Work
from handpick.costs.machine import resident_bytes
from handpick.costs.probe import Probing
from handpick.costs.similarity import similarity_seconds
from handpick.errors import DataError, SettingsError
from handpick.executors import Executor
from handpick.fingerprint import Fingerprint, digest
from handpick.layout import RunLayout
from handpick.model import free_memory
from handpick.objectives.settings import ObjectiveSettings
from handpick.progress import log
from handpick.random_streams import generator
from handpick.scorers.cut import Cut, best_columns, list_depths, read_cut, write_cut
from handpick.scorers.finished_run import Columns, FinishedRun, Reopened
from handpick.scorers.inputs import ChoiceLimits, Inputs, part_of
from handpick.scorers.scorer import Scorer, open_scorer, reopen_scorer
from handpick.scorers.scoring_problem import Prefiltered, Remark, ScoringProblem, fits_in_memory
from handpick.scorers.stages import Stage
from handpick.settings import Settings
from handpick.store.codec import Floats
from handpick.store.manifest import contents_of

_COLUMNS = 20_000  # that a plan's cut is timed on
_PASSES = 5  # over a similarity that is computed as it is read: the lists, and how deep they go

Rows = NDArray[np.int64]


class Cascade(Scorer):
    """Scores what the prefilters leave of a pool."""

    def __init__(self, inputs: Inputs) -> None:
        super().__init__(inputs)
        self._limits = ChoiceLimits()
        self._standing_in: Scorer | None = None  # for what is left, in a plan

    @cached_property
    def first(self) -> Scorer:
        """What ranks the whole pool, or what other prefilters left of it."""
        return open_scorer(_with_settings(self.inputs, self.settings.prefiltering))

    @cached_property
    def whole(self) -> Scorer:
        """The method's own, as it would be without prefilters."""
        return open_scorer(_with_settings(self.inputs, self.settings.last_stage))

    @cached_property
    def last(self) -> Scorer:
        """The same on what is left, and on what is checked."""
        changed = self.whole.settings_of_part()
        folder = self.cut.folder_in(RunLayout(self.settings.folder)).folder
        return open_scorer(part_of(self.whole.inputs, self.cut.rows.tolist(), folder, **changed))

    def preflight(self) -> None:
        """Refuse what one of the stages would, and a budget that is more than the last has."""
        n_pool, budget = len(self.pool.pool), Budget.parse(self.settings.budget)
        n_left = self.settings.count_left(n_pool)
        if budget.kind != "tokens" and (needed := budget.examples_needed(n_pool)) > n_left:
            raise SettingsError(
                f"the budget is {needed:,} examples and the prefilter leaves {n_left:,} of the pool's {n_pool:,}: give "
                f"{n_left:,} at most, or a larger --prefilter-share"
            )
        self.first.preflight()
        self.whole.preflight()
        try:
            self.whole.check_count(min(n_left + self._n_checked, n_pool))
        except SettingsError as error:
            raise SettingsError(f"of what the prefilter leaves nothing can be made: {error}") from error

    def constrain(self, limits: ChoiceLimits) -> None:
        """Keep to them where the pool is cut."""
        self._limits = limits
        self.first.constrain(replace(limits, check=ChoiceLimits().check))

    def stages(self) -> list[Stage]:
        """Return those that rank, the cut, and those that score what is left; the warmup is the whole pool's."""
        return self._stages

    @cached_property
    def _stages(self) -> list[Stage]:
        stages: list[Stage] = []
        warmups: list[str] = []  # of which a prefilter may have had the same
        for place, stage in enumerate(self.first.stages()):
            stages.append(self._ranking_stage(place, stage.kind))
            if stage.kind == StageKind.WARMUP:
                warmups.append(digest(stage.inputs()))
        stages.append(Stage(StageKind.CUT, self.cut_inputs, self._cut_work, self._make_cut))
        for place, stage in enumerate(self.whole.stages()):
            if stage.kind != StageKind.WARMUP:
                stages.append(self._scoring_stage(place))
            elif digest(stage.inputs()) not in warmups:
                stages.append(replace(stage, work=partial(self._warmup_work, stage)))
        return stages

    def _ranking_stage(self, place: int, kind: StageKind) -> Stage:
        """Return a stage of ``first``, which is let go when it has ranked: the stage does not hold it."""
        return Stage(
            kind,
            partial(self._ranking_inputs, place),
            partial(self._ranking_work, place),
            partial(self._rank, place),
        )

    def _ranking_inputs(self, place: int) -> Fingerprint:
        return self.first.stages()[place].inputs()

    def _rank(self, place: int, executor: Executor) -> None:
        self.first.stages()[place].run(executor)

    def _scoring_stage(self, place: int) -> Stage:
        """Return a stage of ``last``, which is not known before the pool is cut."""
        own = self.whole.stages()[place]
        return Stage(
            own.kind,
            lambda: {"prefilter": self.cut_inputs(), "of": own.inputs()},
            partial(self._scoring_work, place),
            partial(self._score, place),
        )

    def _score(self, place: int, executor: Executor) -> None:
        self.last.stages()[place].run(executor)

    # the cut

    @cached_property
    def _ranked(self) -> ScoringProblem:
        """The candidates as ``first`` ranks them.

        Raises:
            DataError: there is none, or one that is chosen always is not among them.
        """
        limits, problem = self._limits, self.first.problem()
        problem = problem.drop_rows(limits.left_out) if limits.left_out else problem
        if not len(problem.rows):
            raise DataError("the prefilter can rank no candidate that is to be chosen from: name a larger pool")
        if missing := np.setdiff1d(np.array(limits.always, dtype=np.int64), problem.rows).tolist():
            raise DataError(
                f"{len(missing)} ids of {self.settings.always} cannot be ranked by the prefilter "
                f"{self.settings.prefilter[-1]}, the first {self.pool.pool[missing[0]].id!r}: take them out, or choose "
                "another --prefilter"
            )
        return problem

    @cached_property
    def candidates(self) -> Rows:
        """The rows that there are to choose from before any prefilter, ascending."""
        rows, first = self._ranked.rows, self.first
        if not isinstance(first, Cascade):
            return rows
        return np.union1d(np.setdiff1d(first.candidates, first.cut.left), rows)  # but for what could not be used

    @cached_property
    def _remarks(self) -> tuple[Remark, ...]:
        """What the prefilters say of their own ranking."""
        first, name = self.first, self.settings.prefilter[-1]
        before = first._remarks if isinstance(first, Cascade) else ()
        own = self._ranked.remarks[len(before) :]
        return (*before, *(replace(each, name=f"{name}: {each.name}") for each in own))

    @cached_property
    def cut(self) -> Cut:
        """What is left, and what is checked; made once, and found again by what it is made from."""
        made_from = self._own_settings() | {
            "ranked": self._ranked.fingerprints,
            "left": self._n_left,
            "checked": self._n_checked,
            "seed": self.settings.seed,
            "left out": digest(sorted(self._limits.left_out)),
            "always": digest(sorted(self._limits.always)),
        }
        folder = RunLayout(self.settings.folder).cut(digest(made_from))
        there = read_cut(folder)
        if there is None:
            there = self._cut_candidates(made_from)
            write_cut(there, folder)
        return there

    def _cut_candidates(self, made_from: Fingerprint) -> Cut:
        problem, pool = self._ranked, self.pool.pool
        best = best_columns(problem.similarity, min(self._n_left, len(problem.rows)))
        left = np.union1d(problem.rows[best], np.array(sorted(self._limits.always), dtype=np.int64))
        depth_Q = list_depths(problem.similarity, np.isin(problem.rows, left))
        others = np.setdiff1d(self.candidates, left)
        drawn = generator(self.settings.seed, "checked after a prefilter").permutation(len(others))
        checked = np.sort(others[drawn[: self._n_checked]])
        ids = [each.id for each in pool.take(checked.tolist())]
        return Cut(left, checked, ids, dict(zip(problem.query_ids or [""], depth_Q.tolist(), strict=True)), made_from)

    @property
    def _n_left(self) -> int:
        return self.settings.count_left(len(self.pool.pool))

    @property
    def _n_checked(self) -> int:
        """How many are checked, if there are as many: none where nothing is scored."""
        return 0 if self.settings.scorer.output == "nothing" else self.settings.count_checked(len(self.pool.pool))

    def _make_cut(self, executor: Executor) -> None:
        """Cut the pool, refuse what cannot be chosen from, and let go of what has ranked it."""
        cut, name = self.cut, self.settings.prefilter[-1]
        shallow, deep = min(cut.depths.values()), max(cut.depths.values())
        lists = f"the best {shallow:,}" if shallow == deep else f"each query's best {shallow:,} to {deep:,}"
        log(f"prefilter {name}: {len(cut.left):,} of {len(self.candidates):,} examples are left, {lists} among them")
        if len(cut.checked):
            log(f"{len(cut.checked):,} of the others are looked at too, to tell what was missed")
        if self.settings.scorer.looks_at_pool:
            log(f"{self.settings.used_representation} compares with the pool as a whole, which here are these alone")
        try:
            self._limits.check(cut.left, len(self.candidates))
        except SettingsError as error:
            raise SettingsError(f"of what the prefilter {name} leaves nothing can be chosen: {error}") from error
        _ = self.candidates, self._remarks
        for held in ("_ranked", "first"):
            self.__dict__.pop(held, None)
        free_memory()

    def _own_settings(self) -> Fingerprint:
        """Return what the last prefilter reads that its rows do not tell."""
        first = self.settings.prefiltering
        told = first.scorer.rows | {*ObjectiveSettings.model_fields, "checkpoints", "score_only"}
        return {
            "representation": first.used_representation.partition(":")[0],
            "settings": first.model_dump(mode="json", include=set(first.scorer.reads - told)),
        }

    def cut_inputs(self) -> Fingerprint:
        """Return what the cut depends on, known before anything is ranked."""
        own: Fingerprint = {"left": self._n_left, "checked": self._n_checked}
        return self._own_settings() | own | {"ranked": [stage.inputs() for stage in self.first.stages()]}

    # what is left

    def problem(self) -> ScoringProblem:
        """Return the problem of what is left, in rows of the whole pool."""
        cut, part = self.cut, self.last.problem()
        rows_N = cut.rows[part.rows]
        left_N = np.isin(rows_N, cut.left)
        if not left_N.any():
            raise DataError(
                f"none of the {len(cut.left):,} examples that the prefilter leaves can be used: choose another "
                "--prefilter, or give a larger --prefilter-share"
            )
        wider = replace(part, rows=rows_N, fingerprints=self._fingerprints(part))
        unusable = len(cut.left) - int(np.count_nonzero(left_N))
        n_candidates = len(self.candidates)
        found = Prefiltered(n_candidates - unusable, n_candidates - len(cut.left), cut.checked, cut.depths, wider)
        remarks = (*self._remarks, *part.remarks)
        return replace(wider.drop_rows(cut.checked.tolist()), prefiltered=found, remarks=remarks)

    def _fingerprints(self, part: ScoringProblem) -> Fingerprint:
        """Return what the choice is made from: as without prefilters, with the whole pool's files, and the cut."""
        whole: Fingerprint = {"files": contents_of(self.pool.pool.files)}
        parts: Any = part.fingerprints
        cut: Fingerprint = {
            "cut": digest(self.cut.made_from),
            "made_from": self.cut.made_from,
            "files": parts["pool"]["files"],
        }
        found: Fingerprint = parts | {"pool": parts["pool"] | whole, "prefilter": cut}
        return found

    @classmethod
    def reopen(cls, run: FinishedRun) -> Reopened | str:
        """Return what the last stage has left, of the candidates that the prefilters left."""
        opened = cls.open_part(run)
        if isinstance(opened, str):
            return opened
        part, cut = opened
        found = reopen_scorer(part)
        if isinstance(found, str):
            return found
        checked = set(cut.checked_ids)
        columns = {example_id: column for example_id, column in found.column_of.items() if example_id not in checked}
        what = f"{found.what}, of what {' and '.join(run.settings.prefilter)} left"
        left = _SomeColumns(found.similarity, np.array(list(columns.values()), dtype=np.int64))
        return Reopened(what, left, {example_id: column for column, example_id in enumerate(columns)})

    @classmethod
    def open_part(cls, run: FinishedRun) -> tuple[FinishedRun, Cut] | str:
        """Return a finished run's last stage, as a run on what the prefilters left, or why it cannot be had."""
        own = run.fingerprints["prefilter"]
        folder = RunLayout(run.folder).cut(own["cut"])
        cut = read_cut(folder)
        if cut is None:
            return "what the prefilter left is not in the folder any more"
        part = replace(
            run,
            folder=folder.folder,
            settings=run.settings.last_stage.model_copy(update={"out": str(folder.folder)}),
            fingerprints=run.fingerprints | {"pool": run.fingerprints["pool"] | {"files": own["files"]}},
            pool=None if run.pool is None else run.pool.part(cut.rows.tolist()),
        )
        return part, cut

    # what it costs

    def _ranking_work(self, place: int, probing: Probing) -> Work:
        work = self.first.stages()[place].work(_half(probing))
        if isinstance(self.first, Cascade):  # whose own lines are named
            return work
        return _name_work(work, self.settings.prefilter[-1])

    def _cut_work(self, probing: Probing) -> Work:
        """Return what the lists take, made of numbers drawn at random, and the similarity that they are made from."""
        n_pool = len(self.pool.pool)
        extent = self._extent(probing)
        n, some = extent.candidates, min(extent.candidates, _COLUMNS)
        random = np.random.default_rng(0).standard_normal((extent.queries, some), dtype=np.float32)
        similarity, n_left = Matrix(random), max(1, self._n_left * some // n_pool)
        began = clocks.clock()
        list_depths(similarity, np.isin(np.arange(some), best_columns(similarity, n_left)))
        seconds, flops = (clocks.clock() - began) * n / some, 0.0
        if extent.dim:
            passes = 1 if fits_in_memory((extent.queries, n)) else _PASSES
            each = similarity_seconds(self.settings.storage, extent.queries, extent.dim)
            seconds += passes * each * n * extent.checkpoints
            flops = passes * 2.0 * extent.queries * n * extent.dim * extent.checkpoints
        left = min(self._n_left, n)
        scored = min(left + self._n_checked, n)
        line = StageCost(
            StageKind.CUT.value,
            left,
            None,
            flops or None,
            disk=8 * scored,
            memory=resident_bytes(),
            seconds=Amount.exactly(seconds),
            note=f"{self.settings.prefilter[-1]} leaves {left:,} of {n:,}; {scored - left:,} of the others are checked",
            kind=StageKind.CUT,
        )
        return Work([line], extent=Extent(scored, 0, 1, 1))

    def _extent(self, probing: Probing) -> Extent:
        """Return what is cut, as the stages that rank it were priced."""
        priced = [probing.priced.get((stage.kind, digest(stage.inputs()))) for stage in self.first.stages()]
        extents = [work.extent for work in priced if work is not None and work.extent is not None]
        return extents[-1] if extents else Extent(len(self.pool.pool), 0, 1, 1)

    def _warmup_work(self, stage: Stage, probing: Probing) -> Work:
        return stage.work(_half(probing))

    def _scoring_work(self, place: int, probing: Probing) -> Work:
        probing = _half(probing)
        work = self._stand_in(probing).stages()[place].work(probing)
        named = _name_work(work, self.settings.used_representation)
        note = "of as many examples as will be left, drawn at random: which ones nobody knows yet"
        lines = [
            replace(line, kind=StageKind.LEFT, note=line.note or note)
            if line.kind in (StageKind.POOL, StageKind.COVARIANCE)  # no other choice shares it
            else line
            for line in named.lines
        ]
        return replace(named, lines=lines)

    def _stand_in(self, probing: Probing) -> Scorer:
        """Return the last stage on as many candidates as it will have, drawn at random."""
        if self._standing_in is None:
            n_pool = len(self.pool.pool)
            n = min(self._n_left + self._n_checked, n_pool)
            rows = np.sort(generator(self.settings.seed, "in place of what a prefilter leaves").permutation(n_pool)[:n])
            scorer = open_scorer(part_of(self.whole.inputs, rows.tolist(), probing.scratch / digest(n)))
            self.whole.lend_warmup(scorer, probing)
            self._standing_in = scorer
        return self._standing_in


class _SomeColumns:
    """Some columns of similarities, numbered anew."""

    def __init__(self, whole: Columns, columns_N: Rows) -> None:
        self._whole = whole
        self._columns_N = columns_N

    def columns(self, columns_C: Rows) -> Floats:
        """Return those of some candidates, (Q, C)."""
        return self._whole.columns(self._columns_N[columns_C])


def _with_settings(inputs: Inputs, settings: Settings) -> Inputs:
    """Return a run with other settings, and of the queries and the model no more than these need."""
    query = inputs.query if "query" in settings.needs else None
    counts = settings.needs & {"model", "tokenizer"}
    return replace(inputs, settings=settings, query=query, renderer=inputs.renderer if counts else None)


def _half(probing: Probing) -> Probing:
    """Return half of the time for either stage; what one finds out the other need not."""
    return replace(probing, seconds=probing.seconds / 2)


def _name_work(work: Work, representation: str) -> Work:
    """Say which representation a plan's lines are of."""
    lines = [replace(line, name=f"{representation}: {line.name}") for line in work.lines]
    return replace(work, lines=lines, cheaper=[f"of {representation}, {each}" for each in work.cheaper])
