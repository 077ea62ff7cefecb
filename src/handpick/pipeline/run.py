"""``select`` and ``represent``, from settings to what is written."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from handpick.algorithms import Picks, pick
from handpick.budget import Budget, longest_prefix
from handpick.data.pool import Pool
from handpick.data.quarantine import Quarantine
from handpick.data.render import Renderer
from handpick.errors import DataError, SettingsError
from handpick.fingerprint import JSON, Fingerprint, digest
from handpick.methods import find_method
from handpick.objectives.protocol import Objective
from handpick.pipeline.features import Features, open_renderer, pool_store_path, resume_from_store
from handpick.pipeline.objective import Own
from handpick.progress import say
from handpick.represent.fill import set_aside_unusable
from handpick.rewards import wrap
from handpick.selection import Selection
from handpick.settings import Settings, checked
from handpick.similarity import similarity
from handpick.store import FeatureStore
from handpick.store.files import write_whole


@dataclass(frozen=True, slots=True)
class Run:
    """A finished selection with what it was chosen from; ``query`` is None where the method looks at none."""

    selection: Selection
    pool: Pool
    query: Pool | None
    settings: Settings


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
        "pool": pool, "query": query, "model": model, "budget": budget,
        "reward": own.reward.name if own.reward else reward, "objective": None if own.objective else objective,
    }  # fmt: skip
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
    if find_method(settings.method).optimizer is None:
        raise SettingsError(f"the method {settings.method} needs no features")
    if settings.score_only:
        raise SettingsError("score_only is for a selection: `represent` is there to keep the features")
    renderer = open_renderer(settings)
    pool, quarantine = _open("pool", settings.pool, settings)
    features = Features(settings, renderer, pool)
    features.check()
    store = features.pool_store()
    _set_aside(store, pool, features.pool_objective, quarantine)
    _write_settings(settings)
    return store


def run_select(settings: Settings, own: Own | None = None) -> Run:
    """``select`` for settings that are already one object."""
    settings = resume_from_store(settings)
    run = _draw(settings) if find_method(settings.method).optimizer is None else _choose(settings, own)
    run.selection.save(settings.folder)
    _write_settings(settings, own)
    return run


def _open(name: str, sources: Sequence[str], settings: Settings) -> tuple[Pool, Quarantine]:
    if not sources:
        raise SettingsError(f"no {name} given: name a file or a data set with --{name}")
    suffix = "" if name == "pool" else f"-{name}"
    quarantine = Quarantine(settings.folder / f"quarantine{suffix}.jsonl", settings.max_quarantined)
    # Beside the features, so that every run that shares them shares the parsed pool.
    parsed = pool_store_path(settings).parent / "parsed"
    return Pool.open(list(sources), cache=parsed, quarantine=quarantine), quarantine


def _set_aside(store: FeatureStore, pool: Pool, objective: Objective, quarantine: Quarantine) -> None:
    set_aside_unusable(store, pool, objective, quarantine)
    if quarantine.count:
        say(quarantine.summary())


def _open_for(budget: Budget, settings: Settings) -> tuple[Pool, Quarantine]:
    """The pool, if it has room for the budget: too large is said now, not after hours."""
    pool, quarantine = _open("pool", settings.pool, settings)
    if budget.kind != "tokens":
        budget.examples_needed(len(pool))
    return pool, quarantine


def _choose(settings: Settings, own: Own | None) -> Run:
    """A method that compares features. What is small is looked at first: a pool may take an hour to read."""
    renderer = open_renderer(settings)
    query, query_quarantine = _open("query", settings.query, settings)
    budget = Budget.parse(settings.budget)
    pool, quarantine = _open_for(budget, settings)
    features = Features(settings, renderer, pool, own)
    features.check(query)
    query_store = features.query_store(query)  # first: it is small, and without it the pool's work would be for nothing
    kept_Q = _with_signal(query_store, features.query_objective)
    pool_store = features.score_store(query_store) if settings.score_only else features.pool_store()
    _set_aside(pool_store, pool, features.pool_objective, quarantine)
    _set_aside(query_store, query, features.query_objective, query_quarantine)

    fingerprints: Fingerprint = {"pool": _fingerprint(pool_store), "query": _fingerprint(query_store)}
    if settings.score_only:
        each_tNQ = [pool_store.array(t, normalized=False) for t in range(len(pool_store.checkpoints))]
        similarity_QN = np.ascontiguousarray(np.sum(each_tNQ, axis=0).T)
    else:
        path = settings.folder / f"similarity-{digest(fingerprints)}.npy"
        similarity_QN = np.load(path, mmap_mode="r") if path.exists() else similarity(pool_store, query_store, out=path)
    similarity_QN = similarity_QN[kept_Q] if len(kept_Q) < len(query_store) else similarity_QN
    query_ids = [query_store.ids[row] for row in kept_Q]
    subtask_of = dict(zip(query.ids(), query.column("subtask"), strict=True))
    subtasks = [subtask_of[query_id] or "" for query_id in query_ids]
    row_of = {example_id: row for row, example_id in enumerate(pool.ids())}
    rows = [row_of[example_id] for example_id in pool_store.ids]
    algorithm = settings.algorithm or find_method(settings.method).algorithm
    picks = _within(
        budget,
        len(rows),
        lambda n: pick(similarity_QN, n, algorithm, subtasks=subtasks, seed=settings.seed),
        lambda column: _n_tokens(pool, renderer, rows[column]),
    )
    if len(picks.columns) < len(query_ids):
        say(f"{len(query_ids)} queries and {len(picks.columns)} picks: not every query has one of its own")
    return Run(_selection(settings, pool, picks, rows, query_ids, fingerprints), pool, query, settings)


def _with_signal(query_store: FeatureStore, objective: Objective) -> list[int]:
    """The rows of the queries that say anything: a row that is zero at every checkpoint is like nothing.

    Raises:
        DataError: no query does.
    """
    norms_tQ = np.stack([query_store.norms(t) for t in range(len(query_store.checkpoints))])
    says_Q = norms_tQ.any(axis=0)
    silent = np.flatnonzero(~says_Q)
    if len(silent):
        names = ", ".join(query_store.ids[row] for row in silent[:3]) + (", …" if len(silent) > 3 else "")
        say(f"{len(silent)} of {len(query_store)} queries have no gradient at any checkpoint and are left out: {names}")
    if len(silent) == len(query_store):
        advice = getattr(objective, "advice", "name other queries")
        raise DataError(f"no query has a gradient, so there is nothing to choose by: {advice}")
    return np.flatnonzero(says_Q).tolist()


def _draw(settings: Settings) -> Run:
    """A method that looks at no features."""
    budget = Budget.parse(settings.budget)
    if budget.kind == "tokens" and settings.model is None:
        raise SettingsError("a budget in tokens is counted with the model's tokenizer: name one with --model")
    renderer = open_renderer(settings) if budget.kind == "tokens" else None
    pool, _ = _open_for(budget, settings)

    def n_tokens(column: int) -> int:
        assert renderer is not None
        return _n_tokens(pool, renderer, column)

    algorithm = settings.algorithm or find_method(settings.method).algorithm
    no_similarity_1N = np.broadcast_to(np.zeros((1, 1), np.float32), (1, len(pool)))
    picks = _within(budget, len(pool), lambda n: pick(no_similarity_1N, n, algorithm, seed=settings.seed), n_tokens)
    files: list[JSON] = [{"sha256": file.sha256, "rows": file.rows} for file in pool.files]
    selection = _selection(settings, pool, picks, range(len(pool)), [], {"pool": {"files": files}})
    return Run(selection, pool, None, settings)


def _within(budget: Budget, n: int, choose: Callable[[int], Picks], n_tokens: Callable[[int], int]) -> Picks:
    """The picks that a budget has room for; of a token budget, the longest prefix of the order that fits."""
    if budget.kind != "tokens":
        return choose(budget.examples_needed(n))
    tried = min(n, 1000)
    while True:
        picks = choose(tried)
        fitting = longest_prefix((n_tokens(int(column)) for column in picks.columns), int(budget.amount))
        if fitting < tried or tried == n:
            return Picks(picks.columns[:fitting], picks.scores[:fitting], picks.queries[:fitting])
        tried = min(n, 2 * tried)


def _n_tokens(pool: Pool, renderer: Renderer, row: int) -> int:
    """Tokens of a whole conversation, before any cut."""
    try:
        return renderer(pool[row].messages, max_length=1 << 30).full_length
    except DataError:
        return 0  # it cannot be trained on, so it costs nothing


def _selection(
    settings: Settings,
    pool: Pool,
    picks: Picks,
    rows: Sequence[int],
    query_ids: Sequence[str],
    fingerprints: Fingerprint,
) -> Selection:
    chosen = [rows[int(column)] for column in picks.columns]
    return Selection(
        ids=[pool[row].id for row in chosen],
        scores=[float(score) for score in picks.scores],
        picked_for=[query_ids[int(q)] if q >= 0 else None for q in picks.queries],
        settings=settings.model_dump(mode="json", exclude_none=True),
        fingerprints=fingerprints,
        record=lambda choice: pool.raw(chosen[choice]),
    )


def _fingerprint(store: FeatureStore) -> dict[str, Any]:
    manifest = store.manifest
    files = [{"sha256": file.sha256, "rows": file.rows} for file in manifest.files]
    return manifest.settings() | {"files": files}


def _write_settings(settings: Settings, own: Own | None = None) -> None:
    if own is not None and own.objective is not None:
        say("no settings.yaml: no file can name an objective that was handed over in Python")
        return
    write_whole(settings.folder / "settings.yaml", settings.to_yaml().encode())
