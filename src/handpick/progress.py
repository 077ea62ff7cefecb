"""Progress for a person who is watching: rate and time left, on standard error; and what each part took."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from handpick.terminal import Terminal

console = Terminal(stderr=True)
clock = time.perf_counter  # what parts take; a benchmark on a busy machine counts the process's own seconds instead
_timings: list[dict[str, float]] = []
_said: list[set[str]] = []  # lines that each open command has printed
_sinks: list[Callable[[str], None]] = []  # where lines go in a worker, whose console is not the person's


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.1f}/s")


@contextmanager
def progress(what: str, total: int, done: int = 0) -> Iterator[Callable[[float], None]]:
    """Show a bar for ``total`` things; the caller is given a function that advances it.

    On something that is no terminal there is no bar, but a line when it is over.
    """
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    if _sinks:
        yield lambda n: None
        return
    began = clock()
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(what, total=total, completed=done)
        yield lambda n: bar.advance(task, n)
    for timings in _timings:
        timings[what] = timings.get(what, 0.0) + clock() - began


@contextmanager
def collect_timings() -> Iterator[dict[str, float]]:
    """Collect seconds by what had a bar while this is open; when it closes, the whole under ``total``."""
    timings: dict[str, float] = {}
    began = clock()
    _timings.append(timings)
    try:
        yield timings
    finally:
        _timings.pop()  # they close in reverse
        timings["total"] = clock() - began


def log(text: str) -> None:
    """Print one line to the person who is watching."""
    if _sinks:
        _sinks[-1](text)
    else:
        console.print(text, soft_wrap=True)


def log_once(text: str) -> None:
    """Print one line, within ``saying_once`` the first time only: of a model that is loaded again and again."""
    if not _said or text not in _said[-1]:
        log(text)
    for lines in _said:
        lines.add(text)


@contextmanager
def saying_once() -> Iterator[None]:
    """Let ``log_once`` print the same line once while this is open."""
    _said.append(set())
    try:
        yield
    finally:
        _said.pop()  # they close in reverse


@contextmanager
def forward_lines(sink: Callable[[str], None]) -> Iterator[None]:
    """Give lines to ``sink`` while this is open, and show no bars: a worker's lines are the driver's to print."""
    _sinks.append(sink)
    try:
        yield
    finally:
        _sinks.remove(sink)


def quiet_libraries() -> None:
    """Let transformers tell errors alone, and show no bars but ours."""
    import logging
    import os
    import sys

    import transformers

    # on a CPU with bfloat16 it says at every start, quantization or not, that a kernel of the Hub's is not installed
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")  # read when datasets loads, which most never do
    if "datasets" in sys.modules:
        sys.modules["datasets"].disable_progress_bars()
