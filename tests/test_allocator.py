"""The allocator's settings: taken where there is glibc, and never by the library itself."""

import subprocess
import sys

import pytest

from handpick.allocator import _glibc_function, keep_freed_memory


def test_it_can_be_said_twice() -> None:
    keep_freed_memory()
    keep_freed_memory()


@pytest.mark.skipif(_glibc_function("malloc_trim") is None, reason="there is no glibc")
def test_what_is_freed_is_kept_until_it_is_given_back() -> None:
    """In a process of its own: large blocks, some of which lie between others that are still held."""
    code = """
import os
import numpy as np
from handpick.allocator import give_back_freed_memory, keep_freed_memory

def held():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20

keep_freed_memory()
before = held()
blocks = [np.ones(1 << 23) for _ in range(8)]  # of 64 MiB
del blocks[:-1]
kept = held()
give_back_freed_memory()
print(kept - before, held() - before)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    kept, given_back = map(int, ran.stdout.split())
    assert kept > 400
    assert given_back < 150


@pytest.mark.skipif(_glibc_function("malloc_trim") is None, reason="there is no glibc")
@pytest.mark.parametrize(("told", "most", "stays"), [(True, 100, False), (True, 1000, True), (False, 100, True)])
def test_what_is_kept_is_held_under_a_bound(told: bool, most: int, stays: bool) -> None:
    """Whoever was not told to keep does not give back either: its allocator is its caller's."""
    code = f"""
import os
import numpy as np
from handpick import allocator

def held():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20

allocator.keep_freed_memory()
allocator._keeps = {told}
memory = allocator.KeptMemory({most} << 20)
before = held()
blocks = [np.ones(1 << 23) for _ in range(8)]  # of 64 MiB
del blocks[:-1]
memory.bound()
print(held() - before)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (int(ran.stdout) > 400) == stays


def test_the_library_leaves_its_callers_allocator_alone() -> None:
    code = """
import sys, handpick, handpick.allocator
handpick.allocator._of_glibc = lambda name: sys.exit(1)
import handpick.cli.app, handpick.studies.trained, handpick.model
handpick.select
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
