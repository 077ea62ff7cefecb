"""Selection algorithms: from a Q × N similarity and a budget to an ordered list of columns.

A new algorithm is one new file and one line in ALGORITHMS.

Shapes: Q queries, N candidates, B budget.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from handpick.algorithms.checks import validate_request
from handpick.algorithms.doubly_greedy import doubly_greedy
from handpick.algorithms.facility_location import facility_location
from handpick.algorithms.importance import importance
from handpick.algorithms.knn_kde import knn_kde
from handpick.algorithms.knn_uniform import knn_uniform
from handpick.algorithms.mean_max import mean_max
from handpick.algorithms.protocol import Algorithm, Kernel, Picks, Similarity, inner_products
from handpick.algorithms.round_robin import round_robin
from handpick.algorithms.settings import AlgorithmSettings
from handpick.algorithms.uniform_random import uniform_random
from handpick.algorithms.uot import uot
from handpick.choices import look_up

if TYPE_CHECKING:
    import torch

__all__ = ["ALGORITHMS", "Algorithm", "AlgorithmSettings", "Picks", "Similarity", "find", "pick", "rank"]

ALGORITHMS: dict[str, Algorithm] = {
    "mean-max": Algorithm(
        mean_max,
        "mean over each subtask's queries, maximum over subtasks, largest first",
        "LESS, arXiv 2402.04333",
        reads=frozenset({"subtasks"}),
    ),
    "doubly-greedy": Algorithm(doubly_greedy, "maximum over queries, largest first", "TIS, arXiv 2602.14696"),
    "round-robin": Algorithm(
        round_robin,
        "queries take turns, each takes its most similar candidate not yet taken",
        "TIS, arXiv 2602.14696",
        reads=frozenset({"balanced", "subtasks"}),
    ),
    "knn-uniform": Algorithm(
        knn_uniform,
        "each query gives the same to its K nearest, most first",
        "TSDS algorithm 1, arXiv 2410.11303",
        reads=frozenset({"balanced", "subtasks", "settings"}),
    ),
    "knn-kde": Algorithm(
        knn_kde,
        "the same, less where candidates lie dense",
        "TSDS algorithm 2, arXiv 2410.11303",
        reads=frozenset({"balanced", "subtasks", "settings", "candidates"}),
    ),
    "uot": Algorithm(
        uot,
        "mass that unbalanced optimal transport moves from the queries, most first",
        "TIS, arXiv 2602.14696",
        reads=frozenset({"balanced", "subtasks", "settings"}),
        whole=True,
    ),
    "importance": Algorithm(
        importance,
        "a draw without replacement by log-weight: Gumbel top-k",
        "DSIR, arXiv 2302.03169",
        reads=frozenset({"seed", "settings"}),
    ),
    "facility-location": Algorithm(
        facility_location,
        "what adds most to the queries' nearness to the nearest pick",
        "ours, by lazy greedy",
        reads=frozenset({"balanced", "subtasks"}),
        whole=True,
    ),
    "random": Algorithm(
        uniform_random, "a uniform draw that the seed alone decides", "baseline", reads=frozenset({"seed"})
    ),
}


def find(algorithm: str) -> Algorithm:
    """Return the table's entry of that name.

    Raises:
        SettingsError: there is none; the message lists those there are.
    """
    return look_up(ALGORITHMS, algorithm, "algorithm")


def pick(
    similarity_QN: "NDArray[np.floating[Any]] | torch.Tensor | Similarity",
    budget: int,
    algorithm: str = "round-robin",
    *,
    subtasks: Sequence[str] | None = None,
    seed: int = 0,
    balanced: bool = False,
    candidates: Callable[[NDArray[np.int64]], NDArray[np.float32]] | None = None,
    kernel: Kernel = inner_products,
    settings: AlgorithmSettings | None = None,
) -> Picks:
    """Choose ``budget`` candidates and say, for each, what it was ranked on and which query it is for.

    Ties go to the candidate with the larger maximum over queries, then to the smaller index. The same
    input gives the same picks, and a smaller budget gives the head of a larger one's list.

    Args:
        similarity_QN: float16, float32, float64 or bfloat16 (Q, N), NumPy array, memory map or torch
            tensor, compared at its own precision; or a ``Similarity`` that is computed as it is read.
        budget: number of candidates to choose, from 1 to N.
        algorithm: a name in ALGORITHMS.
        subtasks: one label per query; algorithms that do not read labels ignore them.
        seed: for algorithms that draw; the others ignore it.
        balanced: every subtask counts the same, however many queries it has.
        candidates: features (C, E) of some columns, for algorithms that compare candidates with each other.
        kernel: makes similarities (A, B) of features (A, E) and (B, E); their inner products, where nothing is said.
        settings: of the algorithms.

    Raises:
        SimilarityError: the similarity is not a Q × N array of finite floats with Q, N ≥ 1.
        SettingsError: a setting is out of range or names no algorithm.
    """
    entry = find(algorithm)
    return entry.choose(validate_request(similarity_QN, budget, subtasks, seed, balanced, candidates, kernel, settings))


def rank(
    similarity_QN: "NDArray[np.floating[Any]] | torch.Tensor | Similarity",
    budget: int,
    algorithm: str = "round-robin",
    *,
    subtasks: Sequence[str] | None = None,
    seed: int = 0,
    balanced: bool = False,
    candidates: Callable[[NDArray[np.int64]], NDArray[np.float32]] | None = None,
    kernel: Kernel = inner_products,
    settings: AlgorithmSettings | None = None,
) -> NDArray[np.int64]:
    """Return the columns that ``pick`` chooses, in order of choice, int64 (B,); see there."""
    return pick(
        similarity_QN,
        budget,
        algorithm,
        subtasks=subtasks,
        seed=seed,
        balanced=balanced,
        candidates=candidates,
        kernel=kernel,
        settings=settings,
    ).columns
