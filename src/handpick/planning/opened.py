"""What every plan begins with: pool, query and model looked at as the run itself would, and nothing written but the
parsed records, which the run then finds.
"""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from handpick.budget import Budget
from handpick.data.pool import Pool
from handpick.data.quarantine import Quarantine
from handpick.data.render import Renderer
from handpick.methods import REPRESENTATIONS
from handpick.model import device
from handpick.pipeline.compared import check_room
from handpick.pipeline.features import open_renderer
from handpick.pipeline.made_with import pool_store_path
from handpick.pipeline.ready import check_queries
from handpick.pipeline.within import check_constraints
from handpick.planning import probe
from handpick.planning.cost import Amount, Stage
from handpick.settings import Settings, not_given
from handpick.store import FeatureStore


@dataclass(frozen=True, slots=True)
class Opened:
    """A run's settings, data and tokenizer; ``stage`` is the reading itself; ``seconds`` are for the probe."""

    settings: Settings
    renderer: Renderer | None
    pool: Pool
    query: Pool | None
    stage: Stage
    seconds: float

    def rows_missing(self, store: FeatureStore) -> list[int]:
        """Rows of the pool that a store of it still lacks, a checkpoint."""
        new = len(self.pool) - sum(file.rows for file in store.manifest.files)
        return [
            new + sum(shard.stop - shard.start for shard in store.missing(t)) for t in range(len(store.checkpoints))
        ]


def opened(settings: Settings, seconds: float, *, with_query: bool) -> Opened:
    """Open what is small first.

    Raises:
        SettingsError: no pool, query or model is given where one is needed, or no choice can meet the constraints.
        DataError: a file is missing or has no usable record, or two targets have queries of one id.
        ModelError: the model cannot be used.
    """
    kind = REPRESENTATIONS[settings.used_representation]
    budget = Budget.parse(settings.budget)
    if not settings.pool:
        raise not_given("pool")
    renderer = open_renderer(settings) if kind.needs_model or budget.kind == "tokens" else None
    sources = settings.query or [file for files in settings.target.values() for file in files]
    began = probe.clock()
    query = None
    if with_query and kind.needs_query:
        if not sources:
            raise not_given("query")
        query = _open(sources, settings)
    pool = _open(settings.pool, settings)
    if with_query:
        check_constraints(settings, pool, set())
        for test_set in settings.exclude_overlap:
            _open([test_set], settings)
        if query is not None:
            check_queries(settings, query)
        if settings.used_representation == "whitened":
            check_room(settings.projection_dim)
    took = probe.clock() - began
    n_bytes = sum(path.stat().st_size for path in _parsed(settings).glob("*.arrow"))
    queries = "" if query is None else f" and {len(query):,} queries"
    stage = Stage(
        "read and parse",
        len(pool),
        disk=n_bytes,
        memory=resident_bytes(),
        seconds=Amount.exactly(0.0),
        there=True,
        note=f"{len(pool):,} records{queries}; done by this plan in {took:.1f} s",
    )
    return Opened(settings, renderer, pool, query, stage, seconds)


def _parsed(settings: Settings) -> Path:
    return pool_store_path(settings).parent / "parsed"


def _open(sources: Sequence[str], settings: Settings) -> Pool:
    with tempfile.TemporaryDirectory() as folder:  # the run's own quarantine is left as an earlier run wrote it
        quarantine = Quarantine(Path(folder) / "quarantine.jsonl", settings.max_quarantined)
        return Pool.open(list(sources), cache=_parsed(settings), quarantine=quarantine)


def resident_bytes() -> int:
    """What this process holds now; 0 on a GPU, where a plan counts the GPU's memory, and where nothing tells."""
    if device().type == "cuda":
        return int(torch.cuda.memory_allocated())
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if statm.exists() else 0


def machine_notes(dtype: torch.dtype) -> list[str]:
    """What a plan's times hold for."""
    busy = f", load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores" if hasattr(os, "getloadavg") else ""
    return [
        f"time is from a probe on this {device()} in {str(dtype).removeprefix('torch.')}{busy}; it holds while the "
        "machine is as busy as now, and leaves out the seconds in which Python loads its libraries"
    ]
