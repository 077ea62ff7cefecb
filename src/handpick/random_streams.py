"""Random draws of the pool that one seed gives, apart from each other by what they are for."""

import zlib

import numpy as np


def generator(seed: int, purpose: str) -> np.random.Generator:
    """Return the stream of a seed for one purpose.

    With one stream for all, the rows that a warmup is trained on would be the first of ``--method random``, and a
    random subset would be measured at checkpoints that have learnt it. PCG64 is named because NumPy may change the
    generator behind ``default_rng``.
    """
    return np.random.Generator(np.random.PCG64([seed, zlib.crc32(purpose.encode())]))
