"""A rank's share of a pool's features. Ranks say nothing to each other; what they see of each other is the store.

The first rank does what is done once (reading the pool, the warmup, the store's manifest); the others wait until that
stands. Each then makes its own shards and ends, whatever the others do. What is missing at last (a rank was lost) is
made by the next command that opens the store.

Ranks that hold one model together do say something to each other, and end when all have made their shards; of the
queries too, whose features nobody could make later without them.
"""

import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

from handpick.costs.cost import StageKind
from handpick.executors import Executor, Rank, RankShare
from handpick.layout import DataLayout, StoreLayout
from handpick.own_folder import hold_folder
from handpick.pipeline.prepare import open_pool_run
from handpick.progress import log
from handpick.scorers.provenance import pool_store_path
from handpick.settings import Settings
from handpick.store import FeatureStore

_LOOK = 0.5  # seconds between two looks whether the first rank has made the store


def represent_share(settings: Settings, executor: Executor, rank: Rank) -> FeatureStore:
    """Make this rank's shards of the pool's features; the store may lack those of others.

    Args:
        settings: of the run.
        executor: of this rank.
        rank: which of how many.

    Raises:
        HandpickError: as ``run_represent``.
    """
    if isinstance(executor, RankShare) and executor.shard_model:
        return _represent_together(settings, executor)
    path = pool_store_path(settings)
    is_first = rank.number == 0
    if not is_first:
        _wait_for(StoreLayout(path).manifest, f"rank {rank.number} of {rank.world} waits for the first")
    holding = hold_folder(settings.folder) if is_first else nullcontext()
    with holding, tempfile.TemporaryDirectory() as scratch, executor:
        # bad records are listed once, by the first rank
        prepared = open_pool_run(settings, DataLayout(settings.folder if is_first else Path(scratch)))
        for stage in prepared.scorer.stages():
            stage.run(executor)
            if stage.kind is StageKind.POOL:
                break
    store = FeatureStore.open(path, allow_incomplete=True)
    missing = sum(len(store.missing(t)) for t in range(len(store.checkpoints)))
    left = f"{missing:,} shards of others are still missing" if missing else "the store is whole"
    log(f"rank {rank.number} of {rank.world} has made its shards; {left}")
    return store


def _represent_together(settings: Settings, executor: RankShare) -> FeatureStore:
    """Make this rank's shards together with the others'; the stores are then whole.

    Raises:
        HandpickError: as ``run_represent``.
    """
    is_first = executor.rank.number == 0
    holding = hold_folder(settings.folder) if is_first else nullcontext()
    with holding, tempfile.TemporaryDirectory() as scratch, executor:
        if not is_first:  # which reads the data for all
            executor.wait_for_all()
        prepared = open_pool_run(settings, DataLayout(settings.folder if is_first else Path(scratch)))
        if is_first:
            executor.wait_for_all()
        for stage in prepared.scorer.stages():
            stage.run(executor)
        store = FeatureStore.open(pool_store_path(settings))
        executor.wait_for_all()  # before the folder is let go
    log(f"rank {executor.rank.number} of {executor.rank.world} has made its shards; the store is whole")
    return store


def _wait_for(manifest: Path, why: str) -> None:
    if not manifest.exists():
        log(why)
    while not manifest.exists():
        time.sleep(_LOOK)
