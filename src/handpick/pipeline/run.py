"""``select``, ``represent`` and ``similarity``, from settings to what is written."""

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from handpick.data.pool import Pool
from handpick.distance import Distances
from handpick.errors import HandpickError, SettingsError, StoreError
from handpick.files import atomic_write
from handpick.in_memory import named_in_memory
from handpick.layout import DataLayout, RunLayout
from handpick.model import device
from handpick.pipeline.apply_constraints import apply_constraints
from handpick.pipeline.distances import distances_of_selection
from handpick.pipeline.missed import Missed, estimate_missed, write_missed
from handpick.pipeline.prepare import decide_for_workers, executor_of, open_pool_run, prepare_run
from handpick.pipeline.share import represent_share
from handpick.pipeline.unlearnt import remark_on_answers
from handpick.progress import collect_timings, log
from handpick.run_place import hold_place
from handpick.scorers.inputs import UserObjects
from handpick.scorers.provenance import resume_from_store
from handpick.scorers.scoring_problem import Remark, ScoringProblem
from handpick.selection import Selection
from handpick.settings import Settings
from handpick.similarity import write_similarity
from handpick.store import FeatureStore


@dataclass(frozen=True, slots=True)
class Run:
    """A finished selection with what it was chosen from; ``query`` is None where the method looks at none.

    ``distances`` are the selection's and a random draw's to the queries; None where there are no features to measure
    by, the selection is large, or POT is not installed. ``missed`` is there where prefilters left candidates out.
    ``remarks`` are what is said of its result, by the method and of its answers.
    """

    selection: Selection
    pool: Pool
    query: Pool | None
    settings: Settings
    distances: dict[str, Distances] | None = None
    missed: Missed | None = None
    remarks: tuple[Remark, ...] = ()


def run_represent(settings: Settings) -> FeatureStore:
    """Build the feature store of a pool alone, from settings that are already one object.

    Raises:
        HandpickError: as ``represent_pool``.
    """
    executor = executor_of(settings, by_share=True)
    if executor.rank is not None:
        if settings.is_in_bucket:
            raise SettingsError("ranks meet in a folder, and --out is in a bucket: give a folder that all see")
        store = represent_share(settings, executor, executor.rank)
        if executor.rank.number == 0:
            _write_settings(settings)
        return store
    with hold_place(settings.place), executor:
        settings = decide_for_workers(settings, executor)
        prepared = open_pool_run(settings, DataLayout(settings.folder))
        for stage in prepared.scorer.stages():
            stage.run(executor)
        store = prepared.scorer.pool_features()
        _write_settings(settings)
    return store


def run_select(settings: Settings, own: UserObjects | None = None, exclude_ids: Collection[str] = ()) -> Run:
    """Choose, from settings that are already one object; ``exclude_ids`` has ids that are not to be chosen from.

    Raises:
        HandpickError: as ``select``.
    """
    settings = resume_from_store(settings)
    with hold_place(settings.place):
        return _select(settings, own, exclude_ids)


def _select(settings: Settings, own: UserObjects | None, exclude_ids: Collection[str]) -> Run:
    layout = RunLayout(settings.folder)
    with collect_timings() as seconds:
        run, problem, columns_B = _choose(settings, own, exclude_ids)
    _say_changed(layout, run.selection)
    run.selection.save(settings.folder)
    write_missed(run.missed, layout.prefilter_check)
    _write_settings(settings, own)
    write_remarks(layout, run.remarks)
    cost = {"seconds": seconds, "device": str(device()), "threads": torch.get_num_threads()}
    atomic_write(layout.cost, json.dumps(cost, indent=1).encode())
    return replace(
        run, distances=distances_of_selection(settings, problem, columns_B)
    )  # last: the selection stands without


def _choose(
    settings: Settings, own: UserObjects | None, exclude_ids: Collection[str]
) -> tuple[Run, ScoringProblem, NDArray[np.int64]]:
    with executor_of(settings) as executor:
        settings = decide_for_workers(settings, executor)
        prepared = prepare_run(settings, own, exclude_ids)
        inputs, problem = prepared.inputs, prepared.run_stages(executor)
    pool, query = inputs.pool.pool, None if inputs.query is None else inputs.query.pool
    picks, passed = apply_constraints(settings, problem, prepared.budget, inputs)
    missed = estimate_missed(settings, problem, prepared.budget, inputs, len(picks.columns))
    if str(passed) != "none":
        log(f"passed over: {passed}")
    if len(picks.columns) < len(problem.query_ids):
        log(f"{len(problem.query_ids)} queries and {len(picks.columns)} picks: not every query has one of its own")
    chosen: list[int] = problem.rows[picks.columns].tolist()
    selection = Selection(
        ids=[pool[row].id for row in chosen],
        scores=[float(score) for score in picks.scores],
        picked_for=problem.queries_of_picks(picks),
        settings=settings.model_dump(mode="json", exclude_none=True),
        fingerprints=problem.fingerprints,
        record=lambda choice: pool.raw(chosen[choice]),
        origins=[pool.location(row) for row in chosen],
    )
    remarks = (*problem.remarks, *problem.remarks_on(picks.columns), *remark_on_answers(inputs, chosen))
    run = Run(selection, pool, query, settings, missed=missed, remarks=remarks)
    return run, problem, picks.columns


def run_similarity(settings: Settings) -> Path:
    """Compute the similarity that a selection would be made by, and write it down whole.

    Returns:
        The folder, with ``similarity.npy``, float32 (Q, N), and ``similarity.json``: the ids of rows and columns.

    Raises:
        HandpickError: as ``run_select``.
    """
    settings = resume_from_store(settings)
    if settings.scorer.output == "nothing":
        raise SettingsError(f"the method {settings.method} has no similarity: choose another")
    if settings.prefilter:
        raise SettingsError("a prefilter is for a selection: `similarity` is of the whole pool")
    with hold_place(settings.place):
        with executor_of(settings) as executor:
            settings = decide_for_workers(settings, executor)
            prepared = prepare_run(settings.model_copy(update={"budget": "100%"}))
            problem, layout = prepared.run_stages(executor), RunLayout(settings.folder)
        layout.folder.mkdir(parents=True, exist_ok=True)
        write_similarity(problem.similarity, layout.similarity)
        ids = prepared.inputs.pool.pool.ids()
        names = {"queries": problem.query_ids, "examples": [ids[row] for row in problem.rows]}
        atomic_write(layout.similarity_ids, json.dumps(names, ensure_ascii=False).encode())
        _write_settings(settings)
    return settings.folder


def _say_changed(layout: RunLayout, chosen: Selection) -> None:
    """Say where the folder has a selection from other records than these, under the same names."""
    try:
        earlier = Selection.open(layout.folder)
    except StoreError:  # there is none, or none that could be said anything of
        return
    before, now = ((each.settings.get("pool"), _contents(each)) for each in (earlier, chosen))
    if before[0] == now[0] and None not in (before[1], now[1]) and before[1] != now[1]:
        log(f"the pool has changed since the selection that {layout.folder} had, which this one takes the place of")


def _contents(selection: Selection) -> Any:
    """Return the digests of the pool's files; None where the selection does not say them."""
    pool = selection.fingerprints.get("pool")
    return json.loads(json.dumps(pool["files"])) if isinstance(pool, dict) and "files" in pool else None


def write_remarks(layout: RunLayout, remarks: Sequence[Remark]) -> None:
    """Write what is said of a run's result, in place of what an earlier one said."""
    if not remarks:
        layout.remarks.unlink(missing_ok=True)  # of an earlier run
        return
    document = {"remarks": [asdict(each) for each in remarks]}
    atomic_write(layout.remarks, json.dumps(document, ensure_ascii=False, indent=1).encode())


def _write_settings(settings: Settings, own: UserObjects | None = None) -> None:
    path = RunLayout(settings.folder).settings
    in_python = [f"a {name}" for name in named_in_memory(settings.model_dump())]
    if own is not None and own.objective is not None:
        in_python.append("an objective")
    if in_python:
        path.unlink(missing_ok=True)  # of an earlier run
        were = "was" if len(in_python) == 1 else "were"
        log(f"no {path.name}: no file can name {' and '.join(in_python)} that {were} handed over in Python")
        return
    if not _says_the_same(path, settings):  # what a user wrote, and ran, stays as it is written
        atomic_write(path, settings.to_yaml().encode())


def _says_the_same(path: Path, settings: Settings) -> bool:
    try:
        return path.exists() and resume_from_store(Settings.from_yaml(path)) == settings
    except HandpickError:
        return False
