"""What of Ray's executor can be told without Ray: what is refused, and in which words."""

import socket
from typing import Any

import pytest

from handpick.errors import SettingsError
from handpick.executors import RayActors, executor_for
from handpick.executors.devices import DeviceReport, smallest_device
from handpick.executors.ray_actors import check_answers
from handpick.executors.versions import describe_differences, package_versions
from handpick.settings import Settings
from tests.executors.ray_here import needs_ray

GPU, OLD_GPU, CPU = (
    DeviceReport("cuda", True, 80 << 30), DeviceReport("cuda", False, 16 << 30), DeviceReport("cpu", True, 64 << 30)
)  # fmt: skip


def test_without_ray_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handpick.executors.ray_actors.find_spec", lambda name: None)
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


@needs_ray
def test_a_worker_with_other_versions_or_another_folder_is_refused() -> None:
    from handpick.executors.ray_actor import Greeting
    from handpick.executors.ray_actors import check_greeting

    here = package_versions()
    check_greeting(Greeting("one", 1, here, CPU, None))
    with pytest.raises(SettingsError) as told:
        check_greeting(Greeting("two", 1, here | {"numpy": "1.0"}, CPU, None))
    assert str(told.value) == (
        f"the worker on two has numpy 1.0 (here {here['numpy']}): install the same versions on all machines"
    )
    with pytest.raises(SettingsError, match="the working folder /home/me is not there on three: start the command in"):
        check_greeting(Greeting("three", 1, here, CPU, "/home/me"))


def test_the_smallest_device_is_what_all_can_do() -> None:
    assert smallest_device([GPU, OLD_GPU]) == DeviceReport("cuda", False, 16 << 30)
    assert smallest_device([GPU, GPU]) == GPU
    assert smallest_device([GPU, CPU]) == DeviceReport("cpu", True, 64 << 30)
