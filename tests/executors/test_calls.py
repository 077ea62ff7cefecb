"""Whole calls: each is made, whoever is killed, and what is wrong is said."""

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest

from handpick.errors import HandpickError, SettingsError, StoreError, WorkerError
from handpick.executors import CallsByRay, CallsHere, CallsInProcesses, calls, calls_for, ray_calls
from handpick.executors.fit import Token
from handpick.executors.ray_calls import Caller, call_there
from handpick.executors.versions import package_versions
from tests.executors.ray_here import needs_ray, running_ray


def double(n: int) -> int:
    if n == 13:
        raise SettingsError("thirteen cannot be doubled")
    return 2 * n


@needs_ray
def test_a_cluster_that_does_not_answer_is_refused_before_anything_is_called(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"no Ray answers at 127\.0\.0\.1:1: "):
        calls_for(tmp_path, engine="ray:127.0.0.1:1")


def die_at(path: Path) -> str:
    """Kill this process as often as there are lives in the file; then say what its name is."""
    lives = int(path.read_text())
    if lives:
        path.write_text(str(lives - 1))
        os.kill(os.getpid(), signal.SIGKILL)
    return path.name


def test_who_calls_is_who_is_named(tmp_path: Path) -> None:
    assert isinstance(calls_for(tmp_path), CallsHere)
    assert isinstance(calls_for(tmp_path, 1), CallsHere)
    assert isinstance(calls_for(tmp_path, 2), CallsInProcesses)
    assert list(calls_for(tmp_path).run(double, iter([1, 2]))) == [(1, 2), (2, 4)]


def test_a_process_that_is_killed_while_a_call_is_handed_out_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Pool(ThreadPoolExecutor):
        def __init__(self, workers: int, **_: Any) -> None:
            super().__init__(workers)
            self.given = 0

        def submit(self, *args: Any, **_: Any) -> Any:
            self.given += 1
            if self.given == 3:
                raise BrokenProcessPool
            return super().submit(*args)

    monkeypatch.setattr(calls, "ProcessPoolExecutor", Pool)
    assert sorted(CallsInProcesses(2).run(double, range(5))) == [(n, 2 * n) for n in range(5)]


def visible(n: int) -> str | None:
    return os.environ.get("CUDA_VISIBLE_DEVICES")


def test_each_process_sees_one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no GPU in most tests: which one a process is shown is told from its environment."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert {gpu for _, gpu in CallsInProcesses(1).run(visible, [0])} == {None}
    monkeypatch.setattr(calls, "visible_gpus", lambda: ["3", "5"])
    assert {gpu for _, gpu in CallsInProcesses(1).run(visible, [0])} == {"3"}
    with calls._pool(3) as pool:
        assert sorted(pool._initargs[0].get() for _ in range(3)) == ["3", "3", "5"]  # type: ignore[attr-defined]


def test_a_worker_that_is_another_does_nothing_and_says_why(
    tmp_path: Path, one_thread: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_calls, "start_worker", lambda: None)  # this process goes on to speak
    there = Token(tmp_path / "token", "this run's")
    there.path.write_text(there.text)
    here = package_versions()

    def call(**other: Any) -> Any:
        given: dict[str, Any] = {"versions": here, "folder": os.getcwd(), "token": there}
        return call_there(double, 4, Caller(**(given | other)))

    assert call() == 8
    for other, kind, said in (
        (
            {"versions": here | {"torch": "1.0"}},
            SettingsError,
            f"has torch {here['torch']} (here 1.0): install the same",
        ),
        ({"folder": str(tmp_path / "none")}, SettingsError, "the working folder "),
        ({"token": Token(there.path, "another's")}, StoreError, f"the folder {tmp_path} of this run is not there on "),
    ):
        found = call(**other)
        assert isinstance(found, kind)
        assert said in str(found)


@pytest.fixture(scope="module")
def by_ray() -> Iterator[Callable[[Path], CallsByRay]]:
    with running_ray(2):
        yield CallsByRay


@needs_ray
def test_ray_makes_the_call_of_a_worker_that_was_killed_again_and_gives_up_at_last(
    by_ray: Callable[[Path], CallsByRay], tmp_path: Path
) -> None:
    for name, lives in (("never", 0), ("once", 1), ("always", 99)):
        (tmp_path / name).write_text(str(lives))
    given = [tmp_path / name for name in ("once", "never", "always")]
    found = dict(by_ray(tmp_path).run(die_at, given))
    assert found == {tmp_path / "once": "once", tmp_path / "never": "never", tmp_path / "always": None}
    assert (tmp_path / "always").read_text() == "96"  # three tries
    assert not list(tmp_path.glob(".*"))


@needs_ray
def test_what_a_call_raises_is_raised_here(by_ray: Callable[[Path], CallsByRay], tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="thirteen cannot be doubled"):
        list(by_ray(tmp_path).run(double, [13]))
    with pytest.raises(WorkerError, match="a worker of Ray failed: TypeError: "):
        list(by_ray(tmp_path).run(double, [{}]))  # type: ignore[list-item]
    assert list(by_ray(tmp_path / "there is none").run(double, [])) == []
    with pytest.raises(HandpickError, match="cannot write in "):
        list(by_ray(tmp_path / "there is none").run(double, [1]))
