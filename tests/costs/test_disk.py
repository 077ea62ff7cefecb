"""What a store is said to take against the bytes of a real one."""

from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from handpick.costs.disk import checkpoint_bytes
from handpick.data.pool import DataFile
from handpick.store import Checkpoint, FeatureStore, Manifest
from handpick.store import ManifestFile as StoredFile
from handpick.store.codec import Storage


@pytest.mark.parametrize("storage", get_args(Storage))
@pytest.mark.parametrize(("rows", "dim", "shard_rows"), [([300, 41], 256, 128), ([7], 1001, 3), ([2000], 1, 1024)])
def test_a_stores_bytes(storage: Storage, rows: list[int], dim: int, shard_rows: int, tmp_path: Path) -> None:
    files = [DataFile(f"{i}.jsonl", f"{i}" * 64, n) for i, n in enumerate(rows)]
    ids = [f"réc-{i:05d}" if i % 7 else f"a-much-longer-id-{i:030d}" for i in range(sum(rows))]
    plan = Manifest(
        space={}, build={}, dim=dim, storage=storage, checkpoints=[Checkpoint(name="a", weight=1.0)],
        files=StoredFile.of(files), shard_rows=shard_rows,
    )  # fmt: skip
    store = FeatureStore.create(tmp_path / "store", plan)
    rng = np.random.default_rng(0)
    for shard in store.shards():
        own = ids[shard.start : shard.stop]
        store.write_shard(0, shard, own, rng.standard_normal((len(own), dim)))
    real = sum(path.stat().st_size for path in (tmp_path / "store" / "shards").rglob("*") if path.is_file())
    said = checkpoint_bytes(files, ids, len(ids), dim=dim, storage=storage, shard_rows=shard_rows)
    assert said == pytest.approx(real, rel=0.01)


def test_unusable_records_take_nothing() -> None:
    files, ids = [DataFile("a", "0" * 64, 1000)], [str(i) for i in range(1000)]
    whole, half = (checkpoint_bytes(files, ids, n, dim=512, storage="float16", shard_rows=1024) for n in (1000, 500))
    assert half == pytest.approx(whole / 2, rel=0.01)
