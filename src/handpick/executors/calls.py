"""One function of many arguments, a whole call at a time: here, or in several processes of this machine.

What is called has its result on the disk, and finds there what an earlier call of it has done.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import cycle, islice
from multiprocessing import get_context
from multiprocessing.queues import SimpleQueue
from typing import Protocol, TypeVar

from handpick.executors.processes import VISIBLE_GPUS, visible_gpus

Given = TypeVar("Given")
Found = TypeVar("Found")


class Calls(Protocol):
    """Who calls."""

    def run(self, function: Callable[[Given], Found], given: Iterable[Given]) -> Iterator[tuple[Given, Found | None]]:
        """Call a function for each; yield each with what was found, in the order in which they end.

        None is found where whoever called was killed, and killed again. What is given is asked for as late as can be.

        Args:
            function: that pickles, by its module and name.
            given: what it is called with, one after the other.

        Raises:
            HandpickError: that the function raises, or of whoever calls.
        """


class CallsHere:
    """One call after the other, in this process."""

    def run(self, function: Callable[[Given], Found], given: Iterable[Given]) -> Iterator[tuple[Given, Found | None]]:
        """Call a function for each, as ``Calls`` has it."""
        for each in given:
            yield each, function(each)


class CallsInProcesses:
    """Several calls at a time, each in a process of its own, which sees one GPU alone where there are any.

    A process that is killed takes down those that run beside it: each of their calls is then made once more, alone.

    Args:
        workers: how many at a time.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers

    def run(self, function: Callable[[Given], Found], given: Iterable[Given]) -> Iterator[tuple[Given, Found | None]]:
        """Call a function for each, as ``Calls`` has it."""
        left: Iterator[Given] | None = iter(given)
        while left is not None:
            broken: list[Given] = []
            yield from self._run_until_broken(function, left, broken)
            for each in broken:
                yield each, _call_alone(function, each)
            if not broken:
                left = None

    def _run_until_broken(
        self, function: Callable[[Given], Found], given: Iterator[Given], broken: list[Given]
    ) -> Iterator[tuple[Given, Found]]:
        """Run calls until a process is killed; those that were running then are put into ``broken``."""
        running: dict[Future[Found], Given] = {}
        with _pool(self._workers) as pool:
            while True:
                for each in islice(given, self._workers - len(running)):
                    try:
                        running[pool.submit(function, each)] = each
                    except BrokenProcessPool:  # one of those that run was killed just now
                        broken += [each, *running.values()]
                        return
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    each = running.pop(future)
                    try:
                        found = future.result()
                    except BrokenProcessPool:
                        broken += [each, *running.values()]
                        return
                    yield each, found


def _pool(workers: int) -> ProcessPoolExecutor:
    context, gpus = get_context("spawn"), visible_gpus()
    names: SimpleQueue[str] | None = None
    if gpus:
        names = context.SimpleQueue()
        for gpu in islice(cycle(gpus), workers):
            names.put(gpu)
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_start_with, initargs=(names,))


def _start_with(gpus: "SimpleQueue[str] | None") -> None:
    """Start a worker that sees the next of the GPUs; where more start than there are, some share one."""
    if gpus is not None:
        os.environ[VISIBLE_GPUS] = gpus.get()  # read when CUDA is first used
    start_worker()


def _call_alone(function: Callable[[Given], Found], given: Given) -> Found | None:
    with _pool(1) as pool:
        try:
            return pool.submit(function, given).result()
        except BrokenProcessPool:
            return None


def start_worker() -> None:
    """Start a worker: no walls of library warnings, its own progress bars off, and freed memory kept."""
    import warnings

    from handpick.allocator import keep_freed_memory
    from handpick.progress import console, quiet_libraries

    keep_freed_memory()
    warnings.simplefilter("ignore")
    quiet_libraries()
    console.quiet = True
