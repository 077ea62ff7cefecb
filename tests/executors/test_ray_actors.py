"""Ray's actors write what one process does, whoever is killed meanwhile."""

import os
import random
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from handpick.data.pool import Pool
from handpick.errors import DataError, SettingsError, StoreError, WorkerError
from handpick.executors import RayActors, ThisProcess
from handpick.data.quarantine import Quarantine
from tests.conftest import write_jsonl
from tests.executors.encoders import Counting
from tests.executors.ray_here import needs_ray, running_ray
from tests.executors.test_processes import SHARD, bytes_of, fill, pool  # noqa: F401

pytestmark = [needs_ray, pytest.mark.usefixtures("one_thread")]


@pytest.fixture(scope="module")
def two() -> Iterator[RayActors]:
    """Two actors of one thread, for all tests: Ray needs not start again and again."""
    with running_ray(2), RayActors(max_workers=2) as executor:
        yield executor


def actors_of(executor: RayActors) -> list[Any]:
    return [actor.handle for actor in executor.actors]


def test_two_actors_write_the_bytes_of_one_process_store_after_store(
    pool: Pool, tmp_path: Path, two: RayActors, capsys: pytest.CaptureFixture[str]  # noqa: F811
) -> None:
    fill(pool, tmp_path / "one", Counting(), ThisProcess())
    capsys.readouterr()
    for folder in (tmp_path / "two", tmp_path / "three"):
        before = actors_of(two)
        fill(pool, folder, Counting(), two)
        assert bytes_of(folder) == bytes_of(tmp_path / "one")  # nothing is left beside the shards either
        assert not before or actors_of(two) == before
    assert capsys.readouterr().err.count("counting") <= 2  # what every worker would say is said once a store
