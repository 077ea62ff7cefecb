"""Whole machines of a Ray are lost while a store is filled: a cluster of nodes on this one."""

import logging
import random
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pytest

from handpick.data.pool import Pool
from handpick.executors import RayActors, ThisProcess
from handpick.executors.worker import TRIES
from tests.executors.encoders import Counting
from tests.executors.ray_here import needs_ray
from tests.executors.test_processes import bytes_of, fill, pool  # noqa: F401

pytestmark = [needs_ray, pytest.mark.slow, pytest.mark.usefixtures("one_thread"), pytest.mark.timeout(7200)]
OF_A_NODE = {"num_cpus": 1, "object_store_memory": 100 << 20}


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A head that computes nothing, and two nodes with room for one actor each."""
    import ray
    from ray.cluster_utils import Cluster

    found = Cluster(initialize_head=True, head_node_args=OF_A_NODE | {"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(2):
            found.add_node(**OF_A_NODE)
        ray.init(found.address, log_to_driver=False, logging_level=logging.ERROR)
        yield found
    finally:
        ray.shutdown()
        found.shutdown()


def _lose_nodes(cluster: Any, filling: Future[Any], n: int, draw: random.Random) -> int:
    """Take nodes away at random moments, start another for each, and return how many; until the store is filled."""
    for lost in range(n):
        wait([filling], draw.uniform(0.0, 3.0))
        if filling.done():
            return lost
        cluster.remove_node(draw.choice(list(cluster.worker_nodes)), allow_graceful=False)
        cluster.add_node(**OF_A_NODE)
    return n


@pytest.mark.parametrize("moments", [3, 100])
def test_nodes_are_lost_at_any_moment(
    moments: int, cluster: Any, pool: Pool, tmp_path: Path,  # noqa: F811
) -> None:  # fmt: skip
    """The store is filled by a thread: Ray starts nodes in the main one alone."""
    fill(pool, tmp_path / "one", Counting(), ThisProcess())
    lost = run = 0
    while lost < moments:
        run += 1
        with RayActors(max_workers=2) as executor, ThreadPoolExecutor(1) as thread:
            filling = thread.submit(fill, pool, tmp_path / f"two {run}", Counting(slow=0.1), executor)
            lost += _lose_nodes(cluster, filling, TRIES - 1, random.Random(run))
            filling.result()
        assert bytes_of(tmp_path / f"two {run}") == bytes_of(tmp_path / "one")
        print(f"run {run}: {lost} nodes lost", flush=True)
