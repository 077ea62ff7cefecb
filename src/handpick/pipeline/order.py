"""From what there is to choose by to an order of candidates, or one of each target that has a budget of its own.

Shapes: N candidates, B picks.
"""

from collections.abc import Mapping

import numpy as np

from handpick.algorithms import AlgorithmSettings, Picks, pick
from handpick.algorithms.view import SimilarityView
from handpick.constraints import Order
from handpick.scorers.scoring_problem import ScoringProblem
from handpick.settings import Settings


def order_of(settings: Settings, problem: ScoringProblem, targets: Mapping[str, list[int]]) -> Order | dict[str, Order]:
    """Return the order that the settings ask for; a smaller budget's is the head of a larger one's.

    Args:
        settings: of the run.
        problem: what to choose by.
        targets: the similarity's rows of every target that has a budget of its own; none if all share one.
    """
    if not targets:
        return lambda budget: _rank_queries(settings, problem, list(range(problem.similarity.shape[0])), budget)
    orders: dict[str, Order] = {}
    for target, queries in targets.items():
        orders[target] = lambda budget, own=queries: _rank_queries(settings, problem, own, budget)  # type: ignore[misc]
    return orders


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
