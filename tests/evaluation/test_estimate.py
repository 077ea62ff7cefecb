"""Means and intervals: against plain loops, and how often they hold what they should."""

import json
import math
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handpick.evaluation import estimate
from handpick.evaluation.estimate import Estimate, macro_mean, mean

rows = st.lists(
    st.tuples(st.integers(-20, 20).map(lambda i: i / 4), st.integers(0, 4), st.sampled_from("abc"), st.integers(1, 4)),
    min_size=1,
    max_size=25,
)


def average(values: list[float]) -> float:
    return sum(values) / len(values)


def by_a_loop(value: list[float], example: list[int]) -> float:
    grouped = defaultdict(list)
    for v, e in zip(value, example, strict=True):
        grouped[e].append(v)
    return average([average(each) for each in grouped.values()])


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "_RESAMPLES", 200)


def strata_of_one(example: list[int], subtask: list[str]) -> bool:
    """Whether no two examples stand in the same subtasks."""
    stands_in = [frozenset(s for e, s in zip(example, subtask, strict=True) if e == each) for each in set(example)]
    return len(set(stands_in)) == len(stands_in)


@settings(deadline=None, max_examples=50)  # the first call imports scipy
@given(rows)
def test_values_are_those_of_loops(rows: list[tuple[float, int, str, int]]) -> None:
    value, example, subtask, weight = (list(column) for column in zip(*rows, strict=True))
    found = mean(value, example)
    assert found.value == pytest.approx(by_a_loop(value, example), abs=1e-9)
    assert found.n == len(set(example))
    weighted = mean(value, example, weight)
    above, below = by_a_loop([v * w for v, w in zip(value, weight, strict=True)], example), by_a_loop(weight, example)
    assert weighted.value == pytest.approx(above / below, abs=1e-9)
    of_subtask = [
        by_a_loop(*map(list, zip(*[(v, e) for v, e, s, _ in rows if s == each], strict=True)))  # type: ignore[arg-type]
        for each in set(subtask)
    ]
    macro = macro_mean(value, example, subtask)
    assert macro.value == pytest.approx(average(of_subtask), abs=1e-9)
    for each in (found, weighted, macro):
        assert math.isnan(each.low) == math.isnan(each.high)
        assert math.isnan(each.low) == (each.n == 1 if each is not macro else strata_of_one(example, subtask))
        if not math.isnan(each.low):
            assert each.low <= each.high
            assert min(value) - 1e-9 <= each.low
            assert each.high <= max(value) + 1e-9


def test_the_interval_of_equal_values_has_no_width_and_one_example_has_none() -> None:
    assert mean([0.3] * 7, list(range(7))) == Estimate(pytest.approx(0.3), pytest.approx(0.3), pytest.approx(0.3), 7)
    alone = mean([1.0, 0.0], ["same", "same"])
    assert (alone.value, alone.n, math.isnan(alone.low)) == (0.5, 1, True)
    assert math.isnan(macro_mean([1, 0], ["x", "y"], ["a", "b"]).low)  # one example a subtask: nothing to resample


def test_it_is_the_same_every_time_and_survives_json() -> None:
    value = np.random.default_rng(1).random(30)
    one = mean(value, range(30))
    assert one == mean(value, range(30))
    assert Estimate.from_json(json.loads(json.dumps(one.to_json()))) == one
    alone = mean([1.0], ["x"])
    again = Estimate.from_json(json.loads(json.dumps(alone.to_json(), allow_nan=False)))
    assert (again.value, math.isnan(again.low), again.n) == (1.0, True, 1)


def coverage(trials: int, examples: int, repeats: int, *, respects_them: bool) -> float:
    """How often the interval holds the true mean 0, where an example's records are much alike."""
    held = 0
    for trial in range(trials):
        rng = np.random.default_rng([3, trial])
        value = np.repeat(rng.standard_normal(examples), repeats) + 0.3 * rng.standard_normal(examples * repeats)
        example = np.repeat(np.arange(examples), repeats) if respects_them else np.arange(examples * repeats)
        found = mean(value, example.tolist())
        held += found.low <= 0 <= found.high
    return held / trials


def test_intervals_of_repeated_examples_hold_the_truth_as_often_as_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """95%, within what 400 trials can tell; taking the ten records of an example for ten examples fails by far."""
    monkeypatch.setattr(estimate, "_RESAMPLES", 1000)
    assert 0.91 <= coverage(400, 60, 10, respects_them=True) <= 0.98
    assert coverage(100, 60, 10, respects_them=False) < 0.7


def macro_coverage(trials: int, *, shared: bool) -> float:
    """Three subtasks of unlike size and mean (macro 0). ``shared``: every example stands in all of them."""
    means = {"a": -1.0, "b": 0.2, "c": 0.8}
    held = 0
    for trial in range(trials):
        rng = np.random.default_rng([5, trial])
        rows = []
        for k, (subtask, centre) in enumerate(means.items()):
            own = np.random.default_rng([6, trial] if shared else [6, trial, k]).standard_normal(60)
            n = 40 if shared else (15, 30, 60)[k]
            for i in range(n):
                rows.append((centre + own[i] + 0.2 * rng.standard_normal(), i if shared else (k, i), subtask))
        found = macro_mean(*zip(*rows, strict=True))
        held += found.low <= 0 <= found.high
    return held / trials


@pytest.mark.parametrize("shared", [True, False])
def test_macro_intervals_hold_the_truth_as_often_as_they_say(shared: bool) -> None:
    assert 0.90 <= macro_coverage(250, shared=shared) <= 0.985


def test_the_ratio_of_weighted_records_covers_too() -> None:
    held = 0
    for trial in range(250):
        rng = np.random.default_rng([7, trial])
        weight = rng.integers(1, 4, 60)
        value = rng.binomial(weight, 0.3 + 0.1 * weight) / weight  # heavier records do better
        found = mean(value, range(60), weight)
        truth = np.mean([w * (0.3 + 0.1 * w) for w in (1, 2, 3)]) / 2
        held += found.low <= truth <= found.high
    assert 0.90 <= held / 250 <= 0.985
