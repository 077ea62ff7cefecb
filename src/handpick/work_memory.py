"""What OpenBLAS works in, taken while there is memory for it.

NumPy and SciPy have an OpenBLAS each. It asks the system for its memory at its first product, 32 MB, and where there is
none it asks again, without end: a command short of memory would hang. What it has taken it keeps.
"""

import mmap
import sys
from functools import cache

import numpy as np

_BYTES = 64 << 20  # of either, and as much to spare


def take_work_memory() -> None:
    """Have NumPy's OpenBLAS take what it works in, and SciPy's where its linear algebra is loaded.

    Raises:
        OSError: there is not so much memory.
    """
    _take_of_numpy()
    if "scipy.linalg.blas" in sys.modules:
        _take_of_scipy()


@cache
def _take_of_numpy() -> None:
    _require_room()
    np.ones((2, 2), dtype=np.float32) @ np.ones((2, 2), dtype=np.float32)


@cache
def _take_of_scipy() -> None:
    from scipy.linalg.blas import sgemm  # type: ignore[import-untyped]

    _require_room()
    sgemm(1.0, np.ones((2, 2), dtype=np.float32), np.ones((2, 2), dtype=np.float32))


def _require_room() -> None:
    mmap.mmap(-1, _BYTES).close()
