"""Actors of Ray on this machine or on many: each loads an encoder once and takes whole shards, until none is left.

Ray places the actors, notices when one or its machine is gone, and starts it again wherever there is room; here is only
who has which shard. What an actor that is gone had in hand goes to whichever is free first. The description of what is
filled travels once, through Ray's object store. The driver writes no shard.
"""

import logging
import os
import secrets
import socket
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Self

import torch

from handpick.errors import HandpickError, SettingsError, StoreError, WorkerError, first_line
from handpick.executors.devices import DeviceReport
from handpick.executors.protocol import FillJob, ShardTask, Watcher
from handpick.executors.ray_actor import NEWS, Greeting, News, ShardActor, Token
from handpick.executors.versions import describe_differences, package_versions
from handpick.executors.worker import THREAD_NAMES, TRIES
from handpick.layout import StoreLayout
from handpick.locks import lock_file
from handpick.progress import log, log_once

_AT_ONCE = 2  # shards that an actor has in hand: one it computes, one it reads or writes
_RESTARTS = 20  # of an actor, whoever ends it; after that it is not started again
_OBJECTS = 100 << 20  # bytes of the object store of a Ray of our own: what is put there are descriptions
_QUIET = 60.0  # seconds without a word from any actor
_CONNECT = 5.0  # seconds in which a cluster's port must answer


@dataclass(eq=False)
class _Actor:
    """An actor, and the shards that it has in hand, the one that it computes first."""

    handle: Any
    tasks: list[ShardTask] = field(default_factory=list)
    greeting: Greeting | None = None  #: None while it starts


@dataclass(frozen=True, slots=True)
class _Call:
    """What an actor was asked and has not answered."""

    actor: _Actor
    kind: Literal["greet", "news", "fill"]
    task: ShardTask | None = None


class RayActors:
    """The executor that Ray's actors are behind. What is run while it is entered is run by the same actors.

    Args:
        address: of a cluster's head, HOST:PORT; None: that of ``RAY_ADDRESS``, or a Ray of this run's own, here.
        max_workers: actors, at most; None: one a GPU, or where there is none one a machine.
        gpus_per_worker: of each; None: 1 where there are any.
        imports: modules that an actor loads before it is asked for anything.

    Raises:
        SettingsError: Ray is not installed.
    """

    is_here = False

    def __init__(
        self,
        address: str | None = None,
        max_workers: int | None = None,
        gpus_per_worker: float | None = None,
        imports: Sequence[str] = (),
    ) -> None:
        if find_spec("ray") is None:
            raise SettingsError("--engine ray needs Ray: pip install 'handpick[ray]', on every machine")
        self._address = address
        self._max_workers = max_workers
        self._gpus_per_worker = gpus_per_worker
        self._imports = tuple(imports)
        self.threads = max(1, torch.get_num_threads() // (max_workers or 1))
        self._is_entered = False
        self._is_ours = False  # whether Ray was started or joined here, and is left here
        self._has_complained = False  # that no actor has started
        self._n_jobs = 0
        self.calls: dict[Any, _Call] = {}
        self.actors: list[_Actor] = []

    def __enter__(self) -> Self:
        self._is_entered = True
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._is_entered = False
        self.end()

    def devices(self) -> list[DeviceReport]:
        """Return what the actors compute on that are there when the first is.

        Raises:
            WorkerError: none can start.
            SettingsError: one has other versions.
        """
        self.start()
        while not any(actor.greeting for actor in self.actors):
            self.serve()
        return [actor.greeting.device for actor in self.actors if actor.greeting is not None]

    def run(self, job: FillJob, tasks: Sequence[ShardTask], watcher: Watcher) -> None:
        """Compute and write every task's shard, as ``Executor`` has it.

        Raises:
            SettingsError: no cluster answers, or an actor has other versions than this process.
            StoreError: an actor does not see the folder.
            WorkerError: actors died over the same shard again and again, or none could start.
        """
        import ray

        try:
            self.start()
            self._n_jobs += 1
            with lay_token(job.store.path) as token:
                RayRun(self, self._n_jobs, ray.put(job), job, token, tasks, watcher).run()
        except BaseException:
            self.end()  # the others are still at work on what failed
            raise
        if not self._is_entered:
            self.end()

    def start(self) -> None:
        """Join or start Ray, and ask it for the actors, if that is not done."""
        if self.actors:
            return
        try:
            self._connect()
            self._start_actors()
        except BaseException:
            self.end()
            raise

    def _start_actors(self) -> None:
        import ray

        room = self._room()
        self.threads = room.threads
        kind = ray.remote(
            num_cpus=room.cpus,
            num_gpus=room.gpus,
            max_restarts=_RESTARTS,
            max_task_retries=0,  # a shard that is lost goes to whoever is free, not to this actor
            max_concurrency=_AT_ONCE,
            concurrency_groups={NEWS: 1},
            runtime_env={"env_vars": dict.fromkeys(THREAD_NAMES, str(self.threads))},
        )(ShardActor)
        for _ in range(room.workers):
            actor = _Actor(kind.remote(self.threads, self._imports, os.getcwd()))
            self.actors.append(actor)
            self._greet(actor)

    def _connect(self) -> None:
        import ray

        if ray.is_initialized():  # by the program that calls, which ends it too
            return
        address = self._address or os.environ.get("RAY_ADDRESS")
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if address is None:
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            n_cpus = None if self._max_workers is None else self._max_workers * self.threads
            ray.init("local", num_cpus=n_cpus, include_dashboard=False, object_store_memory=_OBJECTS, **quiet)
        else:
            check_answers(address)
            try:
                ray.init(address=address, **quiet)
            except Exception as error:  # of many kinds: also where the cluster has another Ray or Python
                raise SettingsError(f"the Ray cluster at {address} cannot be joined: {first_line(error)}") from error
        self._is_ours = True

    def _room(self) -> "Room":
        import ray

        nodes: list[dict[str, float]] = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        room = find_room(nodes, self._max_workers, self._gpus_per_worker, torch.get_num_threads())
        with_gpus = f", {room.gpus:g} GPU each" if room.gpus else ""
        machines = f"{room.machines} machine{'' if room.machines == 1 else 's'}"
        log_once(f"Ray: up to {room.workers} workers of {room.threads} threads on {machines}{with_gpus}")
        return room

    def end(self) -> None:
        """End all actors, and Ray where it was started or joined here."""
        import ray

        for actor in self.actors:
            with suppress(Exception):  # one that is gone already, or a Ray that is
                ray.kill(actor.handle)
        self.actors.clear()
        self.calls.clear()
        if self._is_ours:
            self._is_ours = False
            ray.shutdown()

    def _greet(self, actor: _Actor) -> None:
        actor.greeting = None
        greet = actor.handle.greet.options(concurrency_group=NEWS, max_task_retries=-1)
        self.calls[greet.remote()] = _Call(actor, "greet")

    def serve(self) -> tuple[_Call, Any]:
        """Wait until some actor answers; return what it was asked, and its answer or the error that Ray has instead.

        Raises:
            SettingsError: an actor that has started has other versions than this process, or another folder.
            WorkerError: no actor is left.
        """
        import ray

        while not (ready := ray.wait(list(self.calls), num_returns=1, timeout=_QUIET)[0]):
            if not self._has_complained and not any(actor.greeting for actor in self.actors):
                self._has_complained = True
                log("no worker of Ray has started yet: is there room for one? `ray status` says what is asked for")
        reference = ready[0]
        call = self.calls.pop(reference)
        try:
            answer = ray.get(reference)
        except ray.exceptions.RayError as error:
            answer = error
        if call.kind == "greet":
            self._admit(call.actor, answer)
        return call, answer

    def _admit(self, actor: _Actor, answer: Any) -> None:
        from ray.exceptions import ActorUnavailableError

        if isinstance(answer, ActorUnavailableError):  # it is being started again
            self._greet(actor)
            return
        if isinstance(answer, Exception):
            self.actors.remove(actor)
            if not self.actors:
                raise WorkerError(f"no worker of Ray can start; of the last, Ray says: {_last_line(answer)}")
            log(f"a worker of Ray is gone for good, {len(self.actors)} are left: {_last_line(answer)}")
            return
        check_greeting(answer)
        actor.greeting = answer

    def replace(self, actor: _Actor) -> list[ShardTask]:
        """Wait for an actor that is gone to be started again by Ray; return what it had in hand."""
        for reference in [reference for reference, call in self.calls.items() if call.actor is actor]:
            del self.calls[reference]
        lost, actor.tasks = actor.tasks, []
        self._greet(actor)
        return lost


@dataclass(frozen=True, slots=True)
class Room:
    """How many actors there are to be, on how many machines, and what each has: ``cpus`` is what Ray counts."""

    workers: int
    machines: int
    gpus: float
    threads: int
    cpus: float


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


class RayRun:
    """One job's shards: those to be given out, and who has the others."""

    def __init__(
        self,
        executor: RayActors,
        number: int,
        sent: Any,
        job: FillJob,
        token: Token,
        tasks: Sequence[ShardTask],
        watcher: Watcher,
    ) -> None:
        self._executor = executor
        self._number = number
        self._sent = sent
        self._job = job
        self._token = token
        self._waiting = deque(tasks)
        self._watcher = watcher
        self._rows: dict[ShardTask, float] = {}  # that the watcher was told of
        self._deaths: dict[ShardTask, int] = {}
        self._said: set[str] = set()

    def run(self) -> None:
        executor = self._executor
        asked = [call.actor for call in executor.calls.values() if call.kind == "news"]
        for actor in executor.actors:
            if actor.greeting is not None and actor not in asked:
                self._ask_for_news(actor)
        self._give_out()
        while self._waiting or any(actor.tasks for actor in executor.actors):
            self._hear(*executor.serve())
            self._give_out()

    def _give_out(self) -> None:
        """Give everybody a shard, and one ahead while there are enough that nobody will wait for it."""
        actors = [actor for actor in self._executor.actors if actor.greeting is not None]
        for ahead in range(_AT_ONCE):
            for actor in actors:
                if len(self._waiting) > (len(actors) if ahead else 0) and len(actor.tasks) == ahead:
                    task = self._waiting.popleft()
                    reference = actor.handle.fill.remote(self._number, self._sent, self._token, task)
                    self._executor.calls[reference] = _Call(actor, "fill", task)
                    actor.tasks.append(task)

    def _ask_for_news(self, actor: _Actor) -> None:
        news = actor.handle.news.options(concurrency_group=NEWS)
        self._executor.calls[news.remote()] = _Call(actor, "news")

    def _hear(self, call: _Call, answer: Any) -> None:
        from ray.exceptions import RayActorError

        if call.kind == "greet":
            if call.actor.greeting is not None:
                self._ask_for_news(call.actor)
        elif isinstance(answer, RayActorError):
            self.bury(call.actor)
        elif isinstance(answer, HandpickError):
            raise answer
        elif isinstance(answer, Exception):
            raise WorkerError(f"a worker of Ray failed: {_last_line(answer)}")
        elif call.kind == "news":
            self._pass_on(answer)
            self._ask_for_news(call.actor)
        elif call.task is not None:
            call.actor.tasks.remove(call.task)
            self._finish(call.task, answer)

    def _pass_on(self, news: News) -> None:
        for text in news.lines:
            if text not in self._said:  # every worker says what one would
                self._said.add(text)
                log(text)
        for (number, task), rows in news.rows.items():
            if number == self._number:
                self._advance_to(task, rows)
        for (number, task), n_refused in news.refused.items():
            if number == self._number:
                self._watcher.note_refused(task, n_refused)

    def _advance_to(self, task: ShardTask, rows: float) -> None:
        more = rows - self._rows.get(task, 0.0)
        if more > 0:  # a shard that is made again has told of its first rows
            self._rows[task] = rows
            self._watcher.advance(more)

    def _finish(self, task: ShardTask, n_refused: int) -> None:
        self._watcher.note_refused(task, n_refused)
        self._advance_to(task, task.n_rows)
        self._watcher.note_written(task)

    def bury(self, actor: _Actor) -> None:
        """Give out again what an actor had in hand."""
        host = "" if actor.greeting is None else f" on {actor.greeting.host}"
        in_hand = self._executor.replace(actor)
        lost = self._job.unwritten(in_hand)
        for task in in_hand:
            if task not in lost:
                self._advance_to(task, task.n_rows)
                self._watcher.note_written(task)
        if lost:
            cause = lost[0]
            self._deaths[cause] = self._deaths.get(cause, 0) + 1
            if self._deaths[cause] == TRIES:
                raise WorkerError(
                    f"a worker of Ray died {TRIES} times over the records {cause.shard.start + 1:,} to "
                    f"{cause.shard.stop:,}; what was computed is kept: run the same again with fewer --max-workers, or "
                    "with --engine local, to see what is wrong"
                )
        self._waiting.extendleft(reversed(lost))
        if self._waiting:
            log(f"a worker of Ray ended{host}; others take its shards")


def check_greeting(greeting: Greeting) -> None:
    """Refuse an actor that would compute something else.

    Raises:
        SettingsError: it has other versions, or does not see the working folder.
    """
    if different := describe_differences(package_versions(), greeting.versions):
        raise SettingsError(f"the worker on {greeting.host} has {different}: install the same versions on all machines")
    if greeting.missing_folder is not None:
        raise SettingsError(
            f"the working folder {greeting.missing_folder} is not there on {greeting.host}: start the command in a "
            "folder that all machines share, under the same name"
        )


@contextmanager
def lay_token(folder: Path) -> Iterator[Token]:
    """Lay a file into a folder for as long as this is open, by which workers can tell that they see the same folder.

    Raises:
        StoreError: nothing can be written there.
    """
    token = Token(StoreLayout(folder.absolute()).token(secrets.token_hex(8)), secrets.token_hex(16))
    try:
        file = token.path.open("x", encoding="utf-8")
    except OSError as error:
        raise StoreError(f"cannot write in {folder}: {error.strerror or error}; name another folder") from error
    with file:
        try:
            with suppress(OSError):  # no locks there: a run beside this one may sweep it, which is then said
                lock_file(file)
            file.write(token.text)
            file.flush()
            yield token
        finally:
            with suppress(OSError):
                token.path.unlink(missing_ok=True)


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


def _last_line(error: Exception) -> str:
    """Return what a traceback from a worker ends with."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in reversed(lines) if "Error" in line), lines[0] if lines else type(error).__name__)
