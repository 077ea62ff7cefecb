"""What of this machine a plan depends on."""

import os
from pathlib import Path

import torch

from handpick.model import device


def resident_bytes() -> int:
    """Return what this process holds now; 0 on a GPU, where a plan counts the GPU's memory, and where nothing tells."""
    if device().type == "cuda":
        return int(torch.cuda.memory_allocated())
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if statm.exists() else 0


def machine_notes(dtype: torch.dtype) -> list[str]:
    """Return what a plan's times hold for."""
    busy = f", load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores" if hasattr(os, "getloadavg") else ""
    return [
        f"time is from a probe on this {device()} in {str(dtype).removeprefix('torch.')}{busy}; it holds while the "
        "machine is as busy as now, and leaves out the seconds in which Python loads its libraries"
    ]
