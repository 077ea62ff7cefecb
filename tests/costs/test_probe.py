"""The fit of batches' times: right where the form holds, and on a machine that is faked."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handpick.costs import probe
from handpick.costs.probe import Probing, Size, TimedBatches, sizes_BF, time_batches

SIZES = st.lists(st.builds(Size, st.integers(1, 60), st.integers(1, 2000)), min_size=8, max_size=40)


def seconds_of(size: Size) -> float:
    """A machine: so much a batch, a token, a sequence and a pair of tokens."""
    return 1e-3 + 2e-5 * size.sequences * size.longest + 1e-4 * size.sequences + 1e-9 * size.sequences * size.longest**2


@settings(deadline=None, max_examples=20)
@given(SIZES)
def test_batches_that_were_all_timed_add_up(sizes: list[Size]) -> None:
    times = TimedBatches(sizes_BF(sizes), np.array([seconds_of(size) for size in sizes]))
    found = times.estimate(sizes)
    assert found.value == pytest.approx(sum(map(seconds_of, sizes)), rel=1e-6)
    assert found.low <= found.value <= found.high
    assert times.estimate(sizes, 3.0).value == pytest.approx(3 * found.value)


def test_other_lengths_follow_the_form() -> None:
    rng = np.random.default_rng(0)
    some = [Size(int(n), int(t)) for n, t in zip(rng.integers(1, 50, 30), rng.integers(20, 400, 30), strict=True)]
    times = TimedBatches(sizes_BF(some), np.array([seconds_of(size) for size in some]))
    longer = [Size(2, 1500), Size(1, 2000)]
    assert times.estimate(longer).value == pytest.approx(sum(map(seconds_of, longer)), rel=1e-6)


def test_the_interval_holds_the_truth_where_times_are_noisy() -> None:
    """Twelve of 300 batches timed, each off by up to a fifth: the sum lies inside in most of 30 trials."""
    rng = np.random.default_rng(1)
    every = [Size(max(1, 1024 // int(t)), int(t)) for t in rng.integers(20, 600, 300)]
    truth, inside = sum(map(seconds_of, every)), 0
    for _ in range(30):
        some = [every[i] for i in rng.choice(len(every), 12, replace=False)]
        noisy = np.array([seconds_of(size) * rng.uniform(0.8, 1.2) for size in some])
        found = TimedBatches(sizes_BF(some), noisy).estimate(every)
        assert truth / 1.5 < found.value < 1.5 * truth
        inside += found.low <= truth <= found.high
    assert inside >= 22


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[[Size], None]:
    """A clock that only moves when a batch is computed."""
    now = [0.0]
    monkeypatch.setattr(probe, "clock", lambda: now[0])

    def compute(size: Size) -> None:
        now[0] += seconds_of(size)

    return compute


def test_it_stops_when_the_seconds_are_over(machine: Callable[[Size], None]) -> None:
    batches = [Size(4, 250)] * 10_000
    found = time_batches(machine, batches, lambda size: size, seconds=1.0)
    assert 0.9 < found.seconds_B.sum() < 1.1


def test_two_batches_are_timed_however_long_they_take(machine: Callable[[Size], None]) -> None:
    found = time_batches(machine, [Size(1000, 2000)] * 5, lambda size: size, seconds=0.1)
    assert len(found.seconds_B) == 2


def test_a_pool_of_one_batch_is_timed_some_times(machine: Callable[[Size], None]) -> None:
    found = time_batches(machine, [Size(3, 50)], lambda size: size, seconds=10.0)
    assert len(found.seconds_B) == 3
    assert found.estimate([Size(3, 50)]).value == pytest.approx(seconds_of(Size(3, 50)))


def test_no_batches_take_no_time() -> None:
    assert TimedBatches(sizes_BF([Size(1, 1)]), np.ones(1)).estimate([]).value == 0


def test_the_same_work_is_found_out_once_in_an_empty_folder(tmp_path: Path) -> None:
    probing, asked = Probing(1.0, tmp_path), []

    def find(own: Probing) -> str:
        assert own.scratch != tmp_path
        assert not list(own.scratch.iterdir())
        assert own.seconds == 1.0
        (own.scratch / "left").touch()
        asked.append(own.scratch)
        if len(asked) == 1:
            raise ValueError("the first time it fails")
        return f"found {len(asked)}"

    with pytest.raises(ValueError, match="first time"):
        probing.once({"work": "a"}, find)
    assert probing.once({"work": "a"}, find) == "found 2"
    assert probing.once({"work": "a"}, find) == "found 2"
    assert probing.once({"work": "b"}, find) == "found 3"
    assert len(set(asked)) == 3
