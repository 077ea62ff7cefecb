"""A row that is not finite at some checkpoint is read at none, and known by its id."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from handpick.errors import StoreError
from handpick.store import FeatureStore, merge
from handpick.store.codec import Floats, Storage
from tests.store import writer

BROKEN = (np.nan, np.inf, -np.inf, 3e38, 1e39)  # the last but one is finite, and the norm of many is not

Broken = dict[tuple[int, int], float]  # what stands in a row, by checkpoint and the row's place in the pool


def write(path: Path, broken: Broken, storage: Storage = "float32", *, leave_out: bool = False) -> FeatureStore:
    """Write a store with some rows broken; or one in which these records were never there."""
    store = FeatureStore.create(path, writer.manifest(storage=storage))
    gone = {row for _, row in broken}
    for checkpoint in range(2):
        for shard in store.missing(checkpoint):
            ids = writer.shard_ids(shard)
            places = [int(each.split()[1]) for each in ids]
            features_BD = writer.shard_features(checkpoint, shard).astype(np.float64)
            for row, place in enumerate(places):
                if (checkpoint, place) in broken:
                    features_BD[row, : 2 + place] = broken[checkpoint, place]
            kept = [row for row, place in enumerate(places) if not (leave_out and place in gone)]
            store.write_shard(checkpoint, shard, [ids[row] for row in kept], features_BD[kept])
    return FeatureStore.open(path)


PLACES = [int(each.split()[1]) for shard in writer.manifest().shards() for each in writer.shard_ids(shard)]


@given(
    broken=st.dictionaries(
        st.tuples(st.integers(0, 1), st.sampled_from(PLACES)), st.sampled_from(BROKEN), min_size=1, max_size=20
    ),
    storage=st.sampled_from(["float32", "float16", "int8", "1bit"]),
    data=st.data(),
)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_store_reads_as_if_these_records_were_not_there(
    broken: Broken, storage: Storage, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("stores")
    store = write(folder / "with", broken, storage)
    other = write(folder / "without", broken, storage, leave_out=True)
    assert len(store) == len(other) == len(PLACES) - len({row for _, row in broken})
    assert store.ids == other.ids
    query_QD = np.random.default_rng(0).standard_normal((3, writer.DIM)).astype(np.float32)
    rows = data.draw(st.lists(st.integers(0, len(store) - 1), max_size=9)) if len(store) else []
    for t in range(2):
        assert np.array_equal(store.norms(t), other.norms(t))
        for normalized in (True, False):
            assert np.array_equal(np.asarray(store.array(t, normalized)), np.asarray(other.array(t, normalized)))
            assert np.array_equal(store.on_disk(t, normalized)[rows], other.on_disk(t, normalized)[rows])
        assert all_of(store, t, query_QD) == all_of(other, t, query_QD)
    assert store.verify() == []
    checkpoints_of = {f"row {row} ü": sorted(t for t, place in broken if place == row) for _, row in broken}
    assert store.not_finite() == checkpoints_of
    assert other.not_finite() == {}


def all_of(store: FeatureStore, checkpoint: int, query_QD: Floats) -> list[tuple[int, list[list[float]]]]:
    return [(start, products_QB.tolist()) for start, products_QB in store.products(checkpoint, query_QD)]


@pytest.mark.parametrize("storage", ["float32", "float16", "int8", "1bit"])
def test_its_bytes_do_not_depend_on_what_it_held(storage: Storage, tmp_path: Path) -> None:
    """Not every NaN has the same bits, and none has an int8."""
    trees = []
    for i, value in enumerate(BROKEN):
        store = write(tmp_path / str(i), {(1, 3): value}, storage)
        trees.append(writer.tree(store.path))
    assert all(tree == trees[0] for tree in trees[1:])
    whole = writer.tree(writer.write(FeatureStore.create(tmp_path / "whole", writer.manifest(storage=storage))).path)
    assert [name for name in whole if whole[name] != trees[0][name]] == [
        "shards/1/0-0.json",
        "shards/1/0-0.safetensors",
    ]


def test_the_rows_of_a_caller_stay_as_they_are(tmp_path: Path) -> None:
    store = FeatureStore.create(tmp_path, writer.manifest())
    features_BD = np.full((2, writer.DIM), np.inf, np.float32)
    store.write_shard(0, store.shards()[0], ["a", "b"], features_BD)
    assert np.isinf(features_BD).all()


def test_one_that_is_not_whole_yet_tells_of_what_is_there(tmp_path: Path) -> None:
    store = FeatureStore.create(tmp_path, writer.manifest())
    first, second, *_ = store.shards()
    features_BD = np.ones((2, writer.DIM), np.float32)
    store.write_shard(0, first, ["a", "b"], features_BD)
    features_BD[1] = np.nan
    store.write_shard(1, first, ["a", "b"], features_BD)
    store.write_shard(1, second, ["c", "d"], features_BD)
    assert store.not_finite() == {"b": [1], "d": [1]}
    assert store.ids == ["a"]
    assert store.finite(1, second).tolist() == [True, False]
    with pytest.raises(StoreError, match="would hold other ids than"):  # the record is set aside by its row alone
        store.write_shard(0, second, ["c"], features_BD[:1])


def test_merged_stores_leave_the_same_out(tmp_path: Path) -> None:
    a = write(tmp_path / "a", {(0, 3): np.nan, (1, 4): np.inf})
    files = [writer.data_file("c.jsonl", 5)]
    b = writer.write(FeatureStore.create(tmp_path / "b", writer.manifest(files)), prefix="other")
    both = merge([a.path, b.path], tmp_path / "both")
    assert both.ids == a.ids + b.ids
    assert both.not_finite() == {"row 3 ü": [0], "row 4 ü": [1]}
    assert both.verify() == []
    assert FeatureStore.open(both.path).manifest.schema_version == 2


def test_an_id_that_was_left_out_may_not_come_again(tmp_path: Path) -> None:
    a = write(tmp_path / "a", {(0, 3): np.nan})
    b = FeatureStore.create(tmp_path / "b", writer.manifest([writer.data_file("c.jsonl", 1)]))
    for t in range(2):
        b.write_shard(t, b.shards()[0], ["row 3 ü"], np.ones((1, writer.DIM)))
    with pytest.raises(StoreError, match="the id 'row 3 ü' and 0 others stand at more than one row"):
        merge([a.path, b.path], tmp_path / "both")
