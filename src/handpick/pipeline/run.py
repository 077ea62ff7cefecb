"""``select`` and ``represent``, from settings to what is written."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from handpick.algorithms import AlgorithmSettings, Picks, pick
from handpick.budget import Budget, longest_prefix
from handpick.data.pool import Pool
from handpick.data.quarantine import Quarantine
from handpick.data.render import Renderer
from handpick.errors import DataError, SettingsError
from handpick.methods import REPRESENTATIONS
from handpick.objectives.protocol import Objective
from handpick.pipeline.compared import Compared, Comparison, Data, representation_of, set_aside
from handpick.pipeline.features import Features, open_renderer
from handpick.pipeline.made_with import pool_store_path, resume_from_store, stored_as
from handpick.pipeline.objective import Own
from handpick.pipeline.rows import RowStores
from handpick.progress import say
from handpick.rewards import wrap
from handpick.selection import Selection
from handpick.settings import Settings, checked
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
    kind = REPRESENTATIONS[settings.used_representation]
    if kind.gives == "nothing":
        raise SettingsError(f"the method {settings.method} needs no features")
    if kind.gives != "features" or settings.used_representation == "gist":
        why = "has none" if kind.gives != "features" else "makes them for a query"
        raise SettingsError(f"no features to build: {settings.used_representation} {why}; use `handpick select`")
    if settings.score_only:
        raise SettingsError("score_only is for a selection: `represent` is there to keep the features")
    renderer = open_renderer(settings) if kind.needs_model else None
    pool = _open("pool", settings.pool, settings)
    if renderer is not None and stored_as(settings.used_representation) == "gradient":
        features = Features(settings, renderer, pool.pool)
        features.check()
        store = features.pool_store()
        set_aside(store, pool, features.pool_objective)
    else:
        representation = representation_of(settings, renderer)
        path = pool_store_path(settings)
        store = RowStores(settings, representation, path).pool_store(pool.pool, settings.storage)
        set_aside(store, pool, representation)
    _write_settings(settings)
    return store


def run_select(settings: Settings, own: Own | None = None) -> Run:
    """``select`` for settings that are already one object."""
    settings = resume_from_store(settings)
    run = _choose(settings, own)
    run.selection.save(settings.folder)
    _write_settings(settings, own)
    return run


def _open(name: str, sources: Sequence[str], settings: Settings) -> Data:
    if not sources:
        raise SettingsError(f"no {name} given: name a file or a data set with --{name}")
    suffix = "" if name == "pool" else f"-{name}"
    quarantine = Quarantine(settings.folder / f"quarantine{suffix}.jsonl", settings.max_quarantined)
    # Beside the features, so that every run that shares them shares the parsed pool.
    parsed = pool_store_path(settings).parent / "parsed"
    return Data(Pool.open(list(sources), cache=parsed, quarantine=quarantine), quarantine)


def _choose(settings: Settings, own: Own | None) -> Run:
    """What is small is looked at first: a pool may take an hour to read."""
    kind = REPRESENTATIONS[settings.used_representation]
    budget = Budget.parse(settings.budget)
    if budget.kind == "tokens" and settings.model is None:
        raise SettingsError("a budget in tokens is counted with the model's tokenizer: name one with --model")
    renderer = open_renderer(settings) if kind.needs_model or budget.kind == "tokens" else None
    sources = settings.query or [file for files in settings.target.values() for file in files]
    query = _open("query", sources, settings) if kind.needs_query else None
    pool = _open("pool", settings.pool, settings)
    if budget.kind != "tokens":
        budget.examples_needed(len(pool.pool))  # too large is said now, not after hours
    compared = Comparison(settings, renderer, pool, query, own).made()
    rows = compared.rows

    def n_tokens(column: int) -> int:
        assert renderer is not None
        return _n_tokens(pool.pool, renderer, rows[column])

    picks = _within(budget, len(rows), partial(_picks, settings, compared), n_tokens)
    if len(picks.columns) < len(compared.query_ids):
        say(f"{len(compared.query_ids)} queries and {len(picks.columns)} picks: not every query has one of its own")
    chosen = [rows[int(column)] for column in picks.columns]
    selection = Selection(
        ids=[pool.pool[row].id for row in chosen],
        scores=[float(score) for score in picks.scores],
        picked_for=compared.picked_for(picks),
        settings=settings.model_dump(mode="json", exclude_none=True),
        fingerprints=compared.fingerprints,
        record=lambda choice: pool.pool.raw(chosen[choice]),
        origins=[pool.pool.location(row) for row in chosen],
    )
    return Run(selection, pool.pool, None if query is None else query.pool, settings)


def _picks(settings: Settings, compared: Compared, budget: int) -> Picks:
    """What the algorithm chooses, as the settings have it."""
    return pick(
        compared.similarity, budget, settings.used_algorithm, subtasks=compared.subtasks or None, seed=settings.seed,
        balanced=settings.balanced, candidates=compared.candidates,
        settings=AlgorithmSettings(**{name: getattr(settings, name) for name in AlgorithmSettings.model_fields}),
    )  # fmt: skip


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


def _write_settings(settings: Settings, own: Own | None = None) -> None:
    if own is not None and own.objective is not None:
        say("no settings.yaml: no file can name an objective that was handed over in Python")
        return
    write_whole(settings.folder / "settings.yaml", settings.to_yaml().encode())
