"""Memory that a batch frees is kept for the next one.

glibc gives freed memory back to the system and has it faulted in again, zeroed, at the next batch, which costs a
command on the CPU up to a third of its time. The command line says so to the allocator of its own process, and a study
to those of its workers; the library leaves its caller's allocator alone.
"""

import ctypes
import os
import sys
from pathlib import Path
from typing import Any

# glibc's names, their numbers in malloc.h, and what they are set to. MALLOC_name_ in the environment does the same.
KEEP_FREED = {
    "TRIM_THRESHOLD": (-1, 1 << 30),  # bytes at the top of the heap that are not given back
    "TOP_PAD": (-2, 1 << 26),
    "MMAP_MAX": (-4, 0),  # blocks that are mapped by themselves: what is mapped is given back, however large
}


_keeps = False  # whether this process was told to


def keep_freed_memory() -> None:
    """Tell glibc's allocator to keep what is freed; nothing where there is no glibc."""
    global _keeps
    _keeps = True
    mallopt = _glibc_function("mallopt")
    if mallopt is not None:
        for number, value in KEEP_FREED.values():
            mallopt(number, value)


def give_back_freed_memory() -> None:
    """Give the system what was kept, for what comes next to find it free; nothing where there is no glibc."""
    malloc_trim = _glibc_function("malloc_trim")
    if malloc_trim is not None:
        malloc_trim(ctypes.c_size_t(0))


class KeptMemory:
    """What this process keeps although it was freed, held under a bound.

    Blocks of ever other sizes leave holes that the next ones do not fit, so that what is kept grows from step to step.

    Args:
        most: bytes that may be kept.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._needed = _resident_memory()

    def bound(self) -> None:
        """Give back what is kept, if that is too much; to be called where little is in use, such as after a step.

        Nothing in a process whose allocator was left alone.
        """
        if _keeps and _resident_memory() - self._needed > self._most:
            give_back_freed_memory()
            self._needed = _resident_memory()


def _resident_memory() -> int:
    """Return the bytes of this process's that are in memory; 0 where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _glibc_function(name: str) -> Any:
    return getattr(ctypes.CDLL(None), name, None) if sys.platform.startswith("linux") else None
