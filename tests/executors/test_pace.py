"""A slow worker begins no shard at the end that the others would have done sooner, and nothing is ever left over."""

import heapq
import random
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handpick.executors.pace import Pace

ROWS = 10


def last_end(speeds: list[float], shards: list[float], heeds: bool) -> float:
    """Give shards of so many seconds to workers so many times slower, and return when the last is done."""
    pace, waiting, now = Pace(), deque(shards), 0.0
    events: list[tuple[float, int, float]] = []
    free = set(range(len(speeds)))
    while waiting or events:
        for worker in sorted(free):
            if waiting and (not heeds or pace.should_begin(worker, 0, ROWS, ROWS * len(waiting))):
                seconds = waiting.popleft() * speeds[worker]
                heapq.heappush(events, (now + seconds, worker, seconds))
                free.remove(worker)
        now, worker, seconds = heapq.heappop(events)  # fails where something waits and nobody is at work
        pace.note(worker, ROWS, seconds)
        free.add(worker)
    return now


@given(
    st.lists(st.sampled_from([1.0, 1.2, 3.0, 10.0]), min_size=1, max_size=9),
    st.lists(st.floats(0.01, 10.0), max_size=60),
)
def test_every_shard_is_begun_by_somebody(speeds: list[float], shards: list[float]) -> None:
    last_end(speeds, shards, heeds=True)


def test_the_end_comes_sooner_with_an_eighth_three_times_slower_and_not_later_with_equals() -> None:
    draw = random.Random(0)
    for speeds, gain in (([3.0] * 2 + [1.0] * 14, 0.97), ([1.0] * 16, 1.001)):
        ends = [
            [last_end(speeds, shards, heeds) for heeds in (True, False)]
            for shards in ([draw.uniform(0.5, 1.5) for _ in range(320)] for _ in range(20))
        ]
        heeding, heedless = (sum(each) for each in zip(*ends, strict=True))
        assert heeding <= gain * heedless


def test_the_first_shard_has_the_loading_in_it_and_counts_only_until_there_are_more() -> None:
    pace = Pace()
    for worker in "abc":
        pace.note(worker, ROWS, 100.0 if worker == "c" else 10.0)
    assert not pace.should_begin("c", 0, ROWS, ROWS)
    pace.note("c", ROWS, 10.0)
    assert pace.should_begin("c", 0, ROWS, ROWS)


@pytest.mark.parametrize(("n_in_hand", "expected"), [(0, True), (ROWS, False)])
def test_nobody_hoards_what_others_would_do_sooner(n_in_hand: int, expected: bool) -> None:
    pace = Pace()
    for worker in "abc":
        pace.note(worker, ROWS, 10.0)
    assert pace.should_begin("a", n_in_hand, ROWS, ROWS) == expected


def test_who_is_gone_is_unknown_again() -> None:
    pace = Pace()
    for worker, seconds in (("fast", 1.0), ("slow", 10.0)):
        pace.note(worker, ROWS, seconds)
    assert not pace.should_begin("slow", 0, ROWS, ROWS)
    pace.forget("fast")
    assert pace.should_begin("slow", 0, ROWS, ROWS)
