"""Memory that a batch frees is kept for the next one.

glibc gives freed memory back to the system and has it faulted in again, zeroed, at the next batch, which costs a
command on the CPU up to a third of its time. The command line says so to the allocator of its own process; the library
leaves its caller's allocator alone.
"""

import ctypes
import sys

# of malloc.h
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
_KEPT = 1 << 30  # bytes at the top of the heap that are not given back
_GROWN_BY = 1 << 26
_LARGEST_THRESHOLD = 1 << 25  # glibc takes no more: larger blocks are mapped by themselves


def keep_freed_memory() -> None:
    """Tell glibc's allocator to keep what is freed; nothing where there is no glibc."""
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    for parameter, value in (
        (_M_TRIM_THRESHOLD, _KEPT),
        (_M_TOP_PAD, _GROWN_BY),
        (_M_MMAP_THRESHOLD, _LARGEST_THRESHOLD),
    ):
        mallopt(parameter, value)
