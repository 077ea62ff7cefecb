"""``select`` and ``represent``, from settings to what is written."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handpick.algorithms import Picks
from handpick.budget import Budget, longest_prefix
from handpick.constraints import Candidates, Order, PassedOver, Pick, Walk, picks_of
from handpick.data.pool import Pool
from handpick.data.quarantine import Quarantine
from handpick.data.render import Renderer
from handpick.distance import Distances, distances
from handpick.errors import DataError, HandpickError, SettingsError
from handpick.methods import REPRESENTATIONS
from handpick.objectives.protocol import Objective
from handpick.pipeline.compared import Compared, Comparison, Data, representation_of, set_aside, target_labels
from handpick.pipeline.features import Features, open_renderer
from handpick.pipeline.made_with import pool_store_path, resume_from_store, stored_as
from handpick.pipeline.objective import Own
from handpick.pipeline.order import order_of
from handpick.pipeline.overlap import OVERLAP_FILE, find_overlaps
from handpick.pipeline.rows import RowStores
from handpick.progress import say
from handpick.rewards import wrap
from handpick.selection import Selection
from handpick.settings import Settings, checked
from handpick.similarity import written
from handpick.store import FeatureStore
from handpick.store.codec import row_norms, unit_rows
from handpick.store.files import write_whole

# examples of a selection, and pairs of them with queries, whose distances are measured without being asked for
_MEASURED, _PAIRS = 2000, 1_000_000


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
        stores = RowStores(settings, representation, pool_store_path(settings))
        store = stores.pool_store(pool.pool, settings.storage)
        set_aside(store, pool, stores.of_pool)
    _write_settings(settings)
    return store


def run_select(settings: Settings, own: Own | None = None) -> Run:
    """``select`` for settings that are already one object."""
    settings = resume_from_store(settings)
    run, compared, columns_B = _choose(settings, own)
    run.selection.save(settings.folder)
    _write_settings(settings, own)
    return replace(run, distances=_measured(settings, compared, columns_B))  # last: the selection stands without


def _open(name: str, sources: Sequence[str], settings: Settings) -> Data:
    if not sources:
        raise SettingsError(f"no {name} given: name a file or a data set with --{name}")
    suffix = "" if name == "pool" else f"-{name}"
    quarantine = Quarantine(settings.folder / f"quarantine{suffix}.jsonl", settings.max_quarantined)
    # Beside the features, so that every run that shares them shares the parsed pool.
    parsed = pool_store_path(settings).parent / "parsed"
    return Data(Pool.open(list(sources), cache=parsed, quarantine=quarantine), quarantine)


@dataclass(frozen=True, slots=True)
class _Ready:
    """All that a choice needs: what to choose by, and what from."""

    compared: Compared
    budget: Budget
    pool: Pool
    query: Pool | None
    renderer: Renderer | None


def _ready(settings: Settings, own: Own | None) -> _Ready:
    """Compute what is missing. What is small is looked at first: a pool may take an hour to read."""
    kind = REPRESENTATIONS[settings.used_representation]
    budget = Budget.parse(settings.budget)
    if budget.kind == "tokens" and settings.model is None:
        raise SettingsError("a budget in tokens is counted with the model's tokenizer: name one with --model")
    renderer = open_renderer(settings) if kind.needs_model or budget.kind == "tokens" else None
    sources = settings.query or [file for files in settings.target.values() for file in files]
    query = _open("query", sources, settings) if kind.needs_query else None
    if query is not None and len(settings.target) > 1:
        _check_targets_ids(settings)
    pool = _open("pool", settings.pool, settings)
    comparison = Comparison(settings, renderer, pool, query, own)
    (settings.folder / OVERLAP_FILE).unlink(missing_ok=True)  # of an earlier run
    left_out = _overlapping(settings, pool.pool) if settings.exclude_overlap else set()
    _check_constraints(settings, pool.pool, left_out)
    if settings.unread:
        say(f"{settings.used_representation} does not look at {', '.join(settings.unread)}")
    compared = comparison.made()
    if left_out:
        compared = compared.without(left_out)
    return _Ready(compared, budget, pool.pool, None if query is None else query.pool, renderer)


def _check_targets_ids(settings: Settings) -> None:
    """Raise DataError where two targets have an id in common: the second's query would be taken for a repetition."""
    target_of: dict[str, str] = {}
    for target, files in settings.target.items():
        unread = Quarantine(settings.folder / "quarantine-query.jsonl", None)
        alone = Pool.open(files, cache=pool_store_path(settings).parent / "parsed", quarantine=unread)
        for query_id in alone.ids():
            if target_of.setdefault(query_id, target) != target:
                raise DataError(
                    f"the targets {target_of[query_id]!r} and {target!r} both have a query {query_id!r}; give every "
                    "query an id of its own"
                )


def _choose(settings: Settings, own: Own | None) -> tuple[Run, Compared, NDArray[np.int64]]:
    ready = _ready(settings, own)
    compared, pool = ready.compared, ready.pool
    picks, passed = _within(settings, ready)
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


def _within(settings: Settings, ready: _Ready) -> tuple[Picks, PassedOver]:
    """The picks that the budget and the constraints leave; of a token budget, the longest prefix that fits."""
    compared, budget, pool, renderer = ready.compared, ready.budget, ready.pool, ready.renderer
    n = len(compared.rows)
    if budget.kind == "examples" and budget.amount > n:
        raise SettingsError(
            f"the budget is {budget} examples and {n:,} of the pool's {len(pool):,} can be used; give {n} at most"
        )
    count = None if budget.kind == "tokens" else budget.examples_needed(n)
    targets = {} if ready.query is None else _own_budgets(settings, compared, ready.query)
    order = order_of(settings, compared, targets, count or 1000)
    always = _always(settings, compared.rows, pool)
    walk = _walk(settings, order, pool, compared.rows, count, always, compared.candidates)
    accepted: list[Pick] = []

    def n_tokens() -> Iterator[int]:
        assert renderer is not None
        for pick in walk:
            accepted.append(pick)
            yield _n_tokens(pool, renderer, int(compared.rows[pick.column]))

    if count is None:
        del accepted[longest_prefix(n_tokens(), int(budget.amount)) :]
        if len(accepted) < len(always):
            raise SettingsError(
                f"the budget is {budget} and the {len(always)} examples of {settings.always} have more; give more, or "
                "take some out"
            )
    else:
        accepted += walk
    return picks_of(accepted), walk.passed


def _walk(
    settings: Settings, order: Order, pool: Pool, rows_N: NDArray[np.int64], count: int | None, always: Sequence[int],
    candidates: Candidates | None,
) -> Walk:  # fmt: skip
    """The constraints of a run, on columns that are these rows of the pool; without ``candidates`` all but one."""
    sources = pool.column("source") if settings.max_share or settings.min_share else None
    max_cosine = None if candidates is None else settings.max_cosine
    return Walk(
        order, len(rows_N), count, sources_N=None if sources is None else [sources[row] for row in rows_N],
        max_share=settings.max_share, min_share=settings.min_share, always=always,
        candidates=None if max_cosine is None else candidates, max_cosine=max_cosine,
    )  # fmt: skip


def _check_constraints(settings: Settings, pool: Pool, left_out: set[int]) -> None:
    """Say now what no selection could meet even if every record can be used.

    Raises:
        SettingsError: as ``Walk``.
        DataError: there are examples to keep always that are not in the pool.
    """
    rows_N = np.setdiff1d(np.arange(len(pool)), np.array(sorted(left_out), dtype=np.int64))
    budget = Budget.parse(settings.budget)
    count = None if budget.kind == "tokens" else budget.examples_needed(len(rows_N))

    def never(_: int) -> Picks:
        raise AssertionError("constraints that are only checked ask for no order")

    _walk(settings, never, pool, rows_N, count, _always(settings, rows_N, pool), None)


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
    ready = _ready(settings.model_copy(update={"budget": "100%"}), None)
    path = settings.folder / "similarity.npy"
    path.parent.mkdir(parents=True, exist_ok=True)
    written(ready.compared.similarity, path)
    ids = ready.pool.ids()
    names = {"queries": ready.compared.query_ids, "examples": [ids[row] for row in ready.compared.rows]}
    write_whole(path.with_suffix(".json"), json.dumps(names, ensure_ascii=False).encode())
    _write_settings(settings)
    return settings.folder


def run_distance(folder: Path, subsets: Mapping[str, Sequence[str]], seed: int = 0) -> dict[str, Distances]:
    """How far subsets of a run's pool are from its queries, in the run's features.

    Args:
        folder: of a finished selection.
        subsets: ids by a name of one's own, beside the selection itself and a random draw of its size.
        seed: of the draw.

    Raises:
        StoreError: there is no selection.
        SettingsError: the run's representation has no features to measure by.
        DataError: an id is not in the pool, or could not be represented.
    """
    selection = Selection.open(folder)
    settings = resume_from_store(Settings.from_yaml(folder / "settings.yaml"))
    settings = settings.model_copy(update={"out": str(folder)})  # where it lies now, and not where it was made
    ready = _ready(settings, None)
    compared = ready.compared
    if compared.candidates is None or compared.queries is None:
        raise SettingsError(f"{settings.used_representation} has no features to measure distances by")
    ids = ready.pool.ids()
    column_of = {ids[row]: column for column, row in enumerate(compared.rows.tolist())}
    named = {str(folder): selection.ids, **subsets}
    columns = {name: _columns(name, own, column_of) for name, own in named.items()}
    return _distances(compared, columns | _drawn(compared, len(selection), seed))


def _measured(settings: Settings, compared: Compared, columns_B: NDArray[np.int64]) -> dict[str, Distances] | None:
    """Distances of a new selection, also written to ``distances.json``, where that takes a moment only."""
    (settings.folder / "distances.json").unlink(missing_ok=True)  # of an earlier selection
    if compared.candidates is None or find_spec("ot") is None:
        return None
    if len(columns_B) > _MEASURED or len(columns_B) * compared.similarity.shape[0] > _PAIRS:
        return None
    try:
        found = _distances(compared, {"selection": columns_B} | _drawn(compared, len(columns_B), settings.seed))
    except HandpickError as error:  # the selection stands all the same
        say(f"no distances: {error}")
        return None
    text = json.dumps({name: asdict(each) for name, each in found.items()}, indent=1)
    write_whole(settings.folder / "distances.json", text.encode())
    return found


def _drawn(compared: Compared, count: int, seed: int) -> dict[str, NDArray[np.int64]]:
    """A random draw, to hold a subset against."""
    order = np.random.Generator(np.random.PCG64(seed)).permutation(len(compared.rows))
    return {f"random {count:,}": np.sort(order[:count])}


def _distances(compared: Compared, columns: Mapping[str, NDArray[np.int64]]) -> dict[str, Distances]:
    assert compared.candidates is not None
    assert compared.queries is not None  # what has features of candidates has the queries' too
    query_QE = _unit(compared.queries())
    found: dict[str, Distances] = {}
    for name, columns_B in columns.items():
        subset_BE = _unit(compared.candidates(columns_B))
        if not len(subset_BE):
            raise DataError(f"{name} has no example whose features are not zero: there is no distance to measure")
        found[name] = distances(query_QE @ subset_BE.T, query_QE @ query_QE.T, subset_BE @ subset_BE.T)
    return found


def _columns(name: str, ids: Sequence[str], column_of: Mapping[str, int]) -> NDArray[np.int64]:
    if missing := [example_id for example_id in ids if example_id not in column_of]:
        raise DataError(
            f"{len(missing)} ids of {name} were left out or set aside in this run, or are not in its pool, "
            f"the first {missing[0]!r}"
        )
    return np.array([column_of[example_id] for example_id in ids], dtype=np.int64)


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows at unit norm, as those of several checkpoints are not where one is zero; without rows that are all zero."""
    norms = row_norms(rows)
    return unit_rows(rows, norms)[norms > 0]


def _own_budgets(settings: Settings, compared: Compared, query: Pool) -> dict[str, list[int]]:
    """The similarity's rows of every target that has a budget of its own."""
    if len(settings.target) < 2 or settings.split == "shared":
        return {}
    target_of = dict(zip(query.ids(), target_labels(settings, query), strict=True))
    rows: dict[str, list[int]] = {target: [] for target in settings.target}
    for row, query_id in enumerate(compared.query_ids):
        rows[target_of[query_id]].append(row)
    if empty := [target for target, own in rows.items() if not own]:
        raise DataError(f"no query of the target {empty[0]!r} can be used: see quarantine-query.jsonl, or leave it out")
    return rows


def _always(settings: Settings, rows_N: NDArray[np.int64], pool: Pool) -> list[int]:
    """The columns of the examples that are chosen whatever the algorithm says; ``rows_N`` are the columns' rows."""
    if settings.always is None:
        return []
    try:
        lines = Path(settings.always).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{settings.always} cannot be read: {error}; give a file of ids, one a line") from error
    ids = pool.ids()
    column_of = {ids[row]: column for column, row in enumerate(rows_N.tolist())}
    wanted = [line.strip() for line in lines if line.strip()]
    if twice := [example_id for example_id, count in Counter(wanted).items() if count > 1]:
        raise SettingsError(f"{settings.always} names {twice[0]!r} twice; once is enough")
    if missing := [example_id for example_id in wanted if example_id not in column_of]:
        raise DataError(
            f"{len(missing)} ids of {settings.always} are not in the pool or cannot be used, the first {missing[0]!r}; "
            "take them out"
        )
    return [column_of[example_id] for example_id in wanted]


def _overlapping(settings: Settings, pool: Pool) -> set[int]:
    """The rows that repeat an item of the test sets; each is written to overlap.jsonl with the item."""
    found = find_overlaps(pool, settings.exclude_overlap, settings.folder, settings.overlap_threshold)
    rows = {each.row for each in found}
    say(f"{len(rows):,} examples repeat an item of the test sets and are left out: {settings.folder / OVERLAP_FILE}")
    if len(rows) == len(pool):
        raise DataError("every example of the pool repeats an item of the test sets: nothing is left to choose from")
    return rows


def _n_tokens(pool: Pool, renderer: Renderer, row: int) -> int:
    """Tokens of a whole conversation, before any cut."""
    try:
        return renderer(pool[row].messages, max_length=1 << 30).full_length
    except DataError:
        return 0  # it cannot be trained on, so it costs nothing


def _write_settings(settings: Settings, own: Own | None = None) -> None:
    if own is not None and own.objective is not None:
        (settings.folder / "settings.yaml").unlink(missing_ok=True)  # of an earlier run
        say("no settings.yaml: no file can name an objective that was handed over in Python")
        return
    write_whole(settings.folder / "settings.yaml", settings.to_yaml().encode())
