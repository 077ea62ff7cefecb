"""All that a choice needs: what is small is looked at first, since a pool may take an hour to read."""

import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from handpick.budget import Budget
from handpick.data.pool import Pool
from handpick.data.quarantine import Quarantine
from handpick.data.render import Renderer
from handpick.errors import DataError, SettingsError
from handpick.methods import REPRESENTATIONS
from handpick.overlap import OVERLAP_FILE, find_overlaps
from handpick.pipeline.compared import Compared, Comparison, Data, subtask_labels, target_labels
from handpick.pipeline.features import open_renderer
from handpick.pipeline.made_with import pool_store_path
from handpick.pipeline.objective import Own
from handpick.pipeline.within import check_constraints
from handpick.progress import say
from handpick.settings import Settings, not_given


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
    sources = settings.query or [file for files in settings.target.values() for file in files]
    if kind.needs_query and not sources:  # before the model's tokenizer is loaded
        raise not_given("query")
    renderer = open_renderer(settings) if kind.needs_model or budget.kind == "tokens" else None
    query = open_data("query", sources, settings) if kind.needs_query else None
    if query is not None:
        check_queries(settings, query.pool)
    pool = open_data("pool", settings.pool, settings)
    comparison = Comparison(settings, renderer, pool, query, own)
    (settings.folder / OVERLAP_FILE).unlink(missing_ok=True)  # of an earlier run
    left_out = _overlapping(settings, pool.pool) if settings.exclude_overlap else set()
    if passing:
        left_out |= {row for row, example_id in enumerate(pool.pool.ids()) if example_id in passing}
    check_constraints(settings, pool.pool, left_out)
    if settings.unread:
        say(f"with these settings nothing looks at {', '.join(settings.unread)}")
    compared = comparison.made()
    if left_out:
        compared = compared.without(left_out)
    return Ready(compared, budget, pool.pool, None if query is None else query.pool, renderer)


def open_data(name: str, sources: Sequence[str], settings: Settings) -> Data:
    if not sources:
        raise not_given(name)
    suffix = "" if name == "pool" else f"-{name}"
    quarantine = Quarantine(settings.folder / f"quarantine{suffix}.jsonl", settings.max_quarantined)
    # Beside the features, so that every run that shares them shares the parsed pool.
    parsed = pool_store_path(settings).parent / "parsed"
    return Data(Pool.open(list(sources), cache=parsed, quarantine=quarantine), quarantine)


def check_queries(settings: Settings, query: Pool) -> None:
    """Look at the queries of all targets together, and of each by itself.

    Raises:
        DataError: two targets have an id in common, or no record of a target can be read.
        SettingsError: there is nothing to balance.
    """
    if len(settings.target) > 1:
        _check_targets_ids(settings)
    if settings.balanced:
        _check_balanced(settings, query)


def _check_targets_ids(settings: Settings) -> None:
    """Look at every target by itself, without a trace in the run's folder but the parsed records.

    Raises:
        DataError: two targets have an id in common, so that the second's query would be taken for a repetition; or
            no record of a target can be read.
    """
    target_of: dict[str, str] = {}
    for target, files in settings.target.items():
        for query_id in _ids_of(target, files, settings):
            if target_of.setdefault(query_id, target) != target:
                raise DataError(
                    f"the targets {target_of[query_id]!r} and {target!r} both have a query {query_id!r}; give every "
                    "query an id of its own"
                )


def _ids_of(target: str, files: list[str], settings: Settings) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:  # bad records stand in the quarantine of all queries together
        quarantine = Quarantine(Path(folder) / "quarantine.jsonl")
        try:
            return Pool.open(files, cache=pool_store_path(settings).parent / "parsed", quarantine=quarantine).ids()
        except DataError as error:
            raise DataError(
                f"no query of the target {target!r} can be used: no record of {', '.join(files)} can be read; mend "
                "them, or leave the target out"
            ) from error


def _check_balanced(settings: Settings, query: Pool) -> None:
    """Raise SettingsError where the queries of every budget are of one subtask: to balance them would do nothing."""
    subtasks_of: dict[str, set[str]] = {}
    for target, subtask in zip(target_labels(settings, query), subtask_labels(settings, query), strict=True):
        subtasks_of.setdefault(target if settings.splits_budget else "", set()).add(subtask)
    if max(map(len, subtasks_of.values())) < 2:
        raise SettingsError(
            "balanced counts every subtask of the queries the same, and they have fewer than two: name each query's in "
            "its field `subtask`, or leave balanced out"
        )


def _overlapping(settings: Settings, pool: Pool) -> set[int]:
    """The rows that repeat an item of the test sets; each is written to overlap.jsonl with the item."""
    found = find_overlaps(pool, settings.exclude_overlap, settings.folder, settings.overlap_threshold)
    rows = {each.row for each in found}
    say(f"{len(rows):,} examples repeat an item of the test sets and are left out: {settings.folder / OVERLAP_FILE}")
    if len(rows) == len(pool):
        raise DataError("every example of the pool repeats an item of the test sets: nothing is left to choose from")
    return rows
