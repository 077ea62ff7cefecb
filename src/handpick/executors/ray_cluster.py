"""A Ray that is joined, or started for one run: where it is, and what workers it has room for."""

import logging
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from handpick.errors import SettingsError, WorkerError, first_line
from handpick.executors.worker import TRIES

_OBJECTS = 100 << 20  # bytes of the object store of a Ray of our own: what is put there are descriptions
_CONNECT = 5.0  # seconds in which a cluster's port must answer
# Read when Ray starts here, unless the user says otherwise: a task whose worker is ended for lack of memory is made
# again as often as one that was lost, and not for ever; of a Ray of our own nothing is sent, and its workers have as
# much of a busy machine as this process, of which they are a part.
_ANY = {"RAY_task_oom_retries": str(TRIES - 1)}
_OWN = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}


class RayCluster:
    """A Ray. What it is asked to start here, or to join, is left again; one that the calling program runs stays.

    Args:
        address: of a cluster's head, HOST:PORT; None: that of ``RAY_ADDRESS``, or a Ray of this run's own, here.

    Raises:
        SettingsError: Ray is not installed.
    """

    def __init__(self, address: str | None = None) -> None:
        if find_spec("ray") is None:
            raise SettingsError("--engine ray needs Ray: pip install 'handpick[ray]', on every machine")
        self._address = address
        self._is_ours = False

    def _address_now(self) -> str | None:
        return self._address or os.environ.get("RAY_ADDRESS")

    def check(self) -> None:
        """Look whether anybody answers where a cluster is named.

        Raises:
            SettingsError: nobody does, or it is an address of another kind.
        """
        import ray

        address = self._address_now()
        if address is not None and not ray.is_initialized():
            check_answers(address)

    def join(self, cpus: int | None) -> None:
        """Join it, or start it.

        Args:
            cpus: that one of our own counts; None: as many as there are.

        Raises:
            SettingsError: no cluster answers, or it is one of other versions.
            WorkerError: one of our own does not start.
        """
        import ray

        if ray.is_initialized():  # by the program that calls, which ends it too
            return
        self.check()
        address = self._address_now()
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        for name, value in (_ANY | _OWN if address is None else _ANY).items():
            os.environ.setdefault(name, value)
        if address is None:
            try:
                ray.init("local", num_cpus=cpus, include_dashboard=False, object_store_memory=_OBJECTS, **quiet)
            except Exception as error:  # as where its parts wait in vain for each other, since the machine is too busy
                raise WorkerError(
                    f"Ray cannot be started on this machine: {first_line(error)}; run the same again when less else "
                    "runs here, or with --engine local"
                ) from error
        else:
            try:
                ray.init(address=address, **quiet)
            except Exception as error:  # of many kinds: also where the cluster has another Ray or Python
                raise SettingsError(f"the Ray cluster at {address} cannot be joined: {first_line(error)}") from error
        self._is_ours = True

    def leave(self) -> None:
        """Leave it, if it was started or joined here."""
        import ray

        if self._is_ours:
            self._is_ours = False
            ray.shutdown()

    def machines(self) -> list[dict[str, float]]:
        """Return the resources of each machine that is there, by Ray's names."""
        import ray

        return [node["Resources"] for node in ray.nodes() if node["Alive"]]


@dataclass(frozen=True, slots=True)
class Room:
    """How many actors there are to be, on how many machines, and what each has: ``cpus`` is what Ray counts."""

    workers: int
    machines: int
    gpus: float
    threads: int
    cpus: float

    def describe(self) -> str:
        """Return where they are, in words."""
        with_gpus = f", {self.gpus:g} GPU each" if self.gpus else ""
        return f"on {self.machines} machine{'' if self.machines == 1 else 's'}{with_gpus}"


def find_room(
    nodes: Sequence[Mapping[str, float]], max_workers: int | None, gpus_per_worker: float | None, threads: int
) -> Room:
    """Return what actors the machines of a cluster have room for.

    Args:
        nodes: the resources of each machine, by Ray's names.
        max_workers: actors; None: one a GPU, or one a machine where there is none.
        gpus_per_worker: of each; None: 1 where there are any.
        threads: of this process, which no actor has more of.

    Raises:
        SettingsError: no machine has room for one, and none is to come.
    """
    gpus = gpus_per_worker
    if gpus is None:
        gpus = 1.0 if any(node.get("GPU") for node in nodes) else 0.0
    hosts = [node for node in nodes if node.get("CPU", 0) >= 1 and node.get("GPU", 0) >= gpus]
    if not hosts:
        if max_workers is None:
            has = ", ".join(f"{node.get('CPU', 0):g} CPUs and {node.get('GPU', 0):g} GPUs" for node in nodes)
            raise SettingsError(
                f"no machine of this Ray has room for a worker of {gpus:g} GPUs (there are: {has}): give another "
                "--gpus-per-worker, or --max-workers where machines are still to come"
            )
        return Room(max_workers, 0, gpus, 1, 1)
    slots = [int(node["GPU"] // gpus) if gpus else 1 for node in hosts]
    workers = max_workers or sum(slots)
    each = min(workers, max(slots)) if gpus else -(-workers // len(hosts))
    smallest = min(int(node["CPU"]) for node in hosts)
    own = max(1, min(threads, smallest) // each)
    return Room(workers, len(hosts), gpus, own, min(own, smallest / each) if gpus else own)


def check_answers(address: str) -> None:
    """Refuse an address at which nobody listens, which Ray would find out after a minute."""
    host, _, port = address.rpartition(":")
    if "//" in address:
        raise SettingsError(
            f"RAY_ADDRESS {address}: handpick has to run on a machine of the cluster, which shares its folders; give "
            "HOST:PORT there, or hand the command over with `ray job submit`"
        )
    if not port.isdecimal():
        return
    try:
        socket.create_connection((host, int(port)), _CONNECT).close()
    except OSError as error:
        raise SettingsError(
            f"no Ray answers at {address}: {error.strerror or error}; start it there with `ray start --head`, or leave "
            "the address out for a Ray of this machine alone"
        ) from error


def last_line(error: Exception) -> str:
    """Return what a traceback from a worker ends with."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in reversed(lines) if "Error" in line), lines[0] if lines else type(error).__name__)
