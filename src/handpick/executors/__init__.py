"""Who fills a feature store, or makes whole calls: this process, or several. All write the same bytes."""

from collections.abc import Sequence
from pathlib import Path

from handpick.executors.calls import Calls, CallsHere, CallsInProcesses
from handpick.executors.devices import DeviceReport, smallest_device
from handpick.executors.fill import fill_store
from handpick.executors.processes import Processes
from handpick.executors.protocol import Advance, Encoder, EncoderSpec, Executor, Preparer
from handpick.executors.rank import Rank
from handpick.executors.ranks import RankShare
from handpick.executors.ray_actors import RayActors
from handpick.executors.ray_calls import CallsByRay
from handpick.executors.this_process import ThisProcess
from handpick.executors.unusable import refuse_queries, report_unusable, rows_of

__all__ = [
    "Advance",
    "Calls",
    "CallsByRay",
    "CallsHere",
    "CallsInProcesses",
    "DeviceReport",
    "Encoder",
    "EncoderSpec",
    "Executor",
    "Preparer",
    "Processes",
    "Rank",
    "RankShare",
    "RayActors",
    "ThisProcess",
    "calls_for",
    "executor_for",
    "fill_store",
    "refuse_queries",
    "report_unusable",
    "rows_of",
    "smallest_device",
]


def executor_for(
    workers: int | None = None,
    imports: Sequence[str] = (),
    *,
    engine: str = "local",
    max_workers: int | None = None,
    gpus_per_worker: float | None = None,
    shard_model: bool = False,
) -> Executor:
    """Return the executor of a run's settings; nothing is started before it is entered.

    Args:
        workers: how many processes of this machine; None: this one.
        imports: modules that other processes will need.
        engine: "local", "ray", "ray:ADDRESS" or "ranks".
        max_workers: of Ray's actors, at most.
        gpus_per_worker: of one of them.
        shard_model: whether the ranks hold one model together.

    Raises:
        SettingsError: there are fewer GPUs than workers, Ray is not installed, or no launcher says a rank.
    """
    name, _, address = engine.partition(":")
    if name == "ray":
        return RayActors(address or None, max_workers, gpus_per_worker, imports)
    if name == "ranks":
        return RankShare(shard_model=shard_model)
    return ThisProcess() if workers is None else Processes(workers, imports=imports)


def calls_for(
    folder: Path,
    workers: int | None = None,
    *,
    engine: str = "local",
    max_workers: int | None = None,
    gpus_per_worker: float | None = None,
) -> Calls:
    """Return who makes whole calls, by the same settings; nothing is started before it is run.

    Args:
        folder: of the results.
        workers: how many processes of this machine; None: this one.
        engine: "local", "ray" or "ray:ADDRESS".
        max_workers: calls at a time by Ray, at most.
        gpus_per_worker: of one of them.

    Raises:
        SettingsError: Ray is not installed, or nobody answers at the address.
    """
    name, _, address = engine.partition(":")
    if name == "ray":
        return CallsByRay(folder, address or None, max_workers, gpus_per_worker)
    return CallsHere() if workers in (None, 1) else CallsInProcesses(workers)
