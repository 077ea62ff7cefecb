"""Whole calls as tasks of Ray, on this machine or on many.

Ray places the tasks, notices when a worker or its machine is gone, and makes the call again elsewhere; here is only how
many are handed out at a time. Each call looks first whether it may be made where it is.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import torch

from handpick.errors import HandpickError, WorkerError
from handpick.executors.calls import Found, Given, start_worker
from handpick.executors.fit import Token, check_greeting, enter_folder, greet, lay_token
from handpick.executors.ray_cluster import RayCluster, Room, find_room, last_line
from handpick.executors.versions import package_versions
from handpick.executors.worker import THREAD_NAMES, TRIES
from handpick.progress import log

_QUIET = 60.0  # seconds in which no call has ended, after which it is asked whether there is room for one


@dataclass(frozen=True, slots=True)
class Caller:
    """What a worker has to have as the driver has it: versions, the working folder, and the folder of ``token``."""

    versions: Mapping[str, str]
    folder: str
    token: Token

    def check_here(self) -> None:
        """Refuse to work in a process that is another.

        Raises:
            SettingsError: it has other versions, or not the working folder.
            StoreError: it does not see the folder of the results.
        """
        check_greeting(greet(enter_folder(self.folder)), self.versions)
        self.token.check()


class CallsByRay:
    """Several calls at a time, each a task of one thread.

    Args:
        folder: of the results, which all machines have to see.
        address: of a cluster's head, HOST:PORT; None: that of ``RAY_ADDRESS``, or a Ray of this run's own, here.
        max_workers: calls at a time, at most; None: one a GPU, or one a CPU where there is none.
        gpus_per_worker: of each; None: 1 where there are any.

    Raises:
        SettingsError: Ray is not installed, or nobody answers at the address.
    """

    def __init__(
        self,
        folder: Path,
        address: str | None = None,
        max_workers: int | None = None,
        gpus_per_worker: float | None = None,
    ) -> None:
        self._folder = folder
        self._cluster = RayCluster(address)
        self._cluster.check()  # now: what is called may be ready only after hours
        self._max_workers = max_workers
        self._gpus_per_worker = gpus_per_worker

    def run(self, function: Callable[[Given], Found], given: Iterable[Given]) -> Iterator[tuple[Given, Found | None]]:
        """Call a function for each, as ``Calls`` has it; nothing is started or joined where nothing is given.

        Raises:
            SettingsError: no cluster answers, or a worker has other versions than this process.
            StoreError: a worker does not see the folder.
            WorkerError: the function failed in a way that it does not say itself.
        """
        left = iter(given)
        first = list(islice(left, 1))
        if not first:
            return
        with lay_token(self._folder) as token:
            try:
                self._cluster.join(self._max_workers)
                caller = Caller(package_versions(), os.getcwd(), token)
                yield from self._run(function, chain(first, left), caller)
            finally:
                self._cluster.leave()

    def _run(
        self, function: Callable[[Given], Found], given: Iterator[Given], caller: Caller
    ) -> Iterator[tuple[Given, Found | None]]:
        import ray

        room = self._room()
        log(f"Ray: up to {room.workers} at a time {room.describe()}")
        task = ray.remote(
            num_cpus=room.cpus,
            num_gpus=room.gpus,
            max_retries=TRIES - 1,
            runtime_env={"env_vars": dict.fromkeys(THREAD_NAMES, "1")},
        )(call_there)
        running: dict[Any, Given] = {}
        try:
            while True:
                for each in islice(given, room.workers - len(running)):
                    running[task.remote(function, each, caller)] = each
                if not running:
                    return
                for reference in self._wait(list(running)):
                    yield running.pop(reference), _answer(reference)
        finally:
            for reference in running:  # of a Ray that goes on without this process
                with suppress(Exception):
                    ray.cancel(reference, force=True)

    def _room(self) -> Room:
        machines = self._cluster.machines()
        room = find_room(machines, self._max_workers, self._gpus_per_worker, threads=1)
        if self._max_workers is None and not room.gpus:
            return replace(room, workers=sum(int(machine.get("CPU", 0)) for machine in machines))
        return room

    def _wait(self, running: list[Any]) -> list[Any]:
        """Return those that have ended, as soon as one has."""
        import ray

        while not (ready := ray.wait(running, num_returns=1, timeout=_QUIET)[0]):
            if not find_room(self._cluster.machines(), 1, self._gpus_per_worker, threads=1).machines:
                log("no machine of Ray has room for a worker now: `ray status` says what is asked for")
        return list(ready)


def _answer(reference: Any) -> Any:
    """Return what a call has found; None where its workers were killed."""
    import ray
    from ray.exceptions import LocalRayletDiedError, NodeDiedError, OutOfMemoryError, WorkerCrashedError

    try:
        found = ray.get(reference)
    except (WorkerCrashedError, NodeDiedError, OutOfMemoryError, LocalRayletDiedError):
        return None
    except ray.exceptions.RayError as error:
        raise WorkerError(f"a worker of Ray failed: {last_line(error)}") from error
    if isinstance(found, HandpickError):
        raise found
    return found


def call_there(function: Callable[[Given], Found], given: Given, caller: Caller) -> Found | HandpickError:
    """Call a function in this process, which is a worker's; return what is wrong instead of raising it.

    Args:
        function: that is called.
        given: what it is called with.
        caller: what the driver has.
    """
    try:
        start_worker()
        torch.set_num_threads(1)
        caller.check_here()
        return function(given)
    except HandpickError as error:
        return error
