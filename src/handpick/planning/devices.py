"""A plan on several devices: what of it they share out, whole shards at a time, and what stays the driver's.

A plan is of one process. Every device is taken to be as fast as that one, and no time to be lost between shards; the
read of the model in each, and a network, are left out.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any

from handpick.costs.cost import Amount, Plan, StageCost, StageKind
from handpick.errors import SettingsError


@dataclass(frozen=True, slots=True)
class DeviceBill:
    """A run on ``devices``: its time, and ``alone``, what of that the driver works by itself.

    All are held for all of it: ``device_hours``; ``money`` is those at the price of one device's hour.
    """

    devices: int
    seconds: Amount
    alone: float
    device_hours: float
    money: float | None

    def to_json(self) -> dict[str, Any]:
        """Return it for machines."""
        return asdict(self)


def parse_devices(text: str) -> list[int]:
    """Return numbers of devices, from a list such as 1,8,64.

    Raises:
        SettingsError: it is none.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and int(part) for part in parts):
        raise SettingsError(f"--devices {text} is no list of numbers from 1: write it like 1,8,64")
    return [int(part) for part in parts]


def share_out(plan: Plan, devices: int, price_per_hour: float | None = None) -> DeviceBill:
    """Return what a plan comes to where ``devices`` take its shards.

    Args:
        plan: of one process.
        devices: as fast as that process's, one at least.
        price_per_hour: money that an hour of one device costs.
    """
    alone = sum(stage.seconds.value for stage in plan.stages if stage.seconds is not None and not stage.shards)
    seconds = Amount.exactly(0.0)
    for stage in plan.stages:
        if stage.seconds is not None:
            seconds = seconds.plus(stage.seconds.times(_share(stage, devices)))
    hours = devices * seconds.value / 3600
    return DeviceBill(devices, seconds, alone, hours, None if price_per_hour is None else hours * price_per_hour)


def _share(stage: StageCost, devices: int) -> float:
    """Return the part of a stage's shards that the device with the most of them makes."""
    return -(-stage.shards // devices) / stage.shards if stage.shards else 1.0


def at_rate(plan: Plan, examples_per_second: float) -> tuple[Plan, float]:
    """Return the plan on a device that makes so many of the pool's rows a second, and how many times faster that is.

    Stages through the model take that much less time; what counts no tokens and is not shared out stays as it is.

    Args:
        plan: from a probe on this machine.
        examples_per_second: of the pool's features at one checkpoint.

    Raises:
        SettingsError: none of the pool's features are left to be made, or their time is not known.
    """
    rows = [stage for stage in plan.stages if stage.kind is StageKind.POOL and stage.seconds and stage.shards]
    if not rows or not rows[0].examples or rows[0].seconds is None:
        raise SettingsError(
            "--examples-per-second is of the pool's features, and none are left to be made: leave it out"
        )
    times = rows[0].seconds.value * examples_per_second / rows[0].examples
    note = (
        f"{examples_per_second:,.3g} examples a second were given, {times:,.3g} × what this machine's probe found: "
        "what goes through the model takes that much less, all else the time that it takes here"
    )
    stages = [
        replace(stage, seconds=stage.seconds.times(1 / times))
        if stage.seconds is not None and (stage.shards or stage.tokens is not None)
        else stage
        for stage in plan.stages
    ]
    return replace(plan, stages=stages, notes=[note, *plan.notes]), times
