"""What of Ray's executor can be told without Ray: what is refused, and in which words."""

import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from handpick.data.pool import Pool
from handpick.errors import SettingsError, StoreError, WorkerError
from handpick.executors import Processes, RayActors, executor_for
from handpick.executors.devices import DeviceReport, smallest_device
from handpick.executors.fit import Greeting, Token, check_greeting, lay_token
from handpick.executors.processes import visible_gpus
from handpick.executors.protocol import FillJob, ShardTask
from handpick.executors.ray_actors import RayRun
from handpick.executors.ray_cluster import RayCluster, Room, check_answers, find_room
from handpick.executors.versions import describe_differences, package_versions
from handpick.settings import Settings
from tests.executors.encoders import Counting
from tests.executors.ray_here import needs_ray
from tests.executors.test_processes import pool, store_of  # noqa: F401

GPU, OLD_GPU, CPU = (
    DeviceReport("cuda", True, 80 << 30), DeviceReport("cuda", False, 16 << 30), DeviceReport("cpu", True, 64 << 30)
)  # fmt: skip


def test_without_ray_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handpick.executors.ray_cluster.find_spec", lambda name: None)
    with pytest.raises(SettingsError, match=r"--engine ray needs Ray: pip install 'handpick\[ray\]', on every machine"):
        executor_for(engine="ray")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"engine": "dask"}, "there is no engine 'dask': give local, ray, ray:ADDRESS or ranks"),
        ({"engine": "ray:"}, "there is no engine 'ray:'"),
        ({"engine": "ray:ray://head:10001"}, "handpick has to run on a machine of the cluster"),
        ({"engine": "ray", "workers": 2}, "the engine is ray: give --max-workers"),
        ({"engine": "ranks", "workers": 2}, "the engine is ranks: leave it out"),
        ({"max_workers": 2}, "max_workers is for --engine ray: leave it out"),
        ({"gpus_per_worker": 0.5}, "gpus_per_worker is for --engine ray: leave it out"),
    ],
)
def test_what_makes_no_sense_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError) as told:
        Settings(**given)
    assert said in str(told.value)


def test_who_computes_stands_in_no_file() -> None:
    settings = Settings(engine="ray:head:6379", max_workers=3, gpus_per_worker=0.5)
    assert settings.to_yaml() == Settings().to_yaml()
    assert settings.model_dump() == Settings().model_dump()


def test_an_address_at_which_nobody_listens_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        check_answers(f"127.0.0.1:{port}")
    with pytest.raises(SettingsError, match=rf"no Ray answers at 127.0.0.1:{port}: Connection refused; start it"):
        check_answers(f"127.0.0.1:{port}")
    with pytest.raises(SettingsError, match=r"RAY_ADDRESS ray://head:10001: handpick has to run on a machine of the"):
        check_answers("ray://head:10001")


@needs_ray
def test_a_ray_that_does_not_start_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    def init(*given: Any, **more: Any) -> None:
        raise Exception("The current node timed out during startup. This could happen.")

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(WorkerError, match="Ray cannot be started on this machine: The current node timed out during"):
        RayCluster().join(1)


@needs_ray
def test_nothing_is_started_before_it_is_entered() -> None:
    import ray

    executor = executor_for(engine="ray:203.0.113.1:6379", max_workers=2)
    assert isinstance(executor, RayActors)
    assert not ray.is_initialized()


def test_versions_are_compared_by_name() -> None:
    here = package_versions()
    assert here["torch"].count("+") == 0
    assert {"Python", "torch", "transformers", "tokenizers", "peft", "numpy"} <= set(here)
    assert describe_differences(here, here | {"bitsandbytes": here.get("bitsandbytes", "1"), "vllm": "1"}) is None
    there = {name: version for name, version in here.items() if name != "peft"} | {"transformers": "5.0.0"}
    assert describe_differences(here, there) == (
        f"transformers 5.0.0 (here {here['transformers']}), peft missing (here {here['peft']})"
    )


def test_a_worker_with_other_versions_or_another_folder_is_refused() -> None:
    here = package_versions()
    check_greeting(Greeting("one", 1, here, CPU, None), here)
    with pytest.raises(SettingsError) as told:
        check_greeting(Greeting("two", 1, here | {"numpy": "1.0"}, CPU, None), here)
    assert str(told.value) == (
        f"the worker on two has numpy 1.0 (here {here['numpy']}): install the same versions on all machines"
    )
    with pytest.raises(SettingsError, match="the working folder /home/me is not there on three: start the command in"):
        check_greeting(Greeting("three", 1, here, CPU, "/home/me"), here)


def test_the_smallest_device_is_what_all_can_do() -> None:
    assert smallest_device([GPU, OLD_GPU]) == DeviceReport("cuda", False, 16 << 30)
    assert smallest_device([GPU, GPU]) == GPU
    assert smallest_device([GPU, CPU]) == DeviceReport("cpu", True, 64 << 30)


HEAD, CPUS, GPUS = {"CPU": 0.0}, {"CPU": 8.0}, {"CPU": 16.0, "GPU": 4.0}


@pytest.mark.parametrize(
    ("nodes", "max_workers", "gpus_per_worker", "threads", "room"),
    [
        ([CPUS], None, None, 8, Room(1, 1, 0, 8, 8)),
        ([CPUS], 2, None, 8, Room(2, 1, 0, 4, 4)),  # as two processes of --workers
        ([CPUS], 2, None, 1, Room(2, 1, 0, 1, 1)),
        ([CPUS], 64, None, 8, Room(64, 1, 0, 1, 1)),  # 8 of them until machines come
        ([HEAD, CPUS, CPUS], None, None, 32, Room(2, 2, 0, 8, 8)),
        ([HEAD, GPUS, GPUS], None, None, 32, Room(8, 2, 1, 4, 4)),
        ([CPUS, GPUS], None, None, 32, Room(4, 1, 1, 4, 4)),
        ([GPUS], 64, 1, 32, Room(64, 1, 1, 4, 4)),
        ([GPUS], None, 0.5, 32, Room(8, 1, 0.5, 2, 2)),
        ([{"CPU": 2.0, "GPU": 4.0}], None, 1, 32, Room(4, 1, 1, 1, 0.5)),  # all four find their place
        ([GPUS], 3, 0, 9, Room(3, 1, 0, 3, 3)),
        ([HEAD], 4, 1, 8, Room(4, 0, 1, 1, 1)),
    ],
)
def test_the_room_for_actors(
    nodes: list[dict[str, float]], max_workers: int | None, gpus_per_worker: float | None, threads: int, room: Room
) -> None:
    assert find_room(nodes, max_workers, gpus_per_worker, threads) == room


def test_no_room_is_said() -> None:
    with pytest.raises(
        SettingsError, match=r"no machine of this Ray has room for a worker of 2 GPUs \(there are: 8 CPU"
    ):
        find_room([CPUS], None, 2, 8)


def test_a_worker_takes_a_gpu_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no GPU in most tests: which one a worker is shown is told from the environment that it starts in."""
    monkeypatch.setattr("handpick.executors.processes.device", lambda: torch.device("cuda"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert visible_gpus() == ["3", "5"]
    assert Processes(2).threads >= 1
    with pytest.raises(SettingsError, match="--workers 3: each takes a GPU for itself, and there are 2 here: give"):
        Processes(3)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert visible_gpus() == ["0"]
    with pytest.raises(SettingsError, match="and there is 1 here: give --workers 1"):
        Processes(2)


def test_three_deaths_over_one_shard_end_the_run_and_are_laid_at_its_door(pool: Pool, tmp_path: Path) -> None:  # noqa: F811
    """Of two shards that an actor had in hand, the first that is not written is the one that it computed."""
    job = FillJob(store_of(pool, tmp_path / "store"), pool, Counting())
    first, second = (ShardTask(0, shard) for shard in job.store.shards()[:2])
    said: list[Any] = []
    watcher: Any = SimpleNamespace(advance=said.append, note_written=said.append, note_refused=said.append)
    executor: Any = SimpleNamespace(replace=lambda actor: actor.tasks)
    run = RayRun(executor, 1, None, job, None, [], watcher)  # type: ignore[arg-type]
    actor: Any = SimpleNamespace(tasks=[first, second], greeting=None)
    run.bury(actor)
    run.bury(actor)
    ids = [pool[row].id for row in range(3)]
    job.store.write_shard(0, first.shard, ids, Counting().encode(0, [(each, 1) for each in ids], lambda n: None))
    run.bury(actor)  # the first one counts as done
    assert said == [3, first]
    run.bury(actor)
    with pytest.raises(
        WorkerError, match=r"a worker of Ray died 3 times over the records 4 to 6; what was computed is"
    ):
        run.bury(actor)


@needs_ray
def test_an_actor_that_does_not_see_the_folder_refuses_the_work(pool: Pool, tmp_path: Path) -> None:  # noqa: F811
    from handpick.executors.ray_actor import ShardActor

    job = FillJob(store_of(pool, tmp_path / "store"), pool, Counting())
    with lay_token(job.store.path) as token:
        assert token.is_seen()
        assert not Token(token.path, "another run's").is_seen()
    assert not token.is_seen()
    found = ShardActor.fill(object.__new__(ShardActor), 1, job, token, ShardTask(0, job.store.shards()[0]))
    assert isinstance(found, StoreError)
    assert str(found).startswith(f"the folder {job.store.path} of this run is not there on ")
    assert str(found).endswith("give --out on a disk that all machines share, under the same name")
