"""How far a selection and other subsets of its pool are from the queries, in the run's own features."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from handpick.distance import Distances, Products, distances
from handpick.errors import DataError, HandpickError, SettingsError
from handpick.files import atomic_write
from handpick.layout import RunLayout
from handpick.pipeline.prepare import decide_for_workers, executor_of, prepare_run
from handpick.progress import log
from handpick.random_streams import generator
from handpick.scorers.provenance import read_run_settings
from handpick.scorers.scoring_problem import FeatureSpace, ScoringProblem
from handpick.selection import Selection
from handpick.settings import Settings
from handpick.store.codec import row_norms, unit_rows
from handpick.store.memory import available_bytes

# examples of a selection, and pairs of them with queries, whose distances are measured without being asked for
_MEASURED, _PAIRS = 2000, 1_000_000

_READ = 1 << 24  # features of a subset that are read together


def run_distance(folder: Path, subsets: Mapping[str, Sequence[str]], seed: int = 0) -> dict[str, Distances]:
    """Measure how far subsets of a run's pool are from its queries, in the run's features.

    Args:
        folder: of a finished selection.
        subsets: ids by a name of one's own, beside the selection itself and a random draw of its size.
        seed: of the draw.

    Raises:
        StoreError: there is no selection.
        SettingsError: the run's representation has no features to measure by, its objective was handed over in
            Python, or a subset's features do not fit in memory.
        DataError: an id is not in the pool, or could not be represented.
    """
    selection = Selection.open(folder)
    layout = RunLayout(folder)
    if not layout.settings.exists():
        raise SettingsError(
            f"{folder} has no {layout.settings.name}: the objective was handed over in Python, and its queries' "
            "features cannot be made again"
        )
    problem, features, column_of = run_to_features(read_run_settings(selection, folder))
    named = {str(folder): selection.ids, **subsets}
    columns = {name: _columns(name, own, column_of) for name, own in named.items()}
    return distances_of(features, columns | _draw_random(problem, len(selection), seed))


def run_to_features(settings: Settings) -> tuple[ScoringProblem, FeatureSpace, dict[str, int]]:
    """Return what a selection is chosen by, its features, and the column of every candidate's id.

    Raises:
        SettingsError: the representation has no features.
        HandpickError: as ``prepare_run`` and the stages.
    """
    with executor_of(settings) as executor:
        prepared = prepare_run(decide_for_workers(settings, executor))
        problem = prepared.run_stages(executor)
    if problem.features is None:
        raise SettingsError(
            f"{settings.used_representation} has no features to measure distances by: choose once with a method that "
            "has, such as rds+, and name this selection beside that run: handpick distance RUN --subset THIS"
        )
    ids = prepared.inputs.pool.pool.ids()
    return problem, problem.features, {ids[row]: column for column, row in enumerate(problem.rows.tolist())}


def distances_of_selection(
    settings: Settings, problem: ScoringProblem, columns_B: NDArray[np.int64]
) -> dict[str, Distances] | None:
    """Return the distances of a new selection, also written down, where that takes a moment only."""
    path = RunLayout(settings.folder).distances
    path.unlink(missing_ok=True)  # of an earlier selection
    if problem.features is None or find_spec("ot") is None:
        return None
    if len(columns_B) > _MEASURED or len(columns_B) * problem.similarity.shape[0] > _PAIRS:
        return None
    try:
        drawn = _draw_random(problem, len(columns_B), settings.seed)
        found = distances_of(problem.features, {"selection": columns_B} | drawn)
    except HandpickError as error:  # the selection stands all the same
        log(f"no distances: {error}")
        return None
    atomic_write(path, json.dumps({name: asdict(each) for name, each in found.items()}, indent=1).encode())
    return found


def _draw_random(problem: ScoringProblem, count: int, seed: int) -> dict[str, NDArray[np.int64]]:
    """Return a random draw, to hold a subset against."""
    order = generator(seed, "held against a subset").permutation(len(problem.rows))
    of = "" if problem.prefiltered is None else " of what was left"
    return {f"random {count:,}{of}": np.sort(order[:count])}


def distances_of(features: FeatureSpace, columns: Mapping[str, NDArray[np.int64]]) -> dict[str, Distances]:
    """Return the distances of subsets, by their columns, to the queries.

    Raises:
        DataError: a subset has no features but zeros.
        SettingsError: its features do not fit in memory.
    """
    query_QE = _unit(features.queries())
    found: dict[str, Distances] = {}
    for name, columns_B in columns.items():
        subset_BE = _unit_rows_of(features.candidates, columns_B, query_QE.shape[1], name)
        if not len(subset_BE):
            raise DataError(f"{name} has no example whose features are not zero: there is no distance to measure")
        similarity_QB = query_QE @ subset_BE.T
        if features.slope != 1:  # an estimate, which may be above 1
            similarity_QB = np.clip(features.slope * similarity_QB, -1, 1)
        found[name] = distances(similarity_QB, Products(query_QE), Products(subset_BE, features.kernel))
    return found


def _unit_rows_of(
    candidates: Callable[[NDArray[np.int64]], NDArray[np.float32]], columns_B: NDArray[np.int64], dim: int, name: str
) -> NDArray[np.float32]:
    """Return the features of some columns as ``_unit`` gives them, read some at a time and held once.

    Raises:
        SettingsError: they do not fit in memory.
    """
    needed, free = 4 * len(columns_B) * dim, available_bytes()
    if needed > free:
        raise SettingsError(
            f"the features of the {len(columns_B):,} examples of {name} take {needed / 1e9:.0f} GB and "
            f"{free / 1e9:.0f} GB are free: measure a smaller subset"
        )
    subset_BE = np.empty((len(columns_B), dim), np.float32)
    step, kept = max(1, _READ // dim), 0
    for start in range(0, len(columns_B), step):
        rows = _unit(candidates(columns_B[start : start + step]))
        subset_BE[kept : kept + len(rows)] = rows
        kept += len(rows)
    return subset_BE[:kept]


def _columns(name: str, ids: Sequence[str], column_of: Mapping[str, int]) -> NDArray[np.int64]:
    if missing := [example_id for example_id in ids if example_id not in column_of]:
        raise DataError(
            f"{len(missing)} ids of {name} were left out or set aside in this run, or are not in its pool, "
            f"the first {missing[0]!r}"
        )
    return np.array([column_of[example_id] for example_id in ids], dtype=np.int64)


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale rows to unit norm, as those of several checkpoints are not where one is zero.

    Without rows that are all zero.
    """
    norms = row_norms(rows)
    return unit_rows(rows, norms)[norms > 0]
