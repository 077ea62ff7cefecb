"""Which learning rate and depth a target's path has: by held-out specificity (TACS, arXiv 2605.09404).

On each of three folds a path is trained on the other two, and where it stands at a depth it is asked

    cos(g_warmup, g_holdout) − cos(g_warmup, g_reference)

g are gradients of mean losses there, dropout off: over the examples that it was trained on, the fold that it was not,
and generic examples, the same everywhere. The largest mean over the folds is taken; of equal ones the smaller depth,
then the smaller rate. Each gradient is over 100 examples at most, the first, as in the authors' released code. Ours:
the generic examples are drawn from the pool (theirs are of another data set), folds are as equal as they can be, and a
cosine with a gradient that is zero is 0.

Legend: Q queries.
"""

import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from handpick.data.render import Rendered
from handpick.documents import reading
from handpick.errors import ModelError, StoreError
from handpick.fingerprint import Fingerprint, require_same
from handpick.layout import TacsCalibrationLayout
from handpick.random_streams import generator
from handpick.scorers.tacs_path import Advance, PathModel
from handpick.sealed import read_sealed, write_sealed
from handpick.settings import Settings

RATES = (1e-5, 2e-5, 5e-5)
DEPTHS = (2, 4, 8, 12, 16, 32, 64)
FOLDS = 3
GENERIC = 100  # examples that stand for whatever is no target
MOST = 100  # examples that a gradient is over


class Course(NamedTuple):
    """A path's learning rate, and its depth in passes over the target's examples."""

    rate: float
    depth: int


class Grid(NamedTuple):
    """What a course is chosen from."""

    rates: tuple[float, ...]
    depths: tuple[int, ...]

    @property
    def only(self) -> Course | None:
        """The one course that there is, where nothing is to be chosen."""
        return Course(self.rates[0], self.depths[0]) if len(self.rates) == len(self.depths) == 1 else None


class Trial(NamedTuple):
    """What one path was found to be at one depth; a cosine is None where it is not finite."""

    fold: int
    rate: float
    depth: int
    holdout: float | None
    reference: float | None


def grid_of(settings: Settings) -> Grid:
    """Return the rates and depths that are tried: the paper's, or the one that is set."""
    return Grid(
        RATES if settings.tacs_rate is None else (settings.tacs_rate,),
        DEPTHS if settings.tacs_depth is None else (settings.tacs_depth,),
    )


def split_folds(n: int, seed: int) -> list[tuple[list[int], list[int]]]:
    """Return, of each fold, which of ``n`` examples a path is trained on, and which it is asked about."""
    order = generator(seed, "folds of a target").permutation(n)
    return [
        (sorted(set(range(n)) - set(fold.tolist())), sorted(fold.tolist())) for fold in np.array_split(order, FOLDS)
    ]


def choose_course(cells: Sequence[Trial], grid: Grid) -> tuple[Course, float]:
    """Return the course of the largest mean specificity over the folds, and that.

    Raises:
        ModelError: none has gradients that are finite on every fold.
    """
    means: dict[Course, float] = {}
    for course in (Course(rate, depth) for rate in grid.rates for depth in grid.depths):
        own = [cell for cell in cells if (cell.rate, cell.depth) == course]
        each = [
            cell.holdout - cell.reference for cell in own if cell.holdout is not None and cell.reference is not None
        ]
        if len(each) == FOLDS:
            means[course] = math.fsum(each) / FOLDS
    if not means:
        raise ModelError(
            "the calibration of the target's path has no gradient that is finite: give --dtype float32; if that does "
            "not help, a weight of the model is broken"
        )
    best = min(means, key=lambda course: (-means[course], course.depth, course.rate))
    return best, means[best]


class Calibration:
    """The calibration of one target, as far as it is done; each cell is kept as soon as it is there.

    Args:
        ids: of the target's queries, at least as many as folds.
        sequences: theirs.
        reference: generic examples.
        grid: what is tried.
        seed: of the folds.
        folder: of the calibration, by what it is made from.
        made_from: that.

    Raises:
        FingerprintMismatch: what lies in the folder was made from something else.
    """

    def __init__(
        self,
        ids: Sequence[str],
        sequences: Sequence[Rendered],
        reference: Sequence[Rendered],
        grid: Grid,
        seed: int,
        folder: Path,
        made_from: Fingerprint,
    ) -> None:
        self._ids = ids
        self._sequences = sequences
        self._reference = reference[:MOST]
        self._grid = grid
        self._made_from = made_from
        self.folds = split_folds(len(sequences), seed)
        self._layout = TacsCalibrationLayout(folder)
        self.cells: list[Trial] = []
        if self._layout.record.exists():
            record, advice = self._layout.record, f"remove {folder} and run the same again"
            there = read_sealed(record, advice)
            with reading(record, StoreError, advice):
                require_same(there["made_from"], made_from, what=f"the calibration in {folder}")
                self.cells = [Trial(**cell) for cell in there["cells"]]

    def missing(self) -> list[tuple[int, float, list[int]]]:
        """Return the paths with cells that are not done: the fold, the rate, those depths."""
        done = {(cell.fold, cell.rate, cell.depth) for cell in self.cells}
        found = []
        for fold in range(FOLDS):
            for rate in self._grid.rates:
                depths = [depth for depth in self._grid.depths if (fold, rate, depth) not in done]
                if depths:
                    found.append((fold, rate, depths))
        return found

    @property
    def n_learnt(self) -> int:
        """Examples that all its paths learn, as often as they do."""
        return sum(len(learnt) for learnt, _ in self.folds) * len(self._grid.rates) * max(self._grid.depths)

    @property
    def n_left(self) -> int:
        """Those of paths with a cell that is not done."""
        return sum(len(self.folds[fold][0]) for fold, _, _ in self.missing()) * max(self._grid.depths)

    def run(self, model: Callable[[], PathModel], advance: Advance = lambda n: None) -> None:
        """Try what is missing.

        Args:
            model: gives the model, where it is needed.
            advance: told how many more examples are learnt.

        Raises:
            HandpickError: as ``PathModel.walk``.
        """
        for fold, rate, depths in self.missing():
            learnt, held = self.folds[fold]
            sets = [[self._sequences[i] for i in own[:MOST]] for own in (learnt, held)] + [list(self._reference)]
            trial = self._layout.trial(fold, rate)
            trial.mkdir(parents=True, exist_ok=True)
            ids, own = [self._ids[i] for i in learnt], [self._sequences[i] for i in learnt]
            for depth in model().walk(ids, own, rate, self._grid.depths, trial, advance=advance):
                if depth in depths:
                    self._note(Trial(fold, rate, depth, *_cosines(model().mean_gradients(sets))))
        for fold in range(FOLDS):
            for rate in self._grid.rates:
                shutil.rmtree(self._layout.trial(fold, rate), ignore_errors=True)

    def best(self) -> tuple[Course, float]:
        """Return the course to take and its mean specificity, of the cells that are done.

        Raises:
            ModelError: as ``choose_course``.
        """
        return choose_course(self.cells, self._grid)

    def _note(self, cell: Trial) -> None:
        self.cells.append(cell)
        record = {"made_from": self._made_from, "cells": [each._asdict() for each in self.cells]}
        write_sealed(self._layout.record, record)


def _cosines(gradients_3D: NDArray[np.float32]) -> tuple[float | None, float | None]:
    """Return the cosines of the first of three gradients with the others."""
    wide_3D = gradients_3D.astype(np.float64)
    norms_3 = np.sqrt(np.einsum("sd,sd->s", wide_3D, wide_3D))
    if not np.isfinite(norms_3).all():
        return None, None
    return _cosine(wide_3D, norms_3, 1), _cosine(wide_3D, norms_3, 2)


def _cosine(rows_3D: NDArray[np.float64], norms_3: NDArray[np.float64], other: int) -> float:
    product = float(norms_3[0] * norms_3[other])
    return float(rows_3D[0] @ rows_3D[other]) / product if product else 0.0
