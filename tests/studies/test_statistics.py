"""Every statistic against a second computation: scipy's other routes, plain enumeration, or a simulation."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from handpick.errors import DataError
from handpick.studies.cells import Cell
from handpick.studies.statistics import (
    DEV_LOSS,
    against_random,
    better_sign,
    by_seed,
    distance_correlation,
    loss_correlation,
    metrics_of,
    quantile_correlation,
    rho_interval,
    spearman,
    wins,
)

FEW = settings(max_examples=40, deadline=None)
VALUES = st.integers(-1000, 1000).map(lambda value: value / 64)  # differences of these are exact


def cell(method: str, loss: float, seed: int = 0, budget: int | None = 100, target: str = "t", **more: Any) -> Cell:
    metrics = more.pop("metrics", {"loss": loss})
    return Cell(model="m", method=method, target=target, budget=budget, seed=seed, metrics=metrics, **more)


def cells_of(method: str, losses: Sequence[float], **more: Any) -> list[Cell]:
    return [cell(method, loss, seed, **more) for seed, loss in enumerate(losses)]


# --- means over seeds


@FEW
@given(st.lists(VALUES, min_size=2, max_size=8))
def test_a_mean_and_its_interval_are_those_of_scipy(losses: list[float]) -> None:
    (row,) = by_seed(cells_of("less", losses), "loss")
    assert (row.n, row.method, row.budget, row.quantile) == (len(losses), "less", 100, None)
    assert row.mean == pytest.approx(np.mean(losses))
    assert row.sd == pytest.approx(np.std(losses, ddof=1))
    if len(set(losses)) == 1:
        assert row.low is None
        assert row.high is None
    else:
        low, high = stats.t.interval(0.95, len(losses) - 1, loc=np.mean(losses), scale=stats.sem(losses))
        assert (row.low, row.high) == (pytest.approx(low), pytest.approx(high))


def test_of_one_seed_there_is_a_mean_and_nothing_else() -> None:
    (row,) = by_seed([cell("zero-shot", 1.5, budget=None)], "loss")
    assert (row.mean, row.n, row.sd, row.low, row.high) == (1.5, 1, None, None, None)


def test_rows_come_in_the_order_of_the_cells() -> None:
    cells = [cell(method, 1.0, seed, target=target) for target in "ba" for seed in (0, 1) for method in "zya"]
    assert [(row.target, row.method) for row in by_seed(cells, "loss")] == [(t, m) for t in "ba" for m in "zya"]


def test_only_done_cells_with_the_metric_count() -> None:
    cells = [
        cell("less", 1.0, 0),
        cell("less", 9.0, 1, status="failed", reason="out of memory"),
        cell("less", 9.0, 2, metrics={"choice": 0.5}),
        cell("less", 2.0, 3),
    ]
    (row,) = by_seed(cells, "loss")
    assert (row.n, row.mean) == (2, 1.5)


def test_quantiles_and_budgets_are_kept_apart() -> None:
    cells = [cell("less", 1.0, budget=500), cell("less", 2.0, budget=500, quantile=0), cell("less", 3.0, budget=1000)]
    assert [(row.budget, row.quantile, row.mean) for row in by_seed(cells, "loss")] == [
        (500, None, 1.0), (500, 0, 2.0), (1000, None, 3.0)
    ]  # fmt: skip


def test_a_value_that_is_not_finite_is_an_error_that_names_the_cell() -> None:
    with pytest.raises(DataError, match="method less, target t, budget 100, seed 1 is not finite"):
        by_seed(cells_of("less", [1.0, math.nan]), "loss")


def test_a_cell_that_is_there_twice_is_an_error() -> None:
    with pytest.raises(DataError, match="seed 0 twice"):
        by_seed([cell("less", 1.0), cell("less", 2.0)], "loss")


def test_losses_come_first_and_smaller_is_better_of_them_alone() -> None:
    cells = [cell("a", 0, metrics={"choice": 0.5, "loss": 1.0}), cell("b", 0, metrics={"pass@1": 0.1}, dev_loss=1.0)]
    assert metrics_of(cells) == [DEV_LOSS, "loss", "choice", "pass@1"]
    assert [better_sign(metric) for metric in metrics_of(cells)] == [-1, -1, 1, 1]
    assert metrics_of(cells[:1]) == ["loss", "choice"]


def test_the_loss_on_the_queries_is_a_metric_like_the_others() -> None:
    cells = [cell("less", 5.0, seed, dev_loss=loss) for seed, loss in enumerate((1.0, 2.0))]
    assert [row.mean for row in by_seed(cells, DEV_LOSS)] == [1.5]


# --- against random


@FEW
@given(st.lists(st.tuples(VALUES, VALUES), min_size=2, max_size=8))
def test_with_equal_seeds_the_difference_is_paired(pairs: list[tuple[float, float]]) -> None:
    own, random = zip(*pairs, strict=True)
    shuffled = cells_of("random", random)[::-1]  # pairs go by seed, not by place
    (row,) = against_random(cells_of("less", own) + shuffled, "loss")
    assert row.mean == pytest.approx(np.mean(own) - np.mean(random))
    if len({a - b for a, b in pairs}) == 1:
        assert (row.low, row.high, row.by, row.better, row.worse) == (None, None, None, None, None)
        return
    expected = stats.ttest_rel(own, random).confidence_interval(0.95)
    assert (row.by, row.n, row.n_random) == ("paired", len(pairs), len(pairs))
    assert (row.low, row.high) == (pytest.approx(expected.low), pytest.approx(expected.high))


@FEW
@given(st.lists(VALUES, min_size=2, max_size=5), st.lists(VALUES, min_size=6, max_size=9))
def test_with_other_seeds_it_is_welchs(own: list[float], random: list[float]) -> None:
    (row,) = against_random(cells_of("less", own) + cells_of("random", random), "loss")
    assert row.mean == pytest.approx(np.mean(own) - np.mean(random))
    if len(set(own)) == len(set(random)) == 1:
        assert row.by is None
        return
    expected = stats.ttest_ind_from_stats(
        np.mean(own), np.std(own, ddof=1), len(own), np.mean(random), np.std(random, ddof=1), len(random),
        equal_var=False,
    )  # fmt: skip
    assert (row.by, row.n, row.n_random) == ("welch", len(own), len(random))
    assert row.low is not None
    assert row.high is not None
    half = (row.high - row.low) / 2
    # scipy gives the statistic and p: the interval's half is t's quantile times the standard error, mean / statistic
    variances = np.var(own, ddof=1) / len(own), np.var(random, ddof=1) / len(random)
    freedom = sum(variances) ** 2 / (variances[0] ** 2 / (len(own) - 1) + variances[1] ** 2 / (len(random) - 1))
    assert half == pytest.approx(stats.t.isf(0.025, freedom) * math.sqrt(sum(variances)))
    assert (expected.pvalue < 0.05) == (row.low > 0 or row.high < 0)


def test_one_seed_gives_a_difference_and_no_interval() -> None:
    (row,) = against_random([cell("less", 1.0), *cells_of("random", [2.0, 2.5, 3.0])], "loss")
    assert (row.mean, row.low, row.by, row.n, row.n_random, row.better) == (-1.5, None, None, 1, 3, None)


def test_equal_differences_leave_no_interval_though_rounding_makes_them_differ() -> None:
    own, random = [0.55, 0.60, 0.30], [0.50, 0.55, 0.25]
    assert len({a - b for a, b in zip(own, random, strict=True)}) > 1
    (row,) = against_random(cells_of("less", own) + cells_of("random", random), "loss")
    assert (row.by, row.better) == (None, None)


@pytest.mark.parametrize(("metric", "low_is"), [("loss", "better"), (DEV_LOSS, "better"), ("choice", "worse")])
def test_better_goes_by_the_metric(metric: str, low_is: str) -> None:
    def both(method: str, values: list[float]) -> list[Cell]:
        return [cell(method, 0, seed, metrics={"loss": v, "choice": v}, dev_loss=v) for seed, v in enumerate(values)]

    cells = both("low", [0.1, 0.12, 0.11]) + both("same", [0.49, 0.53, 0.5]) + both("high", [0.9, 0.93, 0.91])
    cells += both("random", [0.5, 0.51, 0.52])
    found = {row.method: (row.better, row.worse) for row in against_random(cells, metric)}
    low, high = ((True, False), (False, True)) if low_is == "better" else ((False, True), (True, False))
    assert found == {"low": low, "same": (False, False), "high": high}


def test_what_random_has_no_counterpart_of_has_no_row() -> None:
    cells = [
        *cells_of("random", [1.0, 2.0]),
        *cells_of("less", [1.0, 2.0], budget=300),
        *cells_of("less", [1.0, 2.0], quantile=0),
        *cells_of("full", [1.0, 2.0], budget=None),
        *cells_of("less", [1.0, 2.0], target="other"),
    ]
    assert against_random(cells, "loss") == []


# --- rank correlation


def by_definition(x: Sequence[float], y: Sequence[float]) -> float:
    """Pearson's of the mean ranks, each rank counted out."""

    def rank(values: Sequence[float]) -> list[float]:
        return [sum(other < v for other in values) + (sum(other == v for other in values) + 1) / 2 for v in values]

    return float(np.corrcoef(rank(x), rank(y))[0, 1])


POINTS = st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=4, max_size=12)


@FEW
@given(POINTS)
def test_rho_is_the_correlation_of_ranks(points: list[tuple[int, int]]) -> None:
    x, y = zip(*points, strict=True)
    found = spearman(x, y)
    if len(set(x)) == 1 or len(set(y)) == 1:
        assert found is None
        return
    assert found is not None
    rho, low, high, p = found
    assert rho == pytest.approx(by_definition(x, y), abs=1e-12)
    assert -1 <= low <= rho <= high <= 1
    assert low < high
    assert 0 < p <= 1


@FEW
@given(POINTS)
def test_turning_one_side_over_turns_the_correlation_over(points: list[tuple[int, int]]) -> None:
    x, y = zip(*points, strict=True)
    found, turned = spearman(x, y), spearman(x, [-value for value in y])
    assert (found is None) == (turned is None)
    if found is not None and turned is not None:
        assert turned[0] == pytest.approx(-found[0], abs=1e-12)
        assert turned[1:] == pytest.approx((-found[2], -found[1], found[3]), abs=1e-9)


@FEW
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=4, max_size=5))
def test_p_of_few_points_is_counted_over_all_pairings(points: list[tuple[int, int]]) -> None:
    x, y = zip(*points, strict=True)
    found = spearman(x, y)
    if found is None:
        return
    every = np.array([by_definition(x, pairing) for pairing in itertools.permutations(y)])
    assert found[3] == pytest.approx((np.abs(every) >= abs(found[0]) - 1e-9).mean())


def test_p_with_ties_is_the_share_of_both_tails_and_not_one_of_them_doubled() -> None:
    found = spearman([1, 1, 1, 2, 3], [1, 1, 1, 1, 2])  # the 2 of y beside the 3: in a fifth of all pairings
    assert found is not None
    assert found[0] == pytest.approx(0.7906, abs=1e-4)
    assert found[3] == pytest.approx(0.2)


@pytest.mark.parametrize("slope", [0.0, 0.3, 0.5])
def test_p_of_many_points_is_near_that_of_the_t_distribution(slope: float) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal(40)
    y = slope * x + rng.standard_normal(40)
    found, expected = spearman(x, y), stats.spearmanr(x, y)
    assert found is not None
    assert found[0] == pytest.approx(expected.statistic)
    assert found[3] == pytest.approx(expected.pvalue, abs=0.03)


def test_p_of_a_close_relation_is_small_and_not_0() -> None:
    found = spearman(range(20), range(20))
    assert found is not None
    assert 0 < found[3] < 0.001


def test_few_points_or_a_constant_side_have_no_rho() -> None:
    assert spearman([1, 2, 3], [1, 2, 3]) is None
    assert spearman([1, 1, 1, 1, 1], [1, 2, 3, 4, 5]) is None
    assert spearman([1, 2, 3, 4, 5], [2, 2, 2, 2, 2]) is None


def test_a_perfect_order_reaches_the_end_and_keeps_a_width() -> None:
    up, down = spearman(range(10), range(10)), spearman(range(10), range(0, -10, -1))
    assert up is not None
    assert down is not None
    swapped = spearman(range(10), [1, 0, *range(2, 10)])
    assert swapped is not None
    assert (up[0], up[2], up[1]) == (pytest.approx(1), 1.0, pytest.approx(swapped[1]))
    assert (down[0], down[1], down[2]) == (pytest.approx(-1), -1.0, pytest.approx(-swapped[1]))
    assert swapped[1] > 0.8


@pytest.mark.parametrize("n", [10, 30])
@pytest.mark.parametrize("pearson", [0.0, 0.5, 0.85])
def test_the_interval_covers_the_true_rho_as_often_as_it_says(n: int, pearson: float) -> None:
    """Two normal variables with correlation r have Spearman's rho 6/π asin(r/2) (Pearson 1907)."""
    rng = np.random.default_rng(1)
    truth = 6 / math.pi * math.asin(pearson / 2)
    draws = 10_000
    x_DN = rng.standard_normal((draws, n))
    y_DN = pearson * x_DN + math.sqrt(1 - pearson**2) * rng.standard_normal((draws, n))
    difference_DN = x_DN.argsort(axis=1).argsort(axis=1) - y_DN.argsort(axis=1).argsort(axis=1)
    rho_D = 1 - 6 * (difference_DN**2).sum(axis=1) / (n * (n**2 - 1))
    ends = [rho_interval(float(rho), n) for rho in rho_D]
    assert 0.94 <= np.mean([low <= truth <= high for low, high in ends]) <= 0.975
    if pearson == 0.85:  # the variance of Pearson's correlation would not do
        z_D = np.arctanh(np.minimum(rho_D, 1 - 1e-9))
        assert np.mean(np.abs(z_D - math.atanh(truth)) <= 1.96 / math.sqrt(n - 3)) < 0.935


# --- correlations of cells


def test_distance_correlation_is_over_all_choices_of_a_budget_and_every_draw_is_one() -> None:
    rng = np.random.default_rng(3)
    cells, expected = [], {}
    for budget in (100, 300):
        points = []
        for method in ("random", "less", "bm25", "rds+", "tsds"):
            drawn = method == "random"  # three choices; the others train one choice with three seeds
            distance = rng.uniform(0.5, 1.5, size=3) if drawn else np.full(3, rng.uniform(0.5, 1.5))
            losses = distance + rng.normal(size=3) * 0.3
            points += zip(distance, losses, strict=True) if drawn else [(distance[0], losses.mean())]
            cells += [
                cell(method, loss, seed, budget, distances={"less": {"mmd": d, "energy": -d}, "embed": {"mmd": 1.0}})
                for seed, (d, loss) in enumerate(zip(distance, losses, strict=True))
            ]
        expected[budget] = stats.spearmanr(*zip(*points, strict=True)).statistic
    cells += [cell("uot", 1.0), cell("uot", 0.0, 1, status="failed", distances={"less": {"mmd": 0.0}})]
    rows = distance_correlation(cells, "loss")
    found = {(row.features, row.distance, row.budget): row for row in rows}
    assert len(rows) == len(found) == 6
    for budget in (100, 300):
        assert found["less", "mmd", budget].rho == pytest.approx(expected[budget])
        assert found["less", "energy", budget].rho == pytest.approx(-expected[budget])
        assert found["less", "mmd", budget].n == 3 + 4
        constant = found["embed", "mmd", budget]
        assert (constant.n, constant.rho, constant.low, constant.p) == (5, None, None, None)
    only = distance_correlation(cells, "loss", "mmd")
    assert only == [row for row in rows if row.distance == "mmd"]


def test_loss_correlation_sets_the_loss_on_queries_against_the_metric() -> None:
    dev, choice = [0.9, 0.7, 0.8, 0.4, 0.5], [0.1, 0.3, 0.35, 0.9, 0.5]
    cells = [
        cell(f"method {n}", 0, metrics={"choice": c}, dev_loss=d)
        for n, (d, c) in enumerate(zip(dev, choice, strict=True))
    ]
    (row,) = loss_correlation([*cells, cell("no loss on queries", 0, metrics={"choice": 1.0})], "choice")
    assert (row.n, row.target) == (5, "t")
    assert row.rho == pytest.approx(by_definition(dev, choice))


def test_every_random_draw_is_a_point_of_the_loss_correlation_and_a_methods_seeds_are_one() -> None:
    cells = [cell("random", 0, seed=s, metrics={"choice": s / 9}, dev_loss=1 - s / 9) for s in range(6)]
    cells += [cell("less", 0, seed=s, metrics={"choice": 0.9 + s}, dev_loss=0.1) for s in range(3)]
    (row,) = loss_correlation(cells, "choice")
    assert row.n == 7
    assert row.rho == pytest.approx(-1)


def test_quantile_correlation_is_per_method_and_target() -> None:
    rng = np.random.default_rng(4)
    values = {(method, target): rng.normal(size=(10, 2)) for method in ("less", "rds+") for target in "ab"}
    cells = [
        cell(method, float(loss), seed, 500, target, quantile=quantile)
        for (method, target), table in values.items()
        for quantile, own in enumerate(table)
        for seed, loss in enumerate(own)
    ]
    rows = quantile_correlation([*cells, cell("less", 0.0, budget=500, target="a")], "loss")
    assert {(row.method, row.target) for row in rows} == set(values)
    for row in rows:
        assert row.method is not None
        own = values[row.method, row.target].mean(axis=1)
        assert (row.n, row.budget) == (10, 500)
        assert row.rho == pytest.approx(stats.spearmanr(range(10), own).statistic)


# --- wins


def test_wins_count_the_best_and_what_is_beyond_the_interval() -> None:
    seeds = np.array([-0.01, 0.0, 0.01])
    noise = np.array([0.01, -0.02, 0.02])
    cells = [
        *cells_of("less", 1.0 + noise), *cells_of("bm25", 2.0 + noise), *cells_of("random", 2.0 + seeds),
        *cells_of("less", 3.0 + noise, target="u"), *cells_of("random", 2.0 + seeds, target="u"),
        *cells_of("less", 1.0 + seeds, budget=300), *cells_of("bm25", 1.0 + seeds, budget=300),
        *cells_of("alone", 0.0 + seeds, budget=1000), *cells_of("full", 0.0 + seeds, budget=None),
        *cells_of("less", -9.0 + seeds, quantile=0),
    ]  # fmt: skip
    found = {row.method: (row.n, row.best, row.compared, row.better, row.worse) for row in wins(cells, "loss")}
    assert found == {"less": (3, 1.5, 2, 1, 1), "bm25": (2, 0.5, 1, 0, 0), "random": (2, 1.0, 0, 0, 0)}


@FEW
@given(
    st.dictionaries(
        st.tuples(st.sampled_from(["random", "a", "b", "c"]), st.sampled_from("tu"), st.sampled_from([10, 20])),
        st.lists(VALUES, min_size=1, max_size=3), max_size=16,
    )
)  # fmt: skip
def test_every_contest_has_one_winner_shared_or_not(grid: dict[tuple[str, str, int], list[float]]) -> None:
    cells = [
        each
        for (method, target, budget), losses in grid.items()
        for each in cells_of(method, losses, target=target, budget=budget)
    ]
    rows = wins(cells, "loss")
    contests = {
        (target, budget) for method, target, budget in grid
        if sum((other, target, budget) in grid for other in ("random", "a", "b", "c")) > 1
    }  # fmt: skip
    assert sum(row.best for row in rows) == pytest.approx(len(contests))
    for row in rows:
        assert row.n == sum((row.method, *place) in grid for place in contests)
        assert row.better + row.worse <= row.compared <= row.n
