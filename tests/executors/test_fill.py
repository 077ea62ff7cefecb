"""Shards come in order whatever is made at the same time, and trouble in a thread is not lost."""

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from handpick.data.pool import Pool
from handpick.data.quarantine import Quarantine
from handpick.data.render import Rendered, Renderer
from handpick.errors import DataError, StoreError
from handpick.executors import Advance, Preparer, fill_store
from handpick.model import load_tokenizer
from handpick.objectives.next_token import NextToken
from handpick.store import Checkpoint, FeatureStore, Manifest, ManifestFile
from tests.conftest import write_jsonl

N, SHARD, MAX_LENGTH = 10, 3, 128


@pytest.fixture
def renderer(tiny_model: Path) -> Renderer:
    return Renderer(load_tokenizer(str(tiny_model)))


@pytest.fixture
def pool(pool_records: list[dict[str, Any]], tmp_path: Path) -> Pool:
    path = write_jsonl(tmp_path / "pool.jsonl", pool_records[:N])
    return Pool.open([str(path)], cache=tmp_path / "parsed", quarantine=Quarantine(tmp_path / "quarantine.jsonl"))


@pytest.fixture
def store(pool: Pool, tmp_path: Path) -> FeatureStore:
    return store_of(pool, tmp_path / "store")


def store_of(pool: Pool, path: Path) -> FeatureStore:
    manifest = Manifest(
        space={}, build={}, dim=1, storage="float32", shard_rows=SHARD,
        checkpoints=[Checkpoint(name="a", weight=1.0), Checkpoint(name="b", weight=1.0)],
        files=[ManifestFile(name=f.name, sha256=f.sha256, rows=f.rows) for f in pool.files],
    )  # fmt: skip
    return FeatureStore.create(path, manifest)


class Given:
    """An encoder, and its own description."""

    not_portable = "it is a test's"

    def __init__(self, prepares: Preparer, encode: Callable[..., NDArray[np.float32]]) -> None:
        self.prepare, self.encode = prepares.prepare, encode

    def load(self) -> "Given":
        return self


def lengths(checkpoint: int, sequences: Sequence[Rendered], advance: Advance) -> NDArray[np.float32]:
    """One feature: the tokens of a sequence, told apart by checkpoint."""
    return np.array([len(s.input_ids) + 1000 * checkpoint for s in sequences], dtype=np.float32).reshape(-1, 1)


def test_every_row_is_its_own(store: FeatureStore, pool: Pool, renderer: Renderer) -> None:
    fill_store(store, pool, Given(NextToken(renderer, MAX_LENGTH), lengths), "rows")
    ids, sequences, _ = NextToken(renderer, MAX_LENGTH).prepare(pool.examples(0, N))
    assert store.ids == ids
    for t in range(2):
        want_N1 = lengths(t, sequences, lambda n: None)
        np.testing.assert_array_equal(np.asarray(store.array(t, normalized=False)), want_N1)


def test_the_next_shard_is_prepared_while_one_is_computed(
    store: FeatureStore, pool: Pool, renderer: Renderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = threading.Event()
    own = Pool.examples

    def examples(self: Pool, start: int, stop: int) -> Any:
        if start == SHARD:
            second.set()
        return own(self, start, stop)

    monkeypatch.setattr(Pool, "examples", examples)

    def encode(checkpoint: int, sequences: Sequence[Rendered], advance: Advance) -> NDArray[np.float32]:
        assert second.wait(30)  # the first shard is not done before the second is being read
        return lengths(checkpoint, sequences, advance)

    fill_store(store, pool, Given(NextToken(renderer, MAX_LENGTH), encode), "rows")


def test_a_shard_that_cannot_be_written_stops_the_run(
    store: FeatureStore, pool: Pool, renderer: Renderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, computed = FeatureStore.write_shard, []

    def write(self: FeatureStore, *args: Any) -> None:
        if args[1].start == SHARD:
            raise StoreError("the disk is full")
        own(self, *args)

    def encode(checkpoint: int, sequences: Sequence[Rendered], advance: Advance) -> NDArray[np.float32]:
        computed.append(sequences)
        return lengths(checkpoint, sequences, advance)

    monkeypatch.setattr(FeatureStore, "write_shard", write)
    with pytest.raises(StoreError, match="the disk is full"):
        fill_store(store, pool, Given(NextToken(renderer, MAX_LENGTH), encode), "rows")
    assert len(computed) == 3  # the one after it was under way
    assert len(list(store.missing(0))) == 3  # what was written before stays
    monkeypatch.undo()
    fill_store(store, pool, Given(NextToken(renderer, MAX_LENGTH), lengths), "rows")
    assert not list(store.missing(0))
    assert not list(store.missing(1))


def test_a_failed_write_is_said_while_the_next_shard_is_computed(
    store: FeatureStore, pool: Pool, renderer: Renderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed, batches = threading.Event(), []

    def write(self: FeatureStore, *args: Any) -> None:
        failed.set()
        raise StoreError("the disk is full")

    def encode(checkpoint: int, sequences: Sequence[Rendered], advance: Advance) -> NDArray[np.float32]:
        if len(batches) == 0:
            batches.append(0)
            return lengths(checkpoint, sequences, advance)
        assert failed.wait(30)
        for _ in range(1000):  # batches of the next shard; told at the first that ends after the write
            time.sleep(0.01)
            batches.append(0)
            advance(0)
        return lengths(checkpoint, sequences, advance)

    monkeypatch.setattr(FeatureStore, "write_shard", write)
    with pytest.raises(StoreError, match="the disk is full"):
        fill_store(store, pool, Given(NextToken(renderer, MAX_LENGTH), encode), "rows")
    assert len(batches) < 100


def test_records_past_the_limit_stop_the_work_before_they_cost_anything(
    pool_records: list[dict[str, Any]], renderer: Renderer, tmp_path: Path
) -> None:
    """The second shard of four has no answers; what was set aside by an earlier run counts too."""
    mute = [{"id": f"mute {i}", "prompt": "Why?"} for i in range(SHARD)]
    path = write_jsonl(tmp_path / "pool.jsonl", [*pool_records[:SHARD], *mute, *pool_records[SHARD : N - SHARD]])
    bad = tmp_path / "quarantine.jsonl"
    pool = Pool.open([str(path)], cache=tmp_path / "parsed", quarantine=Quarantine(bad))
    store, objective = store_of(pool, tmp_path / "store"), NextToken(renderer, 2048)  # which leaves all others whole
    computed = []

    def encode(checkpoint: int, sequences: Sequence[Rendered], advance: Advance) -> NDArray[np.float32]:
        computed.append(sequences)
        return lengths(checkpoint, sequences, advance)

    with pytest.raises(DataError, match=r"more bad records than the limit of 2: 3 records set aside"):
        fill_store(store, pool, Given(objective, encode), "rows", Quarantine(bad, limit=2))
    assert len(computed) == 1
    assert [shard.number for shard in store.missing(0)] == [1, 2, 3]  # the first stays
    assert len(bad.read_text().splitlines()) == 3

    fill_store(store, pool, Given(objective, encode), "rows", Quarantine(bad, limit=3))
    assert len(store) == N - SHARD
    for checkpoint in range(2):
        Path(store.path, "shards", str(checkpoint), "0-3.json").unlink()
    computed.clear()
    with pytest.raises(DataError, match="more bad records than the limit of 2"):
        fill_store(store_of(pool, store.path), pool, Given(objective, encode), "rows", Quarantine(bad, limit=2))
    assert not computed
