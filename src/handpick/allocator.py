"""Memory that a batch frees is kept for the next one.

glibc gives freed memory back to the system and has it faulted in again, zeroed, at the next batch, which costs a
command on the CPU up to a third of its time. The command line says so to the allocator of its own process, and a study
to those of its workers; the library leaves its caller's allocator alone.
"""

import ctypes
import sys
from typing import Any

# glibc's names, their numbers in malloc.h, and what they are set to. MALLOC_name_ in the environment does the same.
KEEP_FREED = {
    "TRIM_THRESHOLD": (-1, 1 << 30),  # bytes at the top of the heap that are not given back
    "TOP_PAD": (-2, 1 << 26),
    "MMAP_MAX": (-4, 0),  # blocks that are mapped by themselves: what is mapped is given back, however large
}


def keep_freed_memory() -> None:
    """Tell glibc's allocator to keep what is freed; nothing where there is no glibc."""
    mallopt = _glibc_function("mallopt")
    if mallopt is not None:
        for number, value in KEEP_FREED.values():
            mallopt(number, value)


def give_back_freed_memory() -> None:
    """Give the system what was kept, for what comes next to find it free; nothing where there is no glibc."""
    malloc_trim = _glibc_function("malloc_trim")
    if malloc_trim is not None:
        malloc_trim(ctypes.c_size_t(0))


def _glibc_function(name: str) -> Any:
    return getattr(ctypes.CDLL(None), name, None) if sys.platform.startswith("linux") else None
