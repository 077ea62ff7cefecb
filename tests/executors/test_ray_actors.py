"""Ray's actors write what one process does, whoever is killed meanwhile."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import handpick
from handpick.data.pool import Pool
from handpick.errors import SettingsError
from handpick.executors import RayActors, ThisProcess
from handpick.executors.worker import TRIES
from tests.conftest import write_jsonl
from tests.executors.encoders import Counting
from tests.executors.ray_here import needs_ray, running_ray
from tests.executors.test_processes import bytes_of, fill, pool  # noqa: F401

pytestmark = [needs_ray, pytest.mark.usefixtures("one_thread"), pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A Ray with room for two actors and four, for all tests: it needs not start again and again."""
    with running_ray(6):
        yield


@pytest.fixture(scope="module")
def two(cluster: None) -> Iterator[RayActors]:
    """Two actors of one thread, for all tests."""
    with RayActors(max_workers=2) as executor:
        yield executor


def actors_of(executor: RayActors) -> list[Any]:
    return [actor.handle for actor in executor.actors]


def processes_of(executor: RayActors) -> list[int]:
    return [actor.greeting.process for actor in executor.actors if actor.greeting is not None]


def test_two_actors_write_the_bytes_of_one_process_store_after_store(
    pool: Pool, tmp_path: Path, two: RayActors, capsys: pytest.CaptureFixture[str]  # noqa: F811
) -> None:  # fmt: skip
    fill(pool, tmp_path / "one", Counting(), ThisProcess())
    capsys.readouterr()
    before = actors_of(two)
    for folder in (tmp_path / "two", tmp_path / "three"):
        fill(pool, folder, Counting(), two)
        assert bytes_of(folder) == bytes_of(tmp_path / "one")  # nothing is left beside the shards either
        assert actors_of(two) == before
    assert capsys.readouterr().err.count("counting") <= 2  # what every worker would say is said once a store


def test_the_shard_of_an_actor_that_is_killed_is_done_again(
    pool: Pool, tmp_path: Path, two: RayActors, capsys: pytest.CaptureFixture[str]  # noqa: F811
) -> None:  # fmt: skip
    fill(pool, tmp_path / "one", Counting(), ThisProcess())
    (tmp_path / "lives").write_text("2")
    fill(pool, tmp_path / "two", Counting(dies_at=pool[7].id, lives=tmp_path / "lives"), two)
    assert bytes_of(tmp_path / "two") == bytes_of(tmp_path / "one")
    assert "a worker of Ray ended on " in capsys.readouterr().err
    assert int((tmp_path / "lives").read_text()) <= 0


def _strike(pool: Pool, folder: Path, executor: RayActors, n: int, seed: int) -> int:  # noqa: F811
    """Fill a store while actors are killed at random moments; return how many were."""
    draw, over, killed = random.Random(seed), threading.Event(), []

    def kill() -> None:
        while len(killed) < n and not over.wait(draw.uniform(0.0, 0.5)):
            for process in draw.sample(processes_of(executor), 1) if processes_of(executor) else []:
                if process not in killed:
                    killed.append(process)
                    os.kill(process, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        fill(pool, folder, Counting(slow=0.05), executor)
    finally:
        over.set()
        killer.join()
    return len(killed)


def test_any_actor_may_be_killed_at_any_moment(pool: Pool, tmp_path: Path, two: RayActors) -> None:  # noqa: F811
    fill(pool, tmp_path / "one", Counting(), ThisProcess())
    assert _strike(pool, tmp_path / "two", two, 2, seed=22)
    assert bytes_of(tmp_path / "two") == bytes_of(tmp_path / "one")


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.usefixtures("cluster")
def test_actors_are_killed_at_a_hundred_moments(pool: Pool, tmp_path: Path) -> None:  # noqa: F811
    fill(pool, tmp_path / "one", Counting(), ThisProcess())
    killed = run = 0
    while killed < 100:
        run += 1
        with RayActors(max_workers=2) as executor:
            # two at most: a third may hit the shard of both, which ends a run, as it should
            killed += _strike(pool, tmp_path / f"two {run}", executor, TRIES - 1, seed=run)
        assert bytes_of(tmp_path / f"two {run}") == bytes_of(tmp_path / "one")


def _kill_drivers(pool: Pool, tmp_path: Path, moments: int, seed: int) -> int:  # noqa: F811
    """Start a driver again and again and kill it, with a Ray of its own; return how often it was killed."""
    draw, killed = random.Random(seed), 0
    source, store = str(tmp_path / "pool.jsonl"), tmp_path / "two"
    for moment in range(moments + 1):
        driver = subprocess.Popen(
            [sys.executable, "-m", "tests.executors.ray_driver", source, str(tmp_path / "parsed"), str(store)]
        )
        written = len(list(store.rglob("*.json")))
        if moment < moments:
            while driver.poll() is None and len(list(store.rglob("*.json"))) <= written:
                time.sleep(0.02)
            time.sleep(draw.uniform(0.0, 0.4))
            killed += driver.poll() is None
            driver.kill()
        status = driver.wait()
    assert status == 0
    return killed


def test_a_driver_that_is_killed_goes_on_from_the_store(pool: Pool, tmp_path: Path) -> None:  # noqa: F811
    fill(pool, tmp_path / "one", Counting(slow=0.05), ThisProcess())
    assert _kill_drivers(pool, tmp_path, 1, seed=22)
    assert bytes_of(tmp_path / "two") == bytes_of(tmp_path / "one")


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_drivers_are_killed_at_a_hundred_moments(pool: Pool, tmp_path: Path) -> None:  # noqa: F811
    fill(pool, tmp_path / "one", Counting(slow=0.05), ThisProcess())
    killed = run = 0
    while killed < 100:
        run += 1
        killed += _kill_drivers(pool, tmp_path, 3, seed=run)
        assert bytes_of(tmp_path / "two") == bytes_of(tmp_path / "one")
        (tmp_path / "two").rename(tmp_path / f"two {run}")


@pytest.mark.parametrize(
    ("method", "more", "workers"),
    [
        ("gradient-rr", {"warmup": "none"}, 2),
        pytest.param("gradient-rr", {"warmup": "none"}, 4, marks=pytest.mark.slow),
        pytest.param("rds+", {}, 2, marks=pytest.mark.slow),
        pytest.param("gist", {"warmup": "none"}, 2, marks=pytest.mark.slow),
        pytest.param("gradient-rr", {"warmup": "none", "score_only": True}, 2, marks=pytest.mark.slow),
    ],
)
def test_a_run_by_ray_leaves_what_one_process_does(
    method: str, more: dict[str, Any], workers: int, cluster: None, tiny_model: Path,
    pool_records: list[dict[str, Any]], query_records: list[dict[str, Any]], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Every file of the run, but for what it cost; sources and the folder are named from the working folder."""
    monkeypatch.chdir(tmp_path)
    write_jsonl(tmp_path / "pool.jsonl", pool_records[:24])
    write_jsonl(tmp_path / "query.jsonl", query_records[:4])
    given: dict[str, Any] = {
        "pool": "pool.jsonl", "query": "query.jsonl", "model": str(tiny_model), "budget": 6, "shard_rows": 3,
        "projection_dim": 256, "dtype": "float32", "max_length": 256, "method": method, "out": "run", **more,
    }  # fmt: skip
    handpick.select(**given)
    one = bytes_of(tmp_path / "run")
    (tmp_path / "run").rename(tmp_path / "one")
    handpick.select(**given, engine="ray", max_workers=workers)
    other = bytes_of(tmp_path / "run")
    one.pop("cost.json"), other.pop("cost.json")
    assert sorted(one) == sorted(other)
    assert [name for name in one if one[name] != other[name]] == []


def test_what_an_actor_raises_is_raised_here_and_none_is_left(pool: Pool, tmp_path: Path, two: RayActors) -> None:  # noqa: F811
    with pytest.raises(SettingsError, match=f"{pool[4].id} cannot be computed"):
        fill(pool, tmp_path / "two", Counting(fails_at=pool[4].id), two)
    assert not two.actors
