"""``select``, ``represent`` and ``similarity``, from settings to what is written."""

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from handpick.data.pool import Pool
from handpick.data.render import Renderer
from handpick.distance import Distances
from handpick.errors import SettingsError
from handpick.methods import REPRESENTATIONS
from handpick.model import device
from handpick.objectives.protocol import Objective
from handpick.pipeline.compared import Compared, representation_of, set_aside
from handpick.pipeline.features import Features, open_renderer
from handpick.pipeline.made_with import pool_store_path, resume_from_store, stored_as
from handpick.pipeline.measured import measured
from handpick.pipeline.objective import Own
from handpick.pipeline.ready import make_ready, open_data
from handpick.pipeline.rows import RowStores
from handpick.pipeline.within import within
from handpick.progress import say, timed
from handpick.rewards import wrap
from handpick.selection import Selection
from handpick.settings import Settings, checked
from handpick.similarity import written
from handpick.store import FeatureStore
from handpick.store.files import write_whole


@dataclass(frozen=True, slots=True)
class Run:
    """A finished selection with what it was chosen from; ``query`` is None where the method looks at none.

    ``distances`` are the selection's and a random draw's to the queries; None where there are no features to measure
    by, the selection is large, or POT is not installed.
    """

    selection: Selection
    pool: Pool
    query: Pool | None
    settings: Settings
    distances: dict[str, Distances] | None = None


def select(
    pool: Any = None,
    query: Any = None,
    model: str | None = None,
    *,
    budget: str | int = 1000,
    reward: str | Callable[..., Any] | None = None,
    objective: str | Callable[[Renderer, int], Objective] | None = None,
    **settings: Any,
) -> Selection:
    """Choose from ``pool`` the examples that teach ``model`` the task that ``query`` shows.

    Args:
        pool: a file, a list of files, or a data set on the Hub.
        query: the same, for the few examples of the task.
        model: the base model, a folder or a name on the Hub.
        budget: ``1000``, ``"5%"`` or ``"2M tokens"``.
        reward: for ``method="nice"``: a name as on the command line, or any ``(prompts, completions, records) ->
            scores``: messages without the answer, answers, and the queries' records as they stood in their file.
        objective: of the query side, instead of the method's: a name, or ``(renderer, max_length) -> Objective`` that
            makes one of your own (``handpick.objectives.protocol``).
        settings: any other field of ``handpick.settings.Settings``: ``method``, ``out``, ``seed``, ``store``, …

    Returns:
        The selection; it is also written to ``out``.

    Raises:
        HandpickError: of the kind that fits what is wrong (see ``handpick.errors``).
    """
    own = Own(wrap(reward) if callable(reward) else None, objective if callable(objective) else None)
    given = {
        "pool": pool,
        "query": query,
        "model": model,
        "budget": budget,
        "reward": own.reward.name if own.reward else reward,
        "objective": None if own.objective else objective,
    }
    known = {name: value for name, value in (given | settings).items() if value is not None}
    return run_select(checked(known), own).selection


def represent_pool(pool: Any = None, model: str | None = None, **settings: Any) -> FeatureStore:
    """Build the feature store of a pool alone; ``select(store=…)`` starts from it.

    Args and errors as ``select``.
    """
    given = {"pool": pool, "model": model} | settings
    return run_represent(checked({name: value for name, value in given.items() if value is not None}))


def run_represent(settings: Settings) -> FeatureStore:
    """``represent_pool`` for settings that are already one object."""
    kind = REPRESENTATIONS[settings.used_representation]
    if kind.gives == "nothing":
        raise SettingsError(f"the method {settings.method} needs no features")
    if kind.gives != "features" or settings.used_representation == "gist":
        why = "has none" if kind.gives != "features" else "makes them for a query"
        raise SettingsError(f"no features to build: {settings.used_representation} {why}; use `handpick select`")
    if settings.score_only:
        raise SettingsError("score_only is for a selection: `represent` is there to keep the features")
    renderer = open_renderer(settings) if kind.needs_model else None
    pool = open_data("pool", settings.pool, settings)
    if renderer is not None and stored_as(settings.used_representation) == "gradient":
        features = Features(settings, renderer, pool.pool)
        features.check()
        store = features.pool_store(pool.quarantine)
        set_aside(store, pool, features.pool_objective)
    else:
        representation = representation_of(settings, renderer)
        stores = RowStores(settings, representation, pool_store_path(settings))
        store = stores.pool_store(pool.pool, settings.storage, pool.quarantine)
        set_aside(store, pool, stores.of_pool)
    _write_settings(settings)
    return store


def run_select(settings: Settings, own: Own | None = None, passing: Collection[str] = ()) -> Run:
    """``select`` for settings that are already one object; ``passing`` has ids that are not to be chosen from."""
    settings = resume_from_store(settings)
    with timed() as seconds:
        run, compared, columns_B = _choose(settings, own, passing)
    run.selection.save(settings.folder)
    _write_settings(settings, own)
    cost = {"seconds": seconds, "device": str(device()), "threads": torch.get_num_threads()}
    write_whole(settings.folder / "cost.json", json.dumps(cost, indent=1).encode())
    return replace(run, distances=measured(settings, compared, columns_B))  # last: the selection stands without


def _choose(settings: Settings, own: Own | None, passing: Collection[str]) -> tuple[Run, Compared, NDArray[np.int64]]:
    ready = make_ready(settings, own, passing)
    compared, pool = ready.compared, ready.pool
    picks, passed = within(settings, compared, ready.budget, pool, ready.query, ready.renderer)
    if str(passed) != "none":
        say(f"passed over: {passed}")
    if len(picks.columns) < len(compared.query_ids):
        say(f"{len(compared.query_ids)} queries and {len(picks.columns)} picks: not every query has one of its own")
    chosen: list[int] = compared.rows[picks.columns].tolist()
    selection = Selection(
        ids=[pool[row].id for row in chosen],
        scores=[float(score) for score in picks.scores],
        picked_for=compared.picked_for(picks),
        settings=settings.model_dump(mode="json", exclude_none=True),
        fingerprints=compared.fingerprints,
        record=lambda choice: pool.raw(chosen[choice]),
        origins=[pool.location(row) for row in chosen],
    )
    return Run(selection, pool, ready.query, settings), compared, picks.columns


def run_similarity(settings: Settings) -> Path:
    """Compute the similarity that a selection would be made by, and write it down whole.

    Returns:
        The folder, with ``similarity.npy``, float32 (Q, N), and ``similarity.json``: the ids of rows and columns.

    Raises:
        HandpickError: as ``run_select``.
    """
    settings = resume_from_store(settings)
    if REPRESENTATIONS[settings.used_representation].gives == "nothing":
        raise SettingsError(f"the method {settings.method} has no similarity: choose another")
    ready = make_ready(settings.model_copy(update={"budget": "100%"}), None)
    path = settings.folder / "similarity.npy"
    path.parent.mkdir(parents=True, exist_ok=True)
    written(ready.compared.similarity, path)
    ids = ready.pool.ids()
    names = {"queries": ready.compared.query_ids, "examples": [ids[row] for row in ready.compared.rows]}
    write_whole(path.with_suffix(".json"), json.dumps(names, ensure_ascii=False).encode())
    _write_settings(settings)
    return settings.folder


def _write_settings(settings: Settings, own: Own | None = None) -> None:
    if own is not None and own.objective is not None:
        (settings.folder / "settings.yaml").unlink(missing_ok=True)  # of an earlier run
        say("no settings.yaml: no file can name an objective that was handed over in Python")
        return
    write_whole(settings.folder / "settings.yaml", settings.to_yaml().encode())
