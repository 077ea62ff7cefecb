"""The five distances against cases done by hand, double loops and another solver."""

import math
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from handpick import distance
from handpick.distance import Distances, Products, distances
from handpick.errors import SettingsError, SimilarityError

pytest.importorskip("ot")

Rows = NDArray[np.float64]


def unit_rows(n: int, dim: int = 5, seed: int = 0) -> Rows:
    rows = np.random.default_rng(seed).standard_normal((n, dim))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def on_circle(*degrees: float) -> Rows:
    angle = np.radians(degrees)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def measure(queries: Rows, subset: Rows) -> Distances:
    return distances(queries @ subset.T, queries @ queries.T, subset @ subset.T)


def numbers(measured: Distances) -> list[float]:
    names = ("query_to_subset", "subset_to_query", "wasserstein", "mmd", "energy")
    return [getattr(measured, name) for name in names]


def mean_distance(one: Rows, other: Rows) -> float:
    return sum(math.dist(x, y) for x in one for y in other) / (len(one) * len(other))


random_rows = st.builds(unit_rows, st.integers(1, 6), st.integers(2, 4), st.integers(0, 1000))
pairs = st.integers(2, 4).flatmap(
    lambda dim: st.tuples(*[st.builds(unit_rows, st.integers(1, 6), st.just(dim), st.integers(0, 999))] * 2)
)


def test_one_example_each_at_a_right_angle() -> None:
    measured = measure(on_circle(0), on_circle(90))
    assert numbers(measured) == pytest.approx([math.sqrt(2)] * 4 + [2 * math.sqrt(2)])
    assert measured.wasserstein_by == "exact"


def test_a_case_by_hand() -> None:
    """Queries at 0° and 180°; the subset is at 0° only."""
    measured = measure(on_circle(0, 180), on_circle(0))
    assert measured.query_to_subset == pytest.approx(1)  # 0 and 2
    assert measured.subset_to_query == pytest.approx(0)
    assert measured.wasserstein == pytest.approx(1)  # half of the mass is 2 away
    assert measured.mmd == pytest.approx(1)  # the queries' mean is the origin
    assert measured.energy == pytest.approx(1)  # 2·1 − 1 − 0


def test_mmd_sees_only_the_means_and_energy_more() -> None:
    measured = measure(on_circle(0, 180), on_circle(90, 270))
    assert measured.mmd == pytest.approx(0, abs=1e-7)
    assert measured.energy == pytest.approx(2 * math.sqrt(2) - 2)


@settings(max_examples=40, deadline=None)
@given(rows=random_rows)
def test_a_set_is_at_no_distance_from_itself_in_any_order_and_any_number_of_copies(rows: Rows) -> None:
    assert numbers(measure(rows, np.vstack([rows[::-1], rows]))) == pytest.approx([0] * 5, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(pair=pairs)
def test_against_double_loops(pair: tuple[Rows, Rows]) -> None:
    queries, subset = pair
    measured = measure(queries, subset)
    nearest = [min(math.dist(x, y) for y in subset) for x in queries]
    assert measured.query_to_subset == pytest.approx(sum(nearest) / len(queries), abs=1e-7)
    nearest = [min(math.dist(x, y) for x in queries) for y in subset]
    assert measured.subset_to_query == pytest.approx(sum(nearest) / len(subset), abs=1e-7)
    assert measured.mmd == pytest.approx(math.dist(queries.mean(axis=0), subset.mean(axis=0)), abs=1e-7)
    energy = 2 * mean_distance(queries, subset) - mean_distance(queries, queries) - mean_distance(subset, subset)
    assert measured.energy == pytest.approx(energy, abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(pair=pairs)
def test_what_must_hold_between_them(pair: tuple[Rows, Rows]) -> None:
    queries, subset = pair
    there, back = measure(queries, subset), measure(subset, queries)
    assert (there.query_to_subset, there.subset_to_query) == pytest.approx((back.subset_to_query, back.query_to_subset))
    assert there.wasserstein == pytest.approx(back.wasserstein)
    assert (there.mmd, there.energy) == pytest.approx((back.mmd, back.energy))
    # no mass goes less far than to the nearest, the mean moves no further than its mass, and all pairs are a plan
    assert max(there.query_to_subset, there.subset_to_query, there.mmd) <= there.wasserstein + 1e-7
    assert there.wasserstein <= mean_distance(queries, subset) + 1e-7
    assert there.energy <= 2 * there.wasserstein + 1e-7
    assert min(numbers(there)) >= 0


def test_wasserstein_of_equal_sizes_is_the_best_assignment() -> None:
    optimize = pytest.importorskip("scipy.optimize")
    queries, subset = unit_rows(30, seed=1), unit_rows(30, seed=2)
    chord = np.linalg.norm(queries[:, None] - subset[None], axis=2)
    best = chord[optimize.linear_sum_assignment(chord)].mean()
    assert measure(queries, subset).wasserstein == pytest.approx(best)


def test_the_order_of_examples_does_not_matter() -> None:
    queries, subset, rng = unit_rows(7, seed=1), unit_rows(20, seed=2), np.random.default_rng(0)
    assert numbers(measure(rng.permutation(queries), rng.permutation(subset))) == pytest.approx(
        numbers(measure(queries, subset))
    )


def test_several_checkpoints_are_rows_side_by_side() -> None:
    """With weights that sum to 1 the weighted rows put side by side are unit rows of these similarities."""
    queries = np.hstack([math.sqrt(w) * unit_rows(4, seed=s) for s, w in ((1, 0.7), (2, 0.3))])
    subset = np.hstack([math.sqrt(w) * unit_rows(6, seed=s) for s, w in ((3, 0.7), (4, 0.3))])
    nearest = [min(math.dist(x, y) for y in subset) for x in queries]
    assert measure(queries, subset).query_to_subset == pytest.approx(np.mean(nearest))


def test_how_matrices_are_read_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    queries, subset = unit_rows(7, seed=1), unit_rows(40, seed=2)
    whole = numbers(measure(queries, subset))
    monkeypatch.setattr(distance, "_BLOCK", 100)  # two rows of the subset's own, for one
    assert numbers(measure(queries, subset)) == pytest.approx(whole)


def test_products_are_the_matrix_and_are_read_some_rows_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    queries, subset = (unit_rows(n, seed=n).astype(np.float32) for n in (7, 40))
    cross = queries @ subset.T
    whole = distances(cross, queries @ queries.T, subset @ subset.T)
    assert distances(cross, Products(queries), Products(subset)) == whole  # to the bit, where it is read in one go
    own, asked = Products.__getitem__, []

    def rows(self: Products, some: slice, /) -> NDArray[np.float32]:
        asked.append((self.shape[0], some.stop - some.start))
        return own(self, some)

    monkeypatch.setattr(Products, "__getitem__", rows)
    monkeypatch.setattr(distance, "_BLOCK", 80)
    monkeypatch.setattr(distance, "_BLOCKS", 3)
    assert numbers(distances(cross, Products(queries), Products(subset))) == pytest.approx(numbers(whole), abs=1e-6)
    assert asked == [(7, 7), *[(40, 6)] * 6, (40, 4)]


def test_float32_similarities_are_good_to_five_in_ten_thousand() -> None:
    rows = unit_rows(50, dim=64).astype(np.float32)
    similarity = rows @ rows.T
    measured = numbers(distances(similarity, similarity, similarity))
    assert measured == pytest.approx([0] * 5, abs=7e-4)


def test_beyond_the_limit_sinkhorn_is_close_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    queries, subset = unit_rows(20, seed=1), unit_rows(150, seed=2)
    exact = measure(queries, subset)
    monkeypatch.setattr(distance, "_EXACT", 2999)
    entropic = measure(queries, subset)
    assert (exact.wasserstein_by, entropic.wasserstein_by) == ("exact", "sinkhorn")
    assert exact.wasserstein * 0.999 < entropic.wasserstein < exact.wasserstein * 1.05
    assert (entropic.mmd, entropic.energy) == (exact.mmd, exact.energy)
    monkeypatch.setattr(distance, "_EXACT", 3000)
    assert measure(queries, subset) == exact


@pytest.mark.filterwarnings("ignore:numItermax:UserWarning")
def test_a_simplex_that_gives_up_is_not_called_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distance, "_PIVOTS", 1)
    assert measure(unit_rows(20, seed=1), unit_rows(150, seed=2)).wasserstein_by == "sinkhorn"


def test_without_pot_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ot.lp", None)
    with pytest.raises(SettingsError, match=r"pip install 'handpick\[transport\]'"):
        measure(unit_rows(2), unit_rows(3))


GOOD = on_circle(0, 40, 80)


@pytest.mark.parametrize(
    ("cross", "own", "other", "message"),
    [
        (np.ones(3), np.ones((3, 3)), np.ones((3, 3)), r"has shape \(3,\); give queries × subset"),
        (np.ones((0, 3)), np.ones((0, 0)), np.ones((3, 3)), "at least one of each"),
        (GOOD[:2] @ GOOD.T, GOOD @ GOOD.T, GOOD @ GOOD.T, r"of the queries to each other has shape \(3, 3\).*\(2, 2\)"),
        (GOOD @ GOOD.T, GOOD @ GOOD.T, GOOD @ GOOD[:2].T, r"of the subset to each other has shape \(3, 2\)"),
        (7 * GOOD @ GOOD.T, GOOD @ GOOD.T, GOOD @ GOOD.T, "row 0, column 0 is 7.0 and no cosine"),
        (
            GOOD @ GOOD.T,
            np.full((3, 3), np.nan),
            GOOD @ GOOD.T,
            "of the queries to each other at row 0, column 0 is nan",
        ),
        (
            GOOD @ GOOD.T,
            GOOD @ GOOD.T,
            GOOD[[1, 2, 0]] @ GOOD.T,
            "of the subset to itself at row 0 is 0.76.*should be 1",
        ),
    ],
)
def test_what_it_refuses(cross: Rows, own: Rows, other: Rows, message: str) -> None:
    with pytest.raises(SimilarityError, match=message):
        distances(cross, own, other)
