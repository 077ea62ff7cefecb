"""KNN-uniform and KNN-KDE against TSDS's two algorithms written down once more, in loops over Python numbers."""

import heapq
import importlib
import math
import os
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from handpick.algorithms.knn_kde import densities, kde_mass, knn_kde
from handpick.algorithms.knn_mass import sum_mass
from handpick.algorithms.knn_uniform import knn_uniform, uniform_mass
from handpick.algorithms.matrix import Matrix
from handpick.algorithms.protocol import Picks, Request
from handpick.algorithms.settings import AlgorithmSettings
from handpick.errors import SettingsError

DATA = Path(os.environ.get("HANDPICK_DATA", Path(__file__).parents[3] / "shared" / "data"))

Array = NDArray[np.floating]
Choose = Callable[..., Picks]
kde_module = importlib.import_module("handpick.algorithms.knn_kde")  # the package offers a function of that name
both = pytest.mark.parametrize("choose", [knn_uniform, knn_kde])


# The papers' algorithms. Distances are lists of each query's nearest, nearest first.


def uniform_by_loops(distance: list[list[float]], alpha: float, scale: float) -> list[list[float]]:
    """Algorithm 1, grown one place at a time."""
    n_queries, length = len(distance), len(distance[0])
    used = 1
    while used < length:
        cost = sum(row[used] - row[k] for row in distance for k in range(used))
        if alpha / scale * cost >= (1 - alpha) * n_queries:
            break
        used += 1
    return [[1 / (used * n_queries)] * used + [0.0] * (length - used) for _ in distance]


def spread(density: list[list[float]], level: float) -> list[list[float]]:
    """Every query gives 1 / (level · Q · density) to each in turn while it has mass, and the last what is left."""
    plan = []
    for row in density:
        left, given_ = 1 / len(density), []
        for rho in row[:-1]:
            given_.append(min(left, 1 / (level * len(density) * rho)))
            left -= given_[-1]
        plan.append([*given_, left])
    return plan


def kde_by_heap(distance: list[list[float]], density: list[list[float]], alpha: float, scale: float) -> float:
    """The level that algorithm 2 ends at; the cost is added up anew at every step."""
    full = [0] * len(distance)
    heap = [(1 / row[0], query) for query, row in enumerate(density)]
    heapq.heapify(heap)
    level = 0.0
    while heap:
        level, query = heapq.heappop(heap)
        full[query] += 1
        cost = sum(
            (near[places] - near[k]) / rho[k]
            for near, rho, places in zip(distance, density, full, strict=True)
            for k in range(places)
        )
        if alpha / scale * cost >= (1 - alpha) * len(distance):
            break
        if full[query] < len(density[query]) - 1:
            heapq.heappush(heap, (level + 1 / density[query][full[query]], query))
    return level


def density_by_loops(features: Array, among: list[int], width: float, neighbours: int) -> dict[int, float]:
    rows = features[among].astype(float)
    found = {}
    for one, similarities in zip(among, (rows @ rows.T).tolist(), strict=True):
        kernel = []
        for other, similarity in zip(among, similarities, strict=True):
            squared = 2 * (1 - similarity)
            kernel.append(1.0 if one == other else min(1.0, max(0.0, 1 - squared / width**2)))
        found[one] = math.fsum(sorted(kernel, reverse=True)[:neighbours])
    return found


def nearest_by_sorting(matrix: Array, length: int) -> list[list[int]]:
    largest = matrix.max(axis=0)
    columns = range(matrix.shape[1])
    return [sorted(columns, key=lambda n: (-row[n], -largest[n], n))[:length] for row in matrix]


def total(columns: list[list[int]], plan: list[list[float]], n_candidates: int) -> list[float]:
    mass: list[list[float]] = [[] for _ in range(n_candidates)]
    for row, parts in zip(columns, plan, strict=True):
        for n, part in zip(row, parts, strict=True):
            mass[n].append(part)
    return [math.fsum(parts) for parts in mass]


def mass_by_the_paper(choose: Choose, matrix: Array, features: Array, given_: AlgorithmSettings) -> list[float]:
    n_candidates = matrix.shape[1]
    length = min(given_.knn_neighbours, n_candidates if choose is knn_uniform else max(1, n_candidates // 10))
    columns = nearest_by_sorting(matrix, length)
    distance = [[1 - float(row[n]) for n in own] for row, own in zip(matrix, columns, strict=True)]
    if choose is knn_uniform:
        return total(columns, uniform_by_loops(distance, given_.knn_alpha, given_.knn_scale), n_candidates)
    among = sorted({n for own in columns for n in own})
    density = dict.fromkeys(among, 1.0)
    if given_.kde_width:
        neighbours = min(given_.kde_neighbours, max(1, n_candidates // 10))
        density = density_by_loops(features, among, given_.kde_width, neighbours)
    rows = [[density[n] for n in own] for own in columns]
    level = 1.0 if length == 1 else kde_by_heap(distance, rows, given_.knn_alpha, given_.knn_scale)
    return total(columns, spread(rows, level), n_candidates)


# What is put to them.


def even(n_queries: int) -> Array:
    return np.full(n_queries, 1 / n_queries)


def unit_rows(generator: np.random.Generator, n: int, dim: int = 4) -> Array:
    rows = generator.standard_normal((n, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def requested(matrix: Array, features: Array, budget: int | None = None, **changed: object) -> Request:
    settings_ = AlgorithmSettings.model_validate(changed)
    return Request(
        Matrix(matrix), budget or matrix.shape[1], candidates=lambda columns: features[columns], settings=settings_
    )


def scattered(picks: Picks) -> list[float]:
    """The mass of every candidate, from picks of all of them."""
    mass = np.empty(picks.columns.size)
    mass[picks.columns] = picks.scores
    return mass.tolist()


@st.composite
def cases(draw: st.DrawFn) -> tuple[Array, Array, dict[str, float]]:
    """Similarity, features and settings; with few distinct values ties abound, and features are not of unit length.

    No threshold is a short binary fraction as the tied values are, so none is met exactly but for rounding.
    """
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    n_queries, n_candidates = draw(st.integers(1, 5)), draw(st.integers(1, 70))
    if draw(st.booleans()):
        matrix = (generator.integers(-4, 5, (n_queries, n_candidates)) / 4).astype(np.float32)
        features = (generator.integers(-2, 3, (n_candidates, 3)) / 2).astype(np.float32)
    else:
        features = unit_rows(generator, n_candidates)
        matrix = unit_rows(generator, n_queries) @ features.T
    changed = {
        "knn_alpha": draw(st.sampled_from([0.013, 0.37, 0.71])),
        "knn_scale": draw(st.sampled_from([0.7, 1.3, 5.1])),
        "knn_neighbours": draw(st.sampled_from([1, 3, 6, 5000])),
        "kde_width": draw(st.sampled_from([0.0, 0.3, 0.75, 1.9])),
        "kde_neighbours": draw(st.sampled_from([1, 2, 4, 1000])),
    }
    return matrix, features, changed


@both
@settings(max_examples=120, deadline=None)
@given(case=cases())
def test_masses_are_the_papers(choose: Choose, case: tuple[Array, Array, dict[str, float]]) -> None:
    matrix, features, changed = case
    picks = choose(requested(matrix, features, **changed))
    expected = mass_by_the_paper(choose, matrix, features, AlgorithmSettings.model_validate(changed))
    assert scattered(picks) == pytest.approx(expected, rel=1e-4, abs=1e-7)
    assert sum(expected) == pytest.approx(1)
    assert (picks.columns.dtype, picks.scores.dtype, picks.queries.dtype) == (np.int64, np.float32, np.int64)


@settings(max_examples=120, deadline=None)
@given(case=cases())
def test_the_order_is_by_mass_then_largest_similarity_then_index(case: tuple[Array, Array, dict[str, float]]) -> None:
    """In full for the one whose masses are multiples of 1/(K·Q), and so tie exactly."""
    matrix, features, changed = case
    expected = mass_by_the_paper(knn_uniform, matrix, features, AlgorithmSettings.model_validate(changed))
    mass = [round(value, 12) for value in expected]
    largest = matrix.max(axis=0)
    order = sorted(range(len(mass)), key=lambda n: (-mass[n], -largest[n], n))
    assert knn_uniform(requested(matrix, features, **changed)).columns.tolist() == order
    # Where densities are 1 and the last place of a list gets nothing, so do those of the other.
    level_masses = {**changed, "kde_width": 0.0}
    expected = mass_by_the_paper(knn_kde, matrix, features, AlgorithmSettings.model_validate(level_masses))
    mass = [round(value, 12) for value in expected]
    order = sorted(range(len(mass)), key=lambda n: (-mass[n], -largest[n], n))
    assert knn_kde(requested(matrix, features, **level_masses)).columns.tolist() == order


@both
@settings(max_examples=60, deadline=None)
@given(case=cases())
def test_the_whole_pool_is_a_permutation_and_smaller_budgets_are_its_heads(
    choose: Choose, case: tuple[Array, Array, dict[str, float]]
) -> None:
    matrix, features, changed = case
    n_candidates = matrix.shape[1]
    whole = choose(requested(matrix, features, **changed))
    assert sorted(whole.columns) == list(range(n_candidates))
    assert (np.diff(whole.scores) <= 0).all()
    for budget in {1, (n_candidates + 1) // 2, max(1, n_candidates - 1)}:
        head = choose(requested(matrix, features, budget, **changed))
        assert head.columns.tolist() == whole.columns[:budget].tolist()
        assert head.scores.tolist() == whole.scores[:budget].tolist()
        assert head.queries.tolist() == whole.queries[:budget].tolist()


@both
def test_permuting_candidates_only_relabels_them(choose: Choose) -> None:
    generator = np.random.default_rng(3)
    features = unit_rows(generator, 200)
    matrix = unit_rows(generator, 5) @ features.T
    new_to_old = generator.permutation(200)
    changed = {"knn_alpha": 0.4, "knn_scale": 0.5, "kde_width": 0.6}
    plain = choose(requested(matrix, features, **changed))
    permuted = choose(requested(matrix[:, new_to_old], features[new_to_old], **changed))
    assert new_to_old[permuted.columns].tolist() == plain.columns.tolist()
    assert permuted.queries.tolist() == plain.queries.tolist()


@both
def test_queries_given_twice_change_nothing_if_all_are_or_if_subtasks_are_balanced(choose: Choose) -> None:
    generator = np.random.default_rng(5)
    features = unit_rows(generator, 150)
    matrix = unit_rows(generator, 2) @ features.T
    changed = {"knn_alpha": 0.4, "knn_scale": 0.5, "kde_width": 0.6}
    once = choose(requested(matrix, features, **changed))
    all_twice = choose(requested(matrix[[0, 1, 0, 1]], features, **changed))
    assert all_twice.columns.tolist() == once.columns.tolist()
    assert all_twice.scores == pytest.approx(once.scores)

    def second_twice(balanced: bool) -> Picks:
        request = requested(matrix[[0, 1, 1]], features, **changed)
        return choose(
            Request(
                request.similarity,
                request.budget,
                subtasks=("a", "b", "b"),
                balanced=balanced,
                candidates=request.candidates,
                settings=request.settings,
            )
        )

    assert second_twice(balanced=True).columns.tolist() == once.columns.tolist()
    assert second_twice(balanced=True).scores == pytest.approx(once.scores)
    assert second_twice(balanced=False).columns.tolist() != once.columns.tolist()


@both
def test_a_similarity_in_blocks_gives_the_same_and_is_read_once(choose: Choose) -> None:
    class Streamed(Matrix):
        passes = 0

        def blocks(self) -> Iterator[tuple[int, Array]]:
            self.passes += 1
            for start in range(0, self.shape[1], 7):
                block = self.columns(np.arange(start, min(start + 7, self.shape[1])))
                yield start, block
                block[:] = np.nan  # whoever keeps a block keeps this

    generator = np.random.default_rng(6)
    features = unit_rows(generator, 120)
    matrix = (unit_rows(generator, 5) @ features.T).astype(np.float16)
    expected = choose(requested(matrix, features))
    streamed = Streamed(matrix)
    picks = choose(Request(streamed, 120, candidates=lambda columns: features[columns]))
    assert picks.columns.tolist() == expected.columns.tolist()
    assert picks.scores.tolist() == expected.scores.tolist()
    assert picks.queries.tolist() == expected.queries.tolist()
    assert streamed.passes == 1


def test_a_picks_query_is_who_gave_most_or_else_who_is_nearest() -> None:
    mass = sum_mass(np.array([[4, 7], [7, 4], [2, 4]]), np.array([[0.1, 0.2], [0.2, 0.3], [0.1, 0.0]]))
    assert mass.columns.tolist() == [2, 4, 7]
    assert mass.total.tolist() == pytest.approx([0.1, 0.4, 0.4])
    assert mass.queries.tolist() == [2, 1, 0]
    matrix = np.array([[0.9, 0.1, 0.2, 0.3], [0.8, 0.7, 0.1, 0.4]], dtype=np.float32)
    picks = knn_uniform(requested(matrix, matrix.T, knn_neighbours=1))
    assert picks.columns.tolist() == [0, 1, 3, 2]
    assert picks.scores.tolist() == [1, 0, 0, 0]
    assert picks.queries.tolist() == [0, 1, 1, 0]
    # The first query weighs as much as the two others together, and gives most to one that is nearer to the second.
    matrix = np.array([[0.5, 0.1], [0.9, 0.1], [0.1, 0.2]], dtype=np.float32)
    alone = AlgorithmSettings(knn_neighbours=1)
    picks = knn_uniform(Request(Matrix(matrix), 2, subtasks=("a", "b", "b"), balanced=True, settings=alone))
    assert picks.scores.tolist() == [0.75, 0.25]
    assert picks.queries.tolist() == [0, 2]


def test_equal_parts_from_other_queries_tie() -> None:
    """0.1 + 0.2 + 0.3 is not 0.3 + 0.2 + 0.1 in floating point."""
    parts = np.array([[0.1, 0.3], [0.2, 0.2], [0.3, 0.1]])
    mass = sum_mass(np.tile([0, 1], (3, 1)), parts)
    assert 0.1 + 0.2 + 0.3 != 0.3 + 0.2 + 0.1  # `sum` of Python 3.12 and newer rounds once, and says they are equal
    assert mass.total[0] == mass.total[1]


# The level that is chosen minimises what the paper minimises.


@st.composite
def lists(draw: st.DrawFn) -> tuple[Array, Array, Array, float, float]:
    """Distances, densities, weights, alpha and scale, all generic."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = draw(st.integers(1, 5)), draw(st.integers(2, 12))
    mass = generator.random(shape[0]) + 0.1
    distance = np.sort(generator.random(shape), axis=1)
    return (
        distance,
        1 + 9 * generator.random(shape),
        mass / mass.sum(),
        draw(st.floats(0.05, 0.95)),
        draw(st.sampled_from([0.02, 0.2, 1.0, 5.0])),
    )


@settings(max_examples=100, deadline=None)
@given(case=lists())
def test_no_other_level_costs_less(case: tuple[Array, Array, Array, float, float]) -> None:
    distance, density, mass, alpha, scale = case

    def objective(plan: Array) -> float:
        """The cost of moving the mass, and the largest density-weighted share of any place but the last."""
        share = (plan * density / mass[:, None])[:, :-1].max()
        return float(alpha / scale * (plan * distance).sum() + (1 - alpha) * share)

    chosen, _ = kde_mass(distance, density, mass, alpha, scale)
    assert chosen.sum(axis=1) == pytest.approx(mass)
    levels = np.cumsum(1 / density, axis=1)[:, :-1].ravel()
    others = [np.array(spread(density.tolist(), level)) * len(mass) * mass[:, None] for level in levels]
    assert objective(chosen) == pytest.approx(min(objective(plan) for plan in others))


@settings(max_examples=100, deadline=None)
@given(case=lists())
def test_no_other_number_of_places_costs_less(case: tuple[Array, Array, Array, float, float]) -> None:
    distance, _, mass, alpha, scale = case
    costs = [
        alpha / scale * float(mass @ distance[:, :used].mean(axis=1)) + (1 - alpha) / used
        for used in range(1, distance.shape[1] + 1)
    ]
    chosen = uniform_mass(distance, mass, alpha, scale)
    assert costs[chosen.shape[1] - 1] == pytest.approx(min(costs))
    assert chosen.sum(axis=1) == pytest.approx(mass)


@pytest.mark.parametrize(("third", "used"), [(0.625, 2), (0.5625, 3)])
def test_places_are_added_while_the_condition_is_below_and_no_more_when_it_is_met(third: float, used: int) -> None:
    """With alpha 0.5 and scale 1 the threshold is 1; to go on to the third place costs 1 exactly, or less."""
    distance = np.array([[0.0, 0.25, third, 0.75]] * 2)
    assert uniform_mass(distance, even(2), 0.5, 1.0).tolist() == [[0.5 / used] * used] * 2
    chosen, _ = kde_mass(distance, np.ones((2, 4)), even(2), 0.5, 1.0)
    assert chosen.tolist() == [[0.5 / used] * used + [0] * (4 - used)] * 2


def test_full_places_of_equal_density_tie() -> None:
    """0.1 added up eight times, less 0.1 added up seven times, is less than 0.1 in floating point."""
    plan, _ = kde_mass(np.zeros((1, 9)), np.full((1, 9), 10.0), even(1), 0.5, 1.0)
    assert len(set(plan[0, :8].tolist())) == 1


def test_crowded_candidates_share_what_one_alone_would_get() -> None:
    """Three copies, then two that stand alone: each copy gets a third."""
    distance = np.array([[0.1, 0.1, 0.1, 0.2, 0.3, 0.4]])
    chosen, _ = kde_mass(distance, np.array([[3.0, 3.0, 3.0, 1.0, 1.0, 1.0]]), even(1), 0.1, 1.0)
    assert chosen[0, 3:5] == pytest.approx(chosen[0, :3].sum())


def test_a_level_below_the_first_room_of_a_query_never_gives_it_more_than_it_has() -> None:
    """The first query is crowded in and stops the level early; the second has one place, half full."""
    distance = np.array([[0.0, 1.0, 2.0], [0.0, 0.0, 0.0]])
    chosen, _ = kde_mass(distance, np.array([[2.0, 2.0, 2.0], [1.0, 1.0, 1.0]]), even(2), 0.9, 0.01)
    assert chosen.tolist() == [[0.5, 0, 0], [0.5, 0, 0]]


# Densities.


def test_a_density_counts_the_candidate_itself_and_near_ones_by_how_near_they_are() -> None:
    features = np.array([[1, 0], [1, 0], [0.8, 0.6], [0, 1], [0, 0]], dtype=np.float32)
    found = densities(lambda columns: features[columns], np.arange(5), width=1.0, neighbours=5)
    # 1 and the copy; squared distance 0.4 to the third; the fourth is 0.8 from the third, the last 2 from all
    assert found == pytest.approx([2.6, 2.6, 1 + 0.6 + 0.6 + 0.2, 1.2, 1.0])
    nearest_two = densities(lambda columns: features[columns], np.arange(5), width=1.0, neighbours=2)
    assert nearest_two == pytest.approx([2, 2, 1.6, 1.2, 1])


@pytest.mark.parametrize("width", [1e-200, 1e-20, 1e-4])
def test_a_very_small_width_leaves_everybody_alone_but_for_copies(width: float) -> None:
    features = np.array([[1, 0], [1, 0], [0.8, 0.6]], dtype=np.float32)
    assert densities(lambda columns: features[columns], np.arange(3), width, 3).tolist() == [2, 2, 1]


@pytest.mark.parametrize("neighbours", [1, 5, 60, 1000])
def test_densities_in_blocks_are_those_in_one(neighbours: int, monkeypatch: pytest.MonkeyPatch) -> None:
    features = unit_rows(np.random.default_rng(8), 300)
    columns = np.arange(0, 300, 2)
    whole = densities(lambda columns: features[columns], columns, 1.2, neighbours)
    monkeypatch.setattr(kde_module, "_ROWS", 32)
    assert densities(lambda columns: features[columns], columns, 1.2, neighbours) == pytest.approx(whole)
    expected = density_by_loops(features, columns.tolist(), 1.2, neighbours)
    assert whole == pytest.approx([expected[n] for n in columns.tolist()], rel=1e-5)


def test_densities_never_hold_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    features = unit_rows(np.random.default_rng(8), 2000)
    monkeypatch.setattr(kde_module, "_ROWS", 100)
    tracemalloc.start()
    densities(lambda columns: features[columns], np.arange(2000), 0.75, 50)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2000 * 2000 * 4 / 10


def test_without_features_only_a_width_of_0_goes() -> None:
    matrix = np.random.default_rng(9).standard_normal((2, 50)).astype(np.float32)
    with pytest.raises(SettingsError, match="no features; choose knn-uniform, or set kde_width to 0"):
        knn_kde(Request(Matrix(matrix), 5))
    alone = AlgorithmSettings(kde_width=0)
    assert knn_kde(Request(Matrix(matrix), 5, settings=alone)).columns.size == 5


# Warnings.


@pytest.mark.parametrize(
    ("changed", "warned"),
    [
        ({"knn_alpha": 0.9, "knn_scale": 0.1}, False),
        ({"knn_alpha": 0.5, "knn_scale": 30.0}, False),  # 87 of 200
        ({"knn_alpha": 0.5, "knn_scale": 40.0}, True),  # 104: half of the pool
        ({"knn_alpha": 0.5, "knn_scale": 30.0, "knn_neighbours": 87}, True),  # the lists end
        ({"knn_alpha": 0.01, "knn_scale": 5.0}, True),
    ],
)
def test_a_share_of_a_whole_list_or_half_the_pool_is_told(
    changed: dict[str, float], warned: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    generator = np.random.default_rng(10)
    features = unit_rows(generator, 200)
    knn_uniform(requested(unit_rows(generator, 3) @ features.T, features, 5, **changed))
    assert ("raise knn_alpha (now" in capsys.readouterr().err) is warned


@pytest.mark.parametrize(("scale", "warned"), [(0.001, False), (5.0, True)])
def test_lists_too_short_for_the_densities_are_told(
    scale: float, warned: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    generator = np.random.default_rng(10)
    features = unit_rows(generator, 200)
    knn_kde(requested(unit_rows(generator, 3) @ features.T, features, 5, knn_alpha=0.5, knn_scale=scale))
    assert ("raise knn_neighbours" in capsys.readouterr().err) is warned


# TSDS's own toy input, under its own configuration.


@pytest.mark.data
def test_the_toy_input_of_the_released_code() -> None:
    """Euclidean distances, exact search, alpha 0.5, sigma 0.75, C 5; and a C for which the lists are too short."""
    folder = DATA / "fixtures" / "tsds"
    if not folder.is_dir():
        pytest.skip(f"no {folder}; set HANDPICK_DATA to the folder of the full data set")
    candidates, queries = np.load(folder / "candidates.npy"), np.load(folder / "query_examples.npy")
    distance_QN = np.linalg.norm(queries[:, None] - candidates, axis=2)
    columns = np.argsort(distance_QN, axis=1, kind="stable")[:, :100]  # a tenth of the pool
    distance = np.take_along_axis(distance_QN, columns, axis=1)

    among = np.unique(columns)
    found = densities(lambda chosen: candidates[chosen], among, 0.75, 100)
    expected = density_by_loops(candidates, among.tolist(), 0.75, 100)
    assert found == pytest.approx([expected[n] for n in among.tolist()], rel=1e-9)
    rows = [[expected[n] for n in own] for own in columns.tolist()]
    for scale, long_enough in [(5.0, True), (50.0, False)]:
        level = kde_by_heap(distance.tolist(), rows, 0.5, scale)
        plan, enough = kde_mass(distance, found[np.searchsorted(among, columns)], even(10), 0.5, scale)
        check_masses(columns, plan, spread(rows, level))
        assert enough is long_enough
        uniform = uniform_mass(distance, even(10), 0.5, scale)
        assert (uniform.shape[1] < 100) is long_enough
        by_loops = uniform_by_loops(distance.tolist(), 0.5, scale)
        check_masses(columns, np.pad(uniform, ((0, 0), (0, 100 - uniform.shape[1]))), by_loops)


def check_masses(columns: NDArray[np.int64], plan: Array, expected: list[list[float]]) -> None:
    mass = np.zeros(1000)
    found = sum_mass(columns, plan)
    mass[found.columns] = found.total
    assert mass.tolist() == pytest.approx(total(columns.tolist(), expected, 1000), rel=0, abs=1e-12)
    assert mass.sum() == pytest.approx(1)
