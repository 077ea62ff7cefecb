"""``plan_select`` and ``plan_represent``: the stages of a selection, each with its cost, before any of it is done.

The stages are the run's own objects: each says what is left of it, and nothing here knows what a representation is.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from handpick.costs import probe
from handpick.costs.cost import Amount, Extent, Plan, StageCost, StageKind, Work
from handpick.costs.machine import machine_notes, resident_bytes
from handpick.costs.probe import Probing
from handpick.fingerprint import digest
from handpick.layout import DataLayout, ParsedLayout
from handpick.model import compute_dtype
from handpick.pipeline.prepare import PreparedRun, open_pool_run, prepare_plan
from handpick.planning.choice import plan_choice
from handpick.scorers.provenance import parsed_records, resume_from_store
from handpick.settings import Settings
from handpick.settings.executor import LOCAL

PROBE_SECONDS = 10.0


def plan_select(settings: Settings, seconds: float = PROBE_SECONDS) -> Plan:
    """Return what ``handpick select`` with these settings will take.

    Reads and parses pool and query (the run finds them parsed), counts tokens, and computes for about ``seconds`` some
    of what the run will compute. Nothing else is written.

    Raises:
        HandpickError: what the run itself would raise before it starts, in the same words.
    """
    with scratch_folders() as scratch:
        return plan_beside(settings, Probing(seconds, scratch.probe), scratch.bad)


def plan_beside(settings: Settings, probing: Probing, bad: Path) -> Plan:
    """Plan as ``plan_select``, beside others that are lent the same ``probing``: the same work is priced once.

    Args:
        settings: of the run.
        probing: what the plan is lent.
        bad: a folder for records that cannot be used, that is removed afterwards.
    """
    settings = resume_from_store(settings)
    began = probe.clock()
    prepared = prepare_plan(settings, bad)
    read = _read(prepared, probe.clock() - began)
    work = _work(prepared, probing)
    choice = plan_choice(prepared.inputs, work.extent or Extent(len(prepared.inputs.pool.pool), 0, 1, 1))
    return Plan("select", [read, *work.lines, choice], [*work.notes, *_machine(settings)], work.cheaper)


def plan_represent(settings: Settings, seconds: float = PROBE_SECONDS) -> Plan:
    """Return what ``handpick represent`` with these settings will take; as ``plan_select``."""
    here = settings.model_copy(update={"engine": LOCAL}) if settings.shard_model else settings  # it needs no launcher
    with scratch_folders() as scratch:
        began = probe.clock()
        prepared = open_pool_run(here, DataLayout(scratch.bad))
        read = _read(prepared, probe.clock() - began)
        work = _work(prepared, Probing(seconds, scratch.probe))
    return Plan("represent", [read, *work.lines], [*work.notes, *_machine(settings)], work.cheaper)


@dataclass(frozen=True, slots=True)
class Scratch:
    """Folders that are gone when the plan is made: for records that cannot be used, for a probe's checkpoint, and for a
    run that never was."""

    bad: Path
    probe: Path
    run: Path


@contextmanager
def scratch_folders() -> Iterator[Scratch]:
    """Make the folders of a plan, and remove them when it is made."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = Scratch(Path(folder) / "bad", Path(folder) / "probe", Path(folder) / "run")
        scratch.bad.mkdir()
        scratch.probe.mkdir()
        yield scratch


def _read(prepared: PreparedRun, took: float) -> StageCost:
    """Return the line of what has been done: reading the data."""
    inputs = prepared.inputs
    pool = inputs.pool.pool
    n_bytes = sum(path.stat().st_size for path in ParsedLayout(parsed_records(inputs.settings)).tables())
    queries = "" if inputs.query is None else f" and {len(inputs.query.pool):,} queries"
    return StageCost(
        StageKind.READ.value,
        len(pool),
        disk=n_bytes,
        memory=resident_bytes(),
        seconds=Amount.exactly(0.0),
        there=True,
        note=f"{len(pool):,} records{queries}; done by this plan in {took:.1f} s",
        kind=StageKind.READ,
    )


def _work(prepared: PreparedRun, probing: Probing) -> Work:
    """Return the work of all stages; each line names what its stage's result depends on."""
    lines: list[StageCost] = []
    notes: dict[str, None] = {}
    cheaper: list[str] = []
    extent: Extent | None = None
    for stage in prepared.scorer.stages():
        inputs = digest(stage.inputs())
        if (stage.kind, inputs) not in probing.priced:
            probing.priced[stage.kind, inputs] = stage.work(probing)
        work = probing.priced[stage.kind, inputs]
        lines += [replace(line, inputs=inputs) for line in work.lines]
        notes |= dict.fromkeys(work.notes)
        cheaper += work.cheaper
        extent = work.extent or extent
    return Work(lines, list(notes), cheaper, extent)


def _machine(settings: Settings) -> list[str]:
    if settings.shard_model:
        return ["no part of a model in pieces is tried by a plan: a first shard of the run itself shows its rate"]
    notes = machine_notes(compute_dtype(settings.dtype))
    if settings.workers is not None:
        notes.append(f"time and memory are those of one process; {settings.workers} workers share the features out")
    if settings.engine != LOCAL:
        notes.append(
            f"time and memory are those of one process here; --engine {settings.engine} shares the features out"
        )
    return notes
