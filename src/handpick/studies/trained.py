"""One fine-tuning and what is measured after it: a worker's job."""

import platform
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import JsonValue
from torch import nn

from handpick.choices import Dtype
from handpick.data.render import Rendered, Renderer
from handpick.documents import reading
from handpick.errors import HandpickError, SettingsError, StoreError, is_out_of_memory
from handpick.evaluation.evaluate import Evaluation, evaluate
from handpick.evaluation.task import Task
from handpick.executors import Calls
from handpick.finetuning.finetune import finetune, load_finetuned
from handpick.finetuning.record import missing_weights, read_record
from handpick.layout import FinetuneLayout, StepLayout
from handpick.model import compute_dtype, free_memory, load_base, load_renderer, load_tokenizer, padding_id
from handpick.studies.steps import finish_step, read_seconds, read_step
from handpick.training.settings import FinetuneSettings

KILLED = "its process was killed, as the system does when memory runs out: give fewer workers, or a smaller batch"


@dataclass(frozen=True, slots=True)
class Measuring:
    """One evaluation step: a task on the model of the job."""

    name: str
    folder: Path
    inputs: Mapping[str, Any]
    task: Task


@dataclass(frozen=True, slots=True)
class Job:
    """One fine-tuning step, and the evaluation steps that wait for it; without ``recipe`` the model as it is.

    ``precision`` is what ``dtype`` means to the study's own process, whose steps are named by it.
    """

    name: str
    folder: Path
    inputs: Mapping[str, Any]
    model: str
    recipe: FinetuneSettings | None
    sequences: Sequence[Rendered]
    measurings: Sequence[Measuring]
    max_length: int
    dtype: Dtype
    precision: str
    template_args: Mapping[str, JsonValue] = field(default_factory=dict)
    allow_code_execution: bool = False


def run_job(job: Job) -> dict[str, str | None]:
    """Do what is missing of a job, in one thread.

    Returns:
        By the name of each evaluation step: None where it is finished, else the reason why not.

    Raises:
        SettingsError: this machine would compute in another precision than the study's process.
    """
    own = str(compute_dtype(job.dtype))
    if own != job.precision:
        raise SettingsError(
            f"dtype {job.dtype} is {own.removeprefix('torch.')} on {platform.node()} and "
            f"{job.precision.removeprefix('torch.')} where the study runs: name one in its file, such as train: "
            "{dtype: float32}"
        )
    with single_thread():
        return _run_job(job)


@contextmanager
def single_thread() -> Iterator[None]:
    """Let torch compute in one thread while open, so that the number of workers changes no result."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _run_job(job: Job) -> dict[str, str | None]:
    try:
        model = _model(job)
    except Exception as error:  # whatever it is, the other cells go on
        return dict.fromkeys((each.name for each in job.measurings), reason_of(error))
    renderer = load_renderer(job.model, job.template_args)
    found: dict[str, str | None] = {}
    for each in job.measurings:
        try:
            _measure(job, each, model, renderer)
            found[each.name] = None
        except Exception as error:
            found[each.name] = reason_of(error)
    del model
    free_memory()
    return found


def _model(job: Job) -> nn.Module:
    if job.recipe is None:
        return load_base(job.model, compute_dtype(job.dtype)).eval()
    if not has_model(job.folder):
        if read_record(job.folder) is None:
            drop_model(job.folder)  # what is left where that was cut short
        began = time.monotonic()
        pad_id = padding_id(load_tokenizer(job.model))
        finetune(job.model, job.sequences, job.recipe, job.folder, pad_id=pad_id, quiet=True)
        finish_step(job.folder, job.inputs, {"examples": len(job.sequences)}, time.monotonic() - began)
    return load_finetuned(job.folder, base=job.model, dtype=job.dtype)


def has_model(folder: Path) -> bool:
    """Return whether a fine-tuning step is finished and its model is there."""
    record = read_record(folder)
    if read_step(folder) is None or record is None or not record.get("finished"):
        return False
    return missing_weights(folder, record) is None


def drop_model(folder: Path) -> None:
    """Remove a fine-tuned model, and keep what its step says of itself: its record goes first, so that half a model is
    none.

    Raises:
        OSError: something cannot be removed.
    """
    FinetuneLayout(folder).record.unlink(missing_ok=True)
    kept = {StepLayout(folder).record, StepLayout(folder).cost}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.is_dir():
            shutil.rmtree(path)
        elif path not in kept:
            path.unlink()


def _measure(job: Job, each: Measuring, model: nn.Module, renderer: Renderer) -> None:
    began = time.monotonic()
    each.folder.mkdir(parents=True, exist_ok=True)
    evaluation = evaluate(
        model,
        renderer,
        each.task,
        max_length=job.max_length,
        predictions=StepLayout(each.folder).predictions,
        identity={"step": job.name},
        allow_code_execution=job.allow_code_execution,
        quiet=True,
    )
    finish_step(each.folder, each.inputs, {"evaluation": evaluation.to_json()}, time.monotonic() - began)


def evaluation_of(folder: Path) -> tuple[Evaluation, float] | None:
    """Read a finished evaluation step's estimates, and its seconds."""
    made = read_step(folder)
    if made is None:
        return None
    with reading(StepLayout(folder).record, StoreError, f"remove {folder}, and the study makes it again"):
        return Evaluation.from_json(made["evaluation"]), read_seconds(folder)


def reason_of(error: BaseException) -> str:
    """Return the reason in one line."""
    text = " ".join(str(error).split())
    if isinstance(error, HandpickError):
        return text
    if is_out_of_memory(error):
        return f"out of memory: {text[:200]}" if text else "out of memory"
    return f"{type(error).__name__}: {text[:300]}"


def run_jobs(jobs: Iterator[Job], calls: Calls) -> Iterator[tuple[Job, dict[str, str | None]]]:
    """Run every job; yield it with what came of it, in the order in which they end.

    Args:
        jobs: asked for as late as can be.
        calls: who does them.
    """
    for job, found in calls.run(run_job, jobs):
        yield job, dict.fromkeys((each.name for each in job.measurings), KILLED) if found is None else found
