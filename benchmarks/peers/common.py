"""What every line of benchmarks/gradients.py shares: its task, its inputs, and what a measurement is.

Imported by peers' interpreters too, so nothing of handpick is imported here.
"""

import json
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch


@dataclass(frozen=True)
class Task:
    """One line, as the parent hands it to a worker.

    ``folder`` holds ``model.json`` (where the base model is, and its counts), ``adapter`` (a LoRA adapter with Adam's
    state, as handpick and as a transformers Trainer have it) and ``sequences.json``.
    """

    name: str
    call: str
    folder: str
    scratch: str
    dtype: str
    device: str
    threads: int
    examples: int
    batch_tokens: int
    matmul: str
    clock: str = "wall"
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def torch_dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.dtype == "bfloat16" else torch.float32

    @property
    def base(self) -> str:
        return str(self._model["base"])

    @property
    def n_coordinates(self) -> int:
        return int(self._model["coordinates"])

    @property
    def _model(self) -> dict[str, Any]:
        return json.loads((Path(self.folder) / "model.json").read_text())

    @property
    def adapter(self) -> str:
        return str(Path(self.folder) / "adapter")

    def sequences(self) -> list[dict[str, list[int]]]:
        """``input_ids`` and ``labels`` of every example of this line."""
        everything = json.loads((Path(self.folder) / "sequences.json").read_text())
        return everything[: self.examples]


@dataclass(frozen=True)
class Work:
    """What is timed.

    ``run`` is the measured work and ``warm`` a little of the same, so that what is made once is made before. The work
    of all ``examples`` takes ``scale`` times as long as ``run``.
    """

    run: Callable[[], Any]
    warm: Callable[[], Any]
    examples: int
    scale: float = 1.0


def measure(task: Task, work: Work) -> dict[str, Any]:
    """Seconds of the work (scaled) and the memory that it needs at most."""
    work.warm()
    _synchronize(task)
    before = peak_memory(task)
    return seconds_of(task, work) | {"peak_mib": peak_memory(task), "peak_before_mib": before}


def seconds_of(task: Task, work: Work) -> dict[str, Any]:
    """Seconds of the work (scaled), which is warm."""
    clock = time.process_time if task.clock == "processor" else time.perf_counter
    start = clock()
    work.run()
    _synchronize(task)
    seconds = (clock() - start) * work.scale
    return {
        "seconds": seconds,
        "examples": work.examples,
        "scale": work.scale,
        "ms_per_example": 1000 * seconds / work.examples,
    }


def peak_memory(task: Task) -> float:
    """The most MiB this process has held so far: of the GPU on a GPU, else resident.

    Linux's VmHWM begins anew with the program; ru_maxrss would count what the parent held when it forked.
    """
    if task.device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def _synchronize(task: Task) -> None:
    if task.device == "cuda":
        torch.cuda.synchronize()
