"""From what there is to choose by to an order of candidates: one target's, or several that take turns.

Shapes: N candidates, B picks.
"""

from collections.abc import Iterator, Mapping
from itertools import islice

import numpy as np

from handpick.algorithms import AlgorithmSettings, Picks, pick
from handpick.algorithms.view import SimilarityView
from handpick.constraints import Order, Pick, Turn, combine_picks, split_between
from handpick.scorers.scoring_problem import ScoringProblem
from handpick.settings import Settings


def order_of(settings: Settings, problem: ScoringProblem, targets: Mapping[str, list[int]], expected: int) -> Order:
    """Return the order that the settings ask for; a smaller budget's is the head of a larger one's.

    Args:
        settings: of the run.
        problem: what to choose by.
        targets: the similarity's rows of every target that has a budget of its own; none if all share one.
        expected: how many will be chosen, about.
    """
    if not targets:
        return lambda budget: _rank_queries(settings, problem, list(range(problem.similarity.shape[0])), budget)
    orders: dict[str, Order] = {}
    for target, queries in targets.items():
        orders[target] = lambda budget, own=queries: _rank_queries(settings, problem, own, budget)  # type: ignore[misc]
    weights = settings.target_weight if settings.split == "weight" else dict.fromkeys(targets, 1.0)
    return _Turns(split_between(orders, weights, len(problem.rows), expected=expected))


def _rank_queries(settings: Settings, problem: ScoringProblem, queries: list[int], budget: int) -> Picks:
    """Return what the algorithm chooses for some queries; ``Picks.queries`` are rows of the whole similarity."""
    rows_Q = np.array(queries)
    is_all = len(queries) == problem.similarity.shape[0]
    picks = pick(
        problem.similarity if is_all else SimilarityView(problem.similarity, rows_Q),
        budget,
        settings.used_algorithm,
        subtasks=[problem.subtasks[query] for query in queries] if problem.subtasks else None,
        seed=settings.seed,
        balanced=settings.balanced,
        candidates=problem.candidates,
        kernel=problem.kernel,
        settings=AlgorithmSettings(**{name: getattr(settings, name) for name in AlgorithmSettings.model_fields}),
    )
    return Picks(picks.columns, picks.scores, np.where(picks.queries >= 0, rows_Q[picks.queries], -1))


class _Turns:
    """Several targets' turns as an order; what was drawn once is kept."""

    def __init__(self, turns: Iterator[Turn]) -> None:
        self._turns = turns
        self._drawn: list[Turn] = []

    def __call__(self, budget: int) -> Picks:
        self._drawn += islice(self._turns, max(0, budget - len(self._drawn)))
        return combine_picks(Pick(turn.column, turn.score, turn.query) for turn in self._drawn[:budget])
