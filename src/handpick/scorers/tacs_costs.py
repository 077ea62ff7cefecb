"""What the stages of TACS will take: the calibration, the paths, two losses a candidate and path.

The probe is a step of a path, a batch of gradients, and a batch of losses. A path's depth is not known before the
calibration: its line is that of the deepest, and says so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from handpick.costs import probe as clocks
from handpick.costs.cost import Amount, Extent, StageCost, StageKind, Work
from handpick.costs.disk import adapter_bytes, checkpoint_bytes, count_shards
from handpick.costs.flops import Shape
from handpick.costs.machine import resident_bytes
from handpick.costs.probe import Probing, Size, TimedBatches, time_batches
from handpick.costs.tokens import PoolSample, sample_pool
from handpick.costs.training import TrainingProbe, probe_training, size_of, weight_bytes
from handpick.data.render import Rendered
from handpick.errors import DataError
from handpick.layout import StoreLayout
from handpick.model import compute_dtype, padding_id
from handpick.scorers.engine_probe import batches_of
from handpick.scorers.tacs_calibration import FOLDS, MOST, Calibration, Course
from handpick.scorers.tacs_path import endpoints, is_there
from handpick.scorers.tacs_targets import QueryGroup, n_clusters
from handpick.store import FeatureStore

if TYPE_CHECKING:
    from handpick.scorers.tacs import Tacs


@dataclass(frozen=True)
class PathProbe:
    """What a step of a path, a batch of gradients and a batch of losses were found to take."""

    step: TrainingProbe
    gradients: TimedBatches
    losses: TimedBatches
    load_seconds: float
    held: int

    @property
    def shape(self) -> Shape:
        """The model's, with the adapter."""
        return self.step.shape

    def learn(self, sequences: Sequence[Rendered], passes: int) -> tuple[int, float, Amount]:
        """Return the tokens, operations and seconds of learning sequences, a step each, so many times."""
        lengths = [len(each.input_ids) for each in sequences]
        flops = self.shape.gradient(lengths, sum(lengths))  # the trainer's logits stand at every position
        sizes = [size_of([each]) for each in sequences]
        seconds = self.step.seconds(sizes, passes * len(sequences), passes)
        return passes * sum(lengths), passes * flops, seconds


class TacsCosts:
    """Prices the stages.

    Args:
        scorer: as the run uses it.
    """

    def __init__(self, scorer: Tacs) -> None:
        self._scorer = scorer
        self._settings = scorer.settings
        self._before = resident_bytes()
        self._found: PathProbe | None = None
        self._said_loading = False

    @cached_property
    def looked(self) -> PoolSample:
        """The pool's records, or some of them, as they are rendered.

        Raises:
            DataError: none of them can be used.
        """
        settings, pool = self._settings, self._scorer.pool.pool
        found = sample_pool(pool, self._scorer.objective, shard_rows=settings.shard_rows, seed=settings.seed)
        if not found.items:
            raise DataError(f"none of the {found.n_looked:,} records looked at leaves a response to learn from")
        return found

    @cached_property
    def targets(self) -> list[QueryGroup]:
        """The targets; clusters, which a plan does not find out, as if they were of one size."""
        scorer, number = self._scorer, n_clusters(self._settings)
        if number is None or self._are_known:
            return scorer.targets
        parts = np.array_split(np.arange(len(scorer.queries.ids)), number)
        return scorer.queries.grouped([str(place) for place, part in enumerate(parts) for _ in part])

    @property
    def _are_known(self) -> bool:
        """Whether the targets are those of the run, and not clusters that are to be found out."""
        return n_clusters(self._settings) is None or self._scorer.clusters_record.exists()

    @cached_property
    def _calibrations(self) -> list[Calibration]:
        return [] if self._scorer.grid.only else self._scorer.calibrations(self.targets)

    @cached_property
    def _courses(self) -> list[Course] | None:
        """The courses, where they are known without any calibration that is left to do."""
        if self._scorer.grid.only is not None:
            return [self._scorer.grid.only] * len(self.targets)
        if not self._are_known or any(each.missing() for each in self._calibrations):
            return None
        return [each.best()[0] for each in self._calibrations]

    def calibration(self, probing: Probing) -> Work:
        """Return what is left of the calibration: paths without each fold, three gradients at every depth."""
        if self._courses is not None:
            return Work([StageCost.left(StageKind.CALIBRATION)])
        probe, longest = self._probe(probing), max(self._scorer.grid.depths)
        tokens, flops, seconds = 0, 0.0, Amount.exactly(self._loading(probe))
        examples = 0
        for target, calibration in zip(self.targets, self._calibrations, strict=True):
            for fold, _, depths in calibration.missing():
                learnt, held = ([target.sequences[i] for i in own] for own in calibration.folds[fold])
                n_tokens, n_flops, took = probe.learn(learnt, longest)
                asked = [*learnt[:MOST], *held[:MOST], *self._scorer.reference]
                lengths = [len(each.input_ids) for each in asked]
                examples += longest * len(learnt) + len(depths) * len(asked)
                tokens += n_tokens + len(depths) * sum(lengths)
                flops += n_flops + len(depths) * probe.shape.gradient(lengths, sum(each.n_labels for each in asked))
                sizes = [size_of(batch) for batch in batches_of(self._settings, [asked])]
                seconds = seconds.plus(took).plus(probe.gradients.estimate(sizes, len(depths)))
        rates, depths_of = len(self._scorer.grid.rates), self._scorer.grid.depths
        line = StageCost(
            StageKind.CALIBRATION.value,
            examples,
            Amount.exactly(tokens),
            flops,
            0,
            probe.held,
            seconds,
            f"{FOLDS} folds × {rates} rates, depths {', '.join(map(str, depths_of))} passes over the queries",
            kind=StageKind.CALIBRATION,
        )
        cheaper = f"--tacs-rate and --tacs-depth, where they are known, save the calibration ({seconds.value:,.0f} s)"
        return Work([line], cheaper=[cheaper])

    def paths(self, probing: Probing) -> Work:
        """Return what is left of the paths."""
        scorer, known = self._scorer, self._courses
        deepest = max(scorer.grid.depths)
        courses = known or [Course(scorer.grid.rates[0], deepest)] * len(self.targets)
        missing = [
            (target, course)
            for target, course in zip(self.targets, courses, strict=True)
            if known is None or not is_there(scorer.path_of(target, course)[0], course.depth)
        ]
        if not missing:
            return Work([StageCost.left(StageKind.PATH)])
        probe = self._probe(probing)
        tokens, flops, seconds, examples = 0, 0.0, Amount.exactly(self._loading(probe)), 0
        for target, course in missing:
            n_tokens, n_flops, took = probe.learn(target.sequences, course.depth)
            tokens, flops, seconds = tokens + n_tokens, flops + n_flops, seconds.plus(took)
            examples += course.depth * len(target.sequences)
        at_most = "" if known else f"at most: {deepest} passes; the calibration decides"
        if known is None:  # the shallowest takes as much less
            seconds = replace(seconds, low=seconds.low * min(scorer.grid.depths) / deepest)
        line = StageCost(
            StageKind.PATH.value,
            examples,
            Amount.exactly(tokens),
            flops,
            2 * len(missing) * adapter_bytes(probe.step.n_trained, adam=True),
            probe.held,
            seconds,
            at_most,
            kind=StageKind.PATH,
        )
        return Work([line])

    def pool(self, probing: Probing) -> Work:
        """Return what is left of the pool's losses: two passes that only read, a path."""
        scorer, settings, looked = self._scorer, self._settings, self.looked
        pool, n_paths = scorer.pool.pool, len(self.targets)
        extent = Extent(looked.usable, 0, 1, n_paths)
        missing = self._missing_rows()
        if not missing:
            return Work([StageCost.left(StageKind.POOL)], [looked.describe()], extent=extent)
        probe, share, passes = self._probe(probing), missing / len(pool), 2 * n_paths
        sequences: list[Rendered] = looked.items
        flops = looked.total([probe.shape.read([len(each.input_ids)], each.n_labels) for each in sequences])
        sizes = [size_of(batch) for batch in batches_of(self._settings, looked.shards)]
        seconds = probe.losses.estimate(sizes, looked.scale * share * passes)
        disk = checkpoint_bytes(
            pool.files, pool.ids(), looked.usable, dim=passes, storage="float32", shard_rows=settings.shard_rows
        )
        line = StageCost(
            StageKind.POOL.value,
            round(looked.usable * share),
            looked.total([len(each.input_ids) for each in sequences]).times(share * passes),
            flops.value * share * passes,
            round(disk * share),
            probe.held,
            seconds.plus(looked.seconds * looked.n_records * share + self._loading(probe)),
            f"{passes} losses an example" + ("" if share == 1 else f"; {len(pool) - missing:,} rows are there already"),
            shards=math.ceil(count_shards(pool.files, settings.shard_rows) * share),
            kind=StageKind.POOL,
        )
        return Work([line], [looked.describe()], extent=extent)

    def _missing_rows(self) -> int:
        """Return how many rows of the pool are still to be made."""
        scorer, pool = self._scorer, self._scorer.pool.pool
        known = self._courses
        if known is None or not self._are_known:
            return len(pool)
        folders = [scorer.path_of(target, course)[0] for target, course in zip(self.targets, known, strict=True)]
        found = list(zip(folders, known, strict=True))
        if not all(is_there(folder, course.depth) for folder, course in found):
            return len(pool)
        path = scorer.store_path([path for folder, course in found for path in endpoints(folder, course.depth)])
        if not StoreLayout(path).manifest.exists():
            return len(pool)
        store = FeatureStore.open(path, allow_incomplete=True)
        new = len(pool) - sum(file.rows for file in store.manifest.files)
        return new + sum(shard.stop - shard.start for shard in store.missing(0))

    def _loading(self, probe: PathProbe) -> float:
        """Return the seconds that loading takes, once a plan."""
        seconds = 0.0 if self._said_loading else probe.load_seconds
        self._said_loading = True
        return seconds

    def _probe(self, probing: Probing) -> PathProbe:
        if self._found is None:
            scorer, settings, looked = self._scorer, self._settings, self.looked
            began = clocks.clock()
            model = scorer.model()
            load_seconds = clocks.clock() - began
            queries = [[each] for each in scorer.queries.sequences]
            step = probe_training(
                model.model,
                queries,
                pad_id=padding_id(scorer.renderer.tokenizer),
                dtype=compute_dtype(settings.dtype),
                recompute=settings.gradient_checkpointing,
                seconds=probing.seconds * 0.25,
            )
            batches = batches_of(self._settings, looked.shards)

            def size(batch: Sequence[Rendered]) -> Size:
                return size_of(batch)

            gradients = time_batches(lambda batch: model.mean_gradients([batch]), batches, size, probing.seconds * 0.25)
            losses = time_batches(model.losses, batches, size, probing.seconds * 0.3)
            held = round(self._before + weight_bytes(model.model) + step.held)
            self._found = PathProbe(step, gradients, losses, load_seconds, max(held, resident_bytes()))
        return self._found
