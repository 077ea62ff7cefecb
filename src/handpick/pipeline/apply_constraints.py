"""The picks that the budget and the constraints leave of an algorithm's order."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from handpick.algorithms import Picks
from handpick.algorithms.protocol import inner_products
from handpick.budget import Budget, longest_prefix
from handpick.constraints import Examples, Order, PassedOver, Pick, Walk, combine_picks, parse_limit
from handpick.data.pool import Pool
from handpick.data.render import Renderer
from handpick.errors import DataError, SettingsError
from handpick.pipeline.order import order_of
from handpick.progress import log
from handpick.scorers.inputs import ChoiceLimits, Data, Inputs, target_labels
from handpick.scorers.scoring_problem import FeatureSpace, ScoringProblem
from handpick.settings import Settings


def apply_constraints(
    settings: Settings, problem: ScoringProblem, budget: Budget, inputs: Inputs
) -> tuple[Picks, PassedOver]:
    """Return the picks that the budget and the constraints leave; of a token budget, the longest prefix that fits.

    Raises:
        SettingsError: the budget is larger than what can be used, or as ``Walk``.
        DataError: as ``check_constraints``, or a target has no query that can be used.
    """
    pool, n = inputs.pool.pool, len(problem.rows)
    if budget.kind == "examples" and budget.amount > n:
        left = "" if problem.prefiltered is None else " that the prefilter leaves"
        raise SettingsError(
            f"the budget is {budget} examples and {n:,} of the pool's {len(pool):,}{left} can be used; give {n} at most"
        )
    count = None if budget.kind == "tokens" else budget.examples_needed(problem.n_candidates)
    if count is not None and count > n:
        raise SettingsError(
            f"the budget is {budget}, {count:,} examples, and the prefilter leaves {n:,} that can be used: give a "
            "smaller budget, or a larger --prefilter-share"
        )
    targets = {} if inputs.query is None else _own_budgets(settings, problem, inputs.query)
    order = order_of(settings, problem, targets)
    always = _always_columns(settings, problem.rows, pool)
    walk = _walk(settings, order, pool, problem.rows, count, always, problem.features)
    accepted: list[Pick] = []

    def n_tokens() -> Iterator[int]:
        for pick in walk:
            accepted.append(pick)
            yield _n_tokens(pool, inputs.model_renderer, int(problem.rows[pick.column]))

    if count is None:
        del accepted[longest_prefix(n_tokens(), int(budget.amount)) :]
        if len(accepted) < len(always):
            raise SettingsError(
                f"the budget is {budget} and the {len(always)} examples of {settings.always} have more; give more, or "
                "take some out"
            )
    else:
        accepted += walk
    if targets:
        taken = Counter(pick.target for pick in accepted)
        log("chosen for the targets: " + ", ".join(f"{taken[target]:,} for {target}" for target in targets))
    return combine_picks(accepted), walk.passed


def check_constraints(settings: Settings, pool: Pool, left_out: set[int]) -> None:
    """Say now what no selection could meet even if every record can be used.

    Raises:
        SettingsError: as ``Walk``.
        DataError: there are examples to keep always that are not in the pool.
    """
    rows_N = np.setdiff1d(np.arange(len(pool)), np.array(sorted(left_out), dtype=np.int64))
    _check_rows(settings, pool, rows_N, len(rows_N))


def limits_of(settings: Settings, pool: Pool, left_out: set[int]) -> ChoiceLimits:
    """Return what a choice must keep to, for a scorer that leaves candidates out on the way.

    Raises:
        DataError: as ``check_constraints``.
    """
    always = tuple(_always_columns(settings, np.arange(len(pool)), pool))
    return ChoiceLimits(frozenset(left_out), always, partial(_check_rows, settings, pool))


def _check_rows(settings: Settings, pool: Pool, rows_N: NDArray[np.int64], n_before: int) -> None:
    """Refuse candidates of which no selection can meet the constraints; a share is of all that there were before."""
    budget = Budget.parse(settings.budget)
    count = None if budget.kind == "tokens" else budget.examples_needed(n_before)

    def never(_: int) -> Picks:
        raise AssertionError("constraints that are only checked ask for no order")

    _walk(settings, never, pool, rows_N, count, _always_columns(settings, rows_N, pool), None)


def _walk(
    settings: Settings,
    order: Order | Mapping[str, Order],
    pool: Pool,
    rows_N: NDArray[np.int64],
    count: int | None,
    always: Sequence[int],
    features: FeatureSpace | None,
) -> Walk:
    """Return the constraints of a run, on columns that are these rows of the pool.

    Without ``features`` all but one.
    """
    sources = pool.column("source") if settings.max_share or settings.min_share else None
    if settings.max_cosine is None:
        features = None
    return Walk(
        order,
        len(rows_N),
        count,
        weights=settings.target_weight if isinstance(order, Mapping) and settings.split == "weight" else None,
        sources_N=None if sources is None else [sources[row] for row in rows_N],
        max_share=_limits(settings.max_share),
        min_share=_limits(settings.min_share),
        always=always,
        candidates=None if features is None else features.candidates,
        kernel=inner_products if features is None else features.kernel,
        max_cosine=None if features is None else settings.max_cosine,
    )


def _limits(written: Mapping[str, float | str]) -> dict[str, float | Examples]:
    return {source: parse_limit(limit) for source, limit in written.items()}


def _own_budgets(settings: Settings, problem: ScoringProblem, data: Data) -> dict[str, list[int]]:
    """Return the similarity's rows of every target that has a budget of its own."""
    if not settings.splits_budget:
        return {}
    query = data.pool
    target_of = dict(zip(query.ids(), target_labels(settings, query), strict=True))
    rows: dict[str, list[int]] = {target: [] for target in settings.target}
    for row, query_id in enumerate(problem.query_ids):
        rows[target_of[query_id]].append(row)
    if empty := [target for target, own in rows.items() if not own]:
        raise DataError(
            f"no query of the target {empty[0]!r} can be used: they are in {data.quarantine.path.name}, or are like "
            "nothing in the pool; leave the target out"
        )
    return rows


def _always_columns(settings: Settings, rows_N: NDArray[np.int64], pool: Pool) -> list[int]:
    """Return the columns of the examples that are chosen whatever the algorithm says.

    ``rows_N`` are the columns' rows.
    """
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


def _n_tokens(pool: Pool, renderer: Renderer, row: int) -> int:
    """Count the tokens of a whole conversation, before any cut."""
    try:
        return renderer(pool[row].messages, max_length=1 << 30).full_length
    except DataError:
        return 0  # it cannot be trained on, so it costs nothing
