"""Memory that a batch frees is kept for the next one.

glibc gives freed memory back to the system and has it faulted in again, zeroed, at the next batch, which costs a
command on the CPU up to a third of its time. The command line says so to the allocator of its own process; the library
leaves its caller's allocator alone.
"""

import ctypes
import sys

# glibc's names, their numbers in malloc.h, and what they are set to. MALLOC_name_ in the environment does the same.
KEEP_FREED = {
    "TRIM_THRESHOLD": (-1, 1 << 30),  # bytes at the top of the heap that are not given back
    "TOP_PAD": (-2, 1 << 26),
    "MMAP_THRESHOLD": (-3, 1 << 25),  # glibc takes no more: larger blocks are mapped by themselves
}


def keep_freed_memory() -> None:
    """Tell glibc's allocator to keep what is freed; nothing where there is no glibc."""
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    for number, value in KEEP_FREED.values():
        mallopt(number, value)
