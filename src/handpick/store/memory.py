"""How much memory this process may still take."""

import os
import re
from pathlib import Path


def available_bytes() -> int:
    """Return free memory of the machine, or the limit of the job or container where that is lower."""
    return min([_free_bytes(), *_cgroup_limits()])


def _free_bytes() -> int:
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        return int(lines["MemAvailable"].split()[0]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")  # macOS: no cheap count of what is free


def _cgroup_limits() -> list[int]:
    """Return limits of the process's control group (version 2) and of the groups around it.

    Schedulers set any of them.
    """
    membership = Path("/proc/self/cgroup")
    root = Path("/sys/fs/cgroup")
    if not membership.exists():
        return []
    own = root / membership.read_text().rpartition("::")[2].strip().lstrip("/")
    groups = [group for group in (own, *own.parents) if group.is_relative_to(root)]
    return [left for group in groups if (left := _free_in_group(group)) is not None]


def _free_in_group(group: Path) -> int | None:
    """Return what a control group may still take: its limit less what it holds, droppable files not counted."""
    limit, current, stat = (group / f"memory.{name}" for name in ("max", "current", "stat"))
    if not limit.exists() or (text := limit.read_text().strip()) == "max":
        return None
    droppable = re.search(r"^inactive_file (\d+)$", stat.read_text(), re.MULTILINE) if stat.exists() else None
    held = int(current.read_text()) - (int(droppable[1]) if droppable else 0)
    return max(0, int(text) - held)
