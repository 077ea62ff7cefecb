"""How much memory this process may still take."""

import os
from pathlib import Path


def available_bytes() -> int:
    """Free memory of the machine, or the limit of the job or container where that is lower."""
    return min([_free_bytes(), *_cgroup_limits()])


def _free_bytes() -> int:
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        return int(lines["MemAvailable"].split()[0]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")  # macOS: no cheap count of what is free


def _cgroup_limits() -> list[int]:
    """Limits of the process's control group (version 2) and of the groups around it; schedulers set any of them."""
    membership = Path("/proc/self/cgroup")
    root = Path("/sys/fs/cgroup")
    if not membership.exists():
        return []
    own = root / membership.read_text().rpartition("::")[2].strip().lstrip("/")
    files = [group / "memory.max" for group in (own, *own.parents) if group.is_relative_to(root)]
    texts = [file.read_text().strip() for file in files if file.exists()]
    return [int(text) for text in texts if text != "max"]
