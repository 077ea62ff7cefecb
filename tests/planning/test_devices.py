"""What a plan comes to on several devices, held against shards that are dealt out one by one."""

import heapq
from typing import Any

import pytest

from handpick.costs.cost import Amount, Plan, StageCost, StageKind
from handpick.errors import SettingsError
from handpick.planning import at_rate, parse_devices, share_out


def plan_of(*stages: StageCost) -> Plan:
    return Plan("select", list(stages), [], [])


def stage(kind: StageKind, seconds: float | None, shards: int = 0, **more: Any) -> StageCost:
    amount = None if seconds is None else Amount(seconds, 0.9 * seconds, 1.2 * seconds)
    return StageCost(kind.value, seconds=amount, shards=shards, kind=kind, **more)


WHOLE = plan_of(
    stage(StageKind.READ, 0.0),
    stage(StageKind.WARMUP, 30.0, tokens=Amount.exactly(5000)),
    stage(StageKind.ANSWERS, None),
    stage(StageKind.QUERY, 4.0, 1, tokens=Amount.exactly(200)),
    stage(StageKind.POOL, 1000.0, 10, examples=5000, tokens=Amount.exactly(90000)),
    stage(StageKind.CHOICE, 6.0),
)


def dealt_out(plan: Plan, devices: int) -> float:
    """The slow way: every shard to whichever device is free first, stage by stage."""
    total = 0.0
    for each in plan.stages:
        free = [0.0] * devices
        for _ in range(each.shards):
            heapq.heappush(free, heapq.heappop(free) + (each.seconds.value if each.seconds else 0.0) / each.shards)
        total += max(free) if each.shards else each.seconds.value if each.seconds else 0.0
    return total


@pytest.mark.parametrize("devices", [1, 2, 3, 4, 8, 64])
def test_shards_are_shared_out_whole(devices: int) -> None:
    bill = share_out(WHOLE, devices, price_per_hour=2.0)
    assert bill.seconds.value == pytest.approx(dealt_out(WHOLE, devices))
    assert bill.alone == 36.0
    assert bill.device_hours == pytest.approx(devices * bill.seconds.value / 3600)
    assert bill.money == pytest.approx(2 * bill.device_hours)
    assert bill.seconds.low < bill.seconds.value < bill.seconds.high


def test_one_device_is_the_plan_itself() -> None:
    total = WHOLE.total.seconds
    assert total is not None
    bill = share_out(WHOLE, 1)
    assert bill.seconds.value == pytest.approx(total.value)
    assert bill.money is None


def test_a_rate_from_elsewhere() -> None:
    faster, times = at_rate(WHOLE, 50.0)  # 5 a second here
    assert times == pytest.approx(10.0)
    found = [each.seconds.value if each.seconds else None for each in faster.stages]
    assert found == pytest.approx([0.0, 3.0, None, 0.4, 100.0, 6.0])  # the choice is no pass through the model
    assert "10 × what this machine's probe found" in faster.notes[0]
    assert at_rate(WHOLE, 5.0)[0].total.seconds == WHOLE.total.seconds


@pytest.mark.parametrize(
    "left",
    [[StageCost.left(StageKind.POOL)], [stage(StageKind.INDEX, 3.0)], [stage(StageKind.POOL, None, 4, examples=9)]],
)
def test_a_rate_of_nothing_is_refused(left: list[StageCost]) -> None:
    with pytest.raises(SettingsError, match="none are left to be made"):
        at_rate(plan_of(*left), 5.0)


def test_numbers_of_devices() -> None:
    assert parse_devices("1, 8,64") == [1, 8, 64]
    for wrong in ("", "0", "8,", "eight", "-1", "1.5", "²"):
        with pytest.raises(SettingsError, match=r"--devices .* is no list of numbers"):
            parse_devices(wrong)
