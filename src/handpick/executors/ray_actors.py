"""Actors of Ray on this machine or on many: each loads an encoder once and takes whole shards, until none is left.

Ray places the actors, notices when one or its machine is gone, and starts it again wherever there is room; here is only
who has which shard. What an actor that is gone had in hand goes to whichever is free first. The description of what is
filled travels once, through Ray's object store. The driver writes no shard.
"""

import os
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import torch

from handpick.errors import HandpickError, WorkerError
from handpick.executors.devices import DeviceReport
from handpick.executors.fit import Greeting, Token, check_greeting, lay_token
from handpick.executors.pace import Pace
from handpick.executors.protocol import FillJob, ShardTask, Watcher, WorkIsTasks
from handpick.executors.ray_actor import NEWS, PATIENCE, News, ShardActor
from handpick.executors.ray_cluster import RayCluster, find_room, last_line
from handpick.executors.versions import package_versions
from handpick.executors.worker import THREAD_NAMES, TRIES
from handpick.progress import log, log_once

_AT_ONCE = 2  # shards that an actor has in hand: one it computes, one it reads or writes
_LAST = 3  # shards an actor that are given to whoever is free, and to nobody ahead: a slow one would sit on them
_NEWS_A_SECOND = 16  # answers about progress that the driver takes; of many actors each is asked less often
_RESTARTS = 20  # of an actor, whoever ends it; after that it is not started again
_QUIET = 60.0  # seconds without a word from any actor


@dataclass(eq=False)
class _Actor:
    """An actor, and the shards that it has in hand, the one that it computes first."""

    handle: Any
    tasks: list[ShardTask] = field(default_factory=list)
    since: float = 0.0  #: when it began the first of them
    greeting: Greeting | None = None  #: None while it starts


@dataclass(frozen=True, slots=True)
class _Call:
    """What an actor was asked and has not answered."""

    actor: _Actor
    kind: Literal["greet", "news", "fill"]
    task: ShardTask | None = None


class RayActors(WorkIsTasks):
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
    rank = None

    def __init__(
        self,
        address: str | None = None,
        max_workers: int | None = None,
        gpus_per_worker: float | None = None,
        imports: Sequence[str] = (),
    ) -> None:
        self._cluster = RayCluster(address)
        self._max_workers = max_workers
        self._gpus_per_worker = gpus_per_worker
        self._imports = tuple(imports)
        self.threads = max(1, torch.get_num_threads() // (max_workers or 1))
        self._is_entered = False
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
            self._cluster.join(None if self._max_workers is None else self._max_workers * self.threads)
            self._start_actors()
        except BaseException:
            self.end()
            raise

    def _start_actors(self) -> None:
        import ray

        machines = self._cluster.machines()
        room = find_room(machines, self._max_workers, self._gpus_per_worker, torch.get_num_threads())
        log_once(f"Ray: up to {room.workers} workers of {room.threads} threads {room.describe()}")
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

    def end(self) -> None:
        """End all actors, and Ray where it was started or joined here."""
        import ray

        for actor in self.actors:
            with suppress(Exception):  # one that is gone already, or a Ray that is
                ray.kill(actor.handle)
        self.actors.clear()
        self.calls.clear()
        self._cluster.leave()

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
                raise WorkerError(f"no worker of Ray can start; of the last, Ray says: {last_line(answer)}")
            log(f"a worker of Ray is gone for good, {len(self.actors)} are left: {last_line(answer)}")
            return
        check_greeting(answer, package_versions())
        actor.greeting = answer

    def replace(self, actor: _Actor) -> list[ShardTask]:
        """Wait for an actor that is gone to be started again by Ray; return what it had in hand."""
        for reference in [reference for reference, call in self.calls.items() if call.actor is actor]:
            del self.calls[reference]
        lost, actor.tasks = actor.tasks, []
        self._greet(actor)
        return lost


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
        self._n_waiting = sum(task.n_rows for task in tasks)
        self._pace = Pace()
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
        """Give everybody a shard, and one ahead until the last; a slow one only what others would not do sooner."""
        actors = [actor for actor in self._executor.actors if actor.greeting is not None]
        for ahead in range(_AT_ONCE):
            for actor in actors:
                if len(self._waiting) > (_LAST * len(actors) if ahead else 0) and len(actor.tasks) == ahead:
                    n_rows, n_in_hand = self._waiting[0].n_rows, sum(task.n_rows for task in actor.tasks)
                    if self._pace.should_begin(actor, n_in_hand, n_rows, self._n_waiting):
                        self._give(actor)

    def _give(self, actor: _Actor) -> None:
        task = self._waiting.popleft()
        self._n_waiting -= task.n_rows
        reference = actor.handle.fill.remote(self._number, self._sent, self._token, task)
        self._executor.calls[reference] = _Call(actor, "fill", task)
        if not actor.tasks:
            actor.since = time.monotonic()
        actor.tasks.append(task)

    def _ask_for_news(self, actor: _Actor) -> None:
        news = actor.handle.news.options(concurrency_group=NEWS)
        patience = max(PATIENCE, len(self._executor.actors) / _NEWS_A_SECOND)
        self._executor.calls[news.remote(patience)] = _Call(actor, "news")

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
            raise WorkerError(f"a worker of Ray failed: {last_line(answer)}")
        elif call.kind == "news":
            self._pass_on(answer)
            self._ask_for_news(call.actor)
        elif call.task is not None:
            call.actor.tasks.remove(call.task)
            now = time.monotonic()
            self._pace.note(call.actor, call.task.n_rows, now - call.actor.since)
            call.actor.since = now
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
        self._pace.forget(actor)
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
        self._n_waiting += sum(task.n_rows for task in lost)
        if self._waiting:
            log(f"a worker of Ray ended{host}; others take its shards")
