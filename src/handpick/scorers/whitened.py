"""Whitened features: the queries' rows go through the inverse of the pool's second moment (whitening.py) before they
are compared. Ours, after TRAK (Park et al. 2023, arXiv 2303.14186).

It is a half of a scorer: the other half makes the rows of both sides, in stores of their own.
"""

from pathlib import Path

import numpy as np
import torch

from handpick.costs.cost import Amount, StageCost, StageKind, Work
from handpick.costs.machine import resident_bytes
from handpick.costs.probe import Probing, time_once
from handpick.errors import SettingsError
from handpick.executors import Executor
from handpick.fingerprint import digest
from handpick.layout import StoreLayout
from handpick.scorers.feature_scorer import FeatureScorer
from handpick.scorers.finished_run import FinishedRun
from handpick.scorers.scorer import fingerprint
from handpick.scorers.stages import Stage
from handpick.scorers.whitening import cached_second_moment, read_second_moment, whiten
from handpick.store import FeatureStore
from handpick.store.codec import Floats
from handpick.store.memory import available_bytes

_ORDER = 1_024  # of the matrices that a plan is timed on


class WhitenedQueries(FeatureScorer):
    """Compares rows as the pool's second moment has them; stands before the class that makes them."""

    def stages(self) -> list[Stage]:
        """Return those of the rows, and the second moment."""
        stages = super().stages()  # type: ignore[safe-super]  # of the class that makes the rows
        if self.inputs.query is None:
            return stages
        return [*stages, Stage(StageKind.COVARIANCE, self.pool_inputs, self.covariance_work, self.keep_covariance)]

    def covariance_work(self, probing: Probing) -> Work:
        """Return what XᵀX/N of the pool's unit rows takes, and its factor in float64, at every checkpoint."""
        rows = probing.priced.get((StageKind.POOL, digest(self.pool_inputs())))
        extent = rows.extent if rows is not None and rows.extent is not None else self.extent(probing)
        n, dim, n_checkpoints = extent.candidates, extent.dim, extent.checkpoints
        rng = np.random.default_rng(0)
        order = min(_ORDER, dim)
        rows_BD = rng.standard_normal((order, order), dtype=np.float32)
        a_product = time_once(lambda: rows_BD.T @ rows_BD) / (2 * order**3)
        positive_DD = torch.from_numpy((rows_BD.T @ rows_BD).astype(np.float64)) + order * torch.eye(order)
        a_factor = time_once(lambda: torch.linalg.cholesky(positive_DD)) / (order**3 / 3)
        seconds = n_checkpoints * (2.0 * n * dim**2 * a_product + dim**3 / 3 * a_factor)
        line = StageCost(
            StageKind.COVARIANCE.value,
            n,
            None,
            n_checkpoints * (2.0 * n * dim**2 + dim**3 / 3),
            n_checkpoints * 8 * dim**2,
            resident_bytes() + 2 * 8 * dim**2,
            Amount.exactly(seconds),
            f"{dim:,} × {dim:,}, its factor in float64",
            kind=StageKind.COVARIANCE,
        )
        return Work([line])

    def keep_covariance(self, executor: Executor) -> None:
        """Compute what is not there of the second moments, and keep it beside the rows."""
        store = self.pool_features()
        for t in range(len(store.checkpoints)):
            cached_second_moment(store, t, moment_path(store, t))

    def query_rows(self, pool_store: FeatureStore, rows_TQD: list[Floats]) -> list[Floats]:
        """Return the queries' rows, whitened."""
        damping = self.settings.whitening_damping
        return [
            whiten(rows_QD, cached_second_moment(pool_store, t, moment_path(pool_store, t)), damping)
            for t, rows_QD in enumerate(rows_TQD)
        ]

    @classmethod
    def reopen_query_rows(
        cls, run: FinishedRun, pool_store: FeatureStore, rows_TQD: list[Floats]
    ) -> list[Floats] | str:
        """Return the queries' rows, whitened by the second moment that the run has left."""
        moments = [moment_path(pool_store, t) for t in range(len(rows_TQD))]
        if not all(path.exists() for path in moments):
            return "the pool's covariance is not in the folder any more"
        damping = run.settings.whitening_damping
        return [whiten(rows, read_second_moment(path), damping) for rows, path in zip(rows_TQD, moments, strict=True)]


def check_room(dim: int, remedy: str) -> None:
    """Raise SettingsError where the pool's second moment and its factor would not fit in memory."""
    needed, free = 2 * 8 * dim**2, available_bytes()
    if needed > free:
        raise SettingsError(
            f"whitening {dim:,} features takes {needed / 1e9:.0f} GB and {free / 1e9:.0f} GB are free: {remedy}"
        )


def moment_path(store: FeatureStore, checkpoint: int) -> Path:
    """Return where the pool's second moment is kept: beside the rows it is of; another pool has another name."""
    return StoreLayout(store.path).second_moment(checkpoint, digest(fingerprint(store)))
