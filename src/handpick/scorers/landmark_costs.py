"""What the stages of landmarks will take: gradients of some of the pool, the ridge, what it foretells.

The gradients' lines are those of the whole pool, by their share; the ridge is timed on a small one.

Legend: N candidates, L landmarks, D features, Q queries, B rows of a block.
"""

from dataclasses import replace

import numpy as np

from handpick.costs.cost import Amount, Extent, StageCost, StageKind, Work
from handpick.costs.machine import resident_bytes
from handpick.costs.probe import Probing, time_once
from handpick.layout import PartLayout, StoreLayout
from handpick.scorers.gradient_costs import GradientCosts
from handpick.scorers.gradient_stores import GradientStores
from handpick.scorers.inputs import Inputs
from handpick.scorers.pool_features import PoolFeatures
from handpick.scorers.provenance import pool_store_path
from handpick.scorers.ridge import fit_ridge, ridge_bytes
from handpick.store import FeatureStore

_ORDER = 512  # landmarks that a plan is timed on


class LandmarkCosts(GradientCosts):
    """Prices the stages of landmarks.

    Args:
        inputs: the run's settings and data.
        gradients: as the run makes them.
        features: the cheap ones.
        part: where the landmarks' rows are made.
        n_landmarks: L.
        n_refined: how many more are made exact, at most.
    """

    def __init__(
        self,
        inputs: Inputs,
        gradients: GradientStores,
        features: PoolFeatures,
        part: PartLayout,
        n_landmarks: int,
        n_refined: int,
    ) -> None:
        whole = inputs.settings.model_copy(update={"out": str(part.folder)})
        store = str(pool_store_path(whole))  # the landmarks' rows are the pool's here
        super().__init__(replace(inputs, settings=inputs.settings.model_copy(update={"store": store})), gradients)
        self._features = features
        self._n_landmarks = n_landmarks
        self._n_refined = n_refined

    def missing_rows(self) -> list[int]:
        """Return how many rows of landmarks are still to be made, per checkpoint."""
        path = pool_store_path(self.settings)
        if not StoreLayout(path).manifest.exists():
            return [self._n_landmarks]
        store = FeatureStore.open(path, allow_incomplete=True)
        return [sum(shard.stop - shard.start for shard in store.missing(t)) for t in range(len(store.checkpoints))]

    def is_left(self) -> bool:
        """Return whether rows are to be made; which are refined is known when all else is there."""
        return self._n_refined > 0 or super().is_left()

    def landmark_work(self, probing: Probing) -> Work:
        """Return what finding the usable records and the landmarks' rows will take."""
        probe, pool_sample = self.probe(probing), self.looked
        if probe is None or not any(self.missing_rows()):
            return Work([StageCost.left(StageKind.LANDMARKS)])
        lines, cheaper = self._pool(probe, self._n_checkpoints(probing), self.missing_rows())
        first = lines[0]
        prepared = pool_sample.seconds * pool_sample.n_records  # all are, to see of which a gradient can be taken
        if first.seconds is not None:
            lines[0] = replace(first, seconds=first.seconds.plus(prepared))
        return Work([_rename(line, StageKind.LANDMARKS) for line in lines], [pool_sample.describe()], cheaper)

    def refined_work(self, probing: Probing) -> Work:
        """Return what the rows that are made exact after all will take, at most."""
        probe = self.probe(probing)
        if probe is None:  # only where nothing is to be refined
            return Work([])
        n_checkpoints = self._n_checkpoints(probing)
        lines, _ = self._pool(probe, n_checkpoints, [self._n_refined] * n_checkpoints)
        note = "at most: which they are, and whether an earlier run left them, the spread says"
        return Work([replace(_rename(line, StageKind.REFINED), note=note) for line in lines])

    def spread_work(self, probing: Probing) -> Work:
        """Return what the ridge takes, and what it foretells of every candidate and query."""
        n, n_landmarks, n_queries = self.looked.usable, self._n_landmarks, len(self.inputs.queries.pool)
        dim = self._features.extent(probing).dim
        factor_flops = n_landmarks**3
        kernel_flops = 2.0 * n * n_landmarks * (dim + n_queries)
        doubt_flops = 2.0 * n * n_landmarks**2 if self._n_refined else 0.0
        order = min(_ORDER, n_landmarks)
        rng = np.random.default_rng(0)
        rows_BD = rng.standard_normal((order, dim)) / np.sqrt(dim)
        targets_BQ = rng.standard_normal((order, n_queries))
        fitted = fit_ridge(rows_BD, targets_BQ)
        a_factor = time_once(lambda: fit_ridge(rows_BD, targets_BQ)) / order**3
        a_block = time_once(lambda: fitted.ridge.predict(rows_BD)) / order**2
        seconds = factor_flops * a_factor + n * n_landmarks * a_block
        if self._n_refined:
            seconds += n * n_landmarks**2 * time_once(lambda: fitted.deviation(rows_BD)) / order**3
        line = StageCost(
            StageKind.SPREAD.value,
            n,
            None,
            factor_flops + kernel_flops + doubt_flops,
            8 * n_landmarks * n_queries,
            resident_bytes() + ridge_bytes(n_landmarks) + 8 * n_landmarks * dim,
            Amount.exactly(seconds),
            f"from {n_landmarks:,} landmarks, a kernel of {ridge_bytes(n_landmarks) / 1e9:.2f} GB",
            kind=StageKind.SPREAD,
        )
        return Work([line], extent=Extent(n, 0, 1, n_queries))


def _rename(line: StageCost, kind: StageKind) -> StageCost:
    """Return a line of the pool's features as one of a part of them."""
    name = line.name.replace(StageKind.POOL.value, kind.value)
    return replace(line, name=name, kind=kind, note="" if not line.there else line.note)
