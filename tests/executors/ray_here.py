"""Ray for tests: one of few processes, started once for a module, which the executor finds running."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

import pytest

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: pip install 'handpick[ray]'")


@contextmanager
def running_ray(n_cpus: int) -> Iterator[None]:
    import ray

    ray.init(
        "local", num_cpus=n_cpus, include_dashboard=False, object_store_memory=100 << 20, log_to_driver=False,
        logging_level=logging.ERROR,
    )  # fmt: skip
    try:
        yield
    finally:
        ray.shutdown()
