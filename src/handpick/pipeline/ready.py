"""All that a choice needs: what is small is looked at first, since a pool may take an hour to read."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from handpick.budget import Budget
from handpick.data.pool import Pool
from handpick.data.quarantine import Quarantine
from handpick.data.render import Renderer
from handpick.errors import DataError, SettingsError
from handpick.methods import REPRESENTATIONS
from handpick.pipeline.compared import Compared, Comparison, Data
from handpick.pipeline.features import open_renderer
from handpick.pipeline.made_with import pool_store_path
from handpick.pipeline.objective import Own
from handpick.pipeline.overlap import OVERLAP_FILE, find_overlaps
from handpick.pipeline.within import check_constraints
from handpick.progress import say
from handpick.settings import Settings


@dataclass(frozen=True, slots=True)
class Ready:
    """All that a choice needs: what to choose by, and what from."""

    compared: Compared
    budget: Budget
    pool: Pool
    query: Pool | None
    renderer: Renderer | None


def make_ready(settings: Settings, own: Own | None, passing: Collection[str] = ()) -> Ready:
    """Compute what is missing. What is small is looked at first: a pool may take an hour to read.

    Args:
        settings: of the run.
        own: what the user handed over in Python.
        passing: ids of the pool that are not to be chosen from.
    """
    kind = REPRESENTATIONS[settings.used_representation]
    budget = Budget.parse(settings.budget)
    if budget.kind == "tokens" and settings.model is None:
        raise SettingsError("a budget in tokens is counted with the model's tokenizer: name one with --model")
    renderer = open_renderer(settings) if kind.needs_model or budget.kind == "tokens" else None
    sources = settings.query or [file for files in settings.target.values() for file in files]
    query = open_data("query", sources, settings) if kind.needs_query else None
    if query is not None and len(settings.target) > 1:
        check_targets_ids(settings)
    pool = open_data("pool", settings.pool, settings)
    comparison = Comparison(settings, renderer, pool, query, own)
    (settings.folder / OVERLAP_FILE).unlink(missing_ok=True)  # of an earlier run
    left_out = _overlapping(settings, pool.pool) if settings.exclude_overlap else set()
    if passing:
        left_out |= {row for row, example_id in enumerate(pool.pool.ids()) if example_id in passing}
    check_constraints(settings, pool.pool, left_out)
    if settings.unread:
        say(f"{settings.used_representation} does not look at {', '.join(settings.unread)}")
    compared = comparison.made()
    if left_out:
        compared = compared.without(left_out)
    return Ready(compared, budget, pool.pool, None if query is None else query.pool, renderer)


def open_data(name: str, sources: Sequence[str], settings: Settings) -> Data:
    if not sources:
        raise SettingsError(f"no {name} given: name a file or a data set with --{name}")
    suffix = "" if name == "pool" else f"-{name}"
    quarantine = Quarantine(settings.folder / f"quarantine{suffix}.jsonl", settings.max_quarantined)
    # Beside the features, so that every run that shares them shares the parsed pool.
    parsed = pool_store_path(settings).parent / "parsed"
    return Data(Pool.open(list(sources), cache=parsed, quarantine=quarantine), quarantine)


def check_targets_ids(settings: Settings) -> None:
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


def _overlapping(settings: Settings, pool: Pool) -> set[int]:
    """The rows that repeat an item of the test sets; each is written to overlap.jsonl with the item."""
    found = find_overlaps(pool, settings.exclude_overlap, settings.folder, settings.overlap_threshold)
    rows = {each.row for each in found}
    say(f"{len(rows):,} examples repeat an item of the test sets and are left out: {settings.folder / OVERLAP_FILE}")
    if len(rows) == len(pool):
        raise DataError("every example of the pool repeats an item of the test sets: nothing is left to choose from")
    return rows
