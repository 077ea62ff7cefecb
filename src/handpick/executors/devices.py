"""What workers compute on, so that what a run leaves open is decided once for all of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from handpick.model import device, has_bfloat16
from handpick.store.memory import available_bytes


@dataclass(frozen=True, slots=True)
class DeviceReport:
    """One worker's device: ``kind`` "cpu" or "cuda", whether bfloat16 has instructions there, its memory in bytes."""

    kind: str
    has_bfloat16: bool
    memory: int


def report_device() -> DeviceReport:
    """Return what this process computes on; of a GPU the whole memory, of a CPU what is free."""
    kind = device().type
    memory = torch.cuda.get_device_properties().total_memory if kind == "cuda" else available_bytes()
    return DeviceReport(kind, has_bfloat16(), memory)


def report_gpus(n: int) -> list[DeviceReport]:
    """Return what the first ``n`` GPUs of this machine are, without taking memory of any."""
    found = [torch.cuda.get_device_properties(i) for i in range(n)]
    is_amd = torch.version.hip is not None
    return [DeviceReport("cuda", is_amd or each.major >= 8, each.total_memory) for each in found]  # 8: Ampere


def smallest_device(devices: Sequence[DeviceReport]) -> DeviceReport:
    """Return what all of them can do: a CPU before a GPU, the least memory, bfloat16 where each has it."""
    kind = "cpu" if any(each.kind == "cpu" for each in devices) else "cuda"
    return DeviceReport(kind, all(each.has_bfloat16 for each in devices), min(each.memory for each in devices))
