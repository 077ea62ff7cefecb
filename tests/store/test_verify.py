"""Verify finds every kind of damage, and says what to do about it."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handpick.errors import StoreError
from handpick.store import FeatureStore
from tests.store import writer


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    """A store for tests that put back what they change."""
    return writer.write(FeatureStore.create(tmp_path_factory.mktemp("store"), writer.manifest()))


def shard_files(store: FeatureStore) -> list[Path]:
    return sorted((store.path / "shards").rglob("*.safetensors"))


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_one_flipped_bit_in_any_shard_is_found(lasting: FeatureStore, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(shard_files(lasting)))
    good = path.read_bytes()
    position = data.draw(st.integers(0, len(good) - 1))
    bad = bytearray(good)
    bad[position] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(bad)
    try:
        assert lasting.verify() == [
            f"{path} is damaged (its checksum has changed); delete {path.with_suffix('.json')} "
            "and run the command that built the store again"
        ]
    finally:
        path.write_bytes(good)


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_a_changed_letter_of_an_id_is_found(lasting: FeatureStore, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(shard_files(lasting))).with_suffix(".json")
    good = path.read_text()
    ids = json.loads(good)["ids"]
    if ids:
        path.write_text(good.replace(data.draw(st.sampled_from(ids)).split(" ü")[0], "changed"))
        try:
            problems = lasting.verify()
        finally:
            path.write_text(good)
        assert problems[0].startswith(f"{path} is damaged (its ids have changed)")


def test_a_whole_store_has_no_problems(whole: FeatureStore) -> None:
    assert whole.verify() == []


def test_a_truncated_shard_is_found_and_refused(whole: FeatureStore) -> None:
    path = shard_files(whole)[0]
    for length in (0, 5, 100, path.stat().st_size - 1):
        path.write_bytes(path.read_bytes()[:length])
        assert [problem.split(" (")[0] for problem in whole.verify()] == [f"{path} is damaged"]
        with pytest.raises(StoreError, match="is damaged"):
            FeatureStore.open(whole.path).array()


@pytest.mark.parametrize("suffix", [".safetensors", ".json"])
def test_a_deleted_shard_is_found_and_written_again(whole: FeatureStore, suffix: str) -> None:
    before = writer.tree(whole.path)
    path = shard_files(whole)[3]
    path.with_suffix(suffix).unlink()

    assert whole.verify() == [f"{path} or its sidecar is missing; run the command that built the store again"]
    with pytest.raises(StoreError, match="1 of its 14 shards are missing"):
        FeatureStore.open(whole.path)

    writer.write(FeatureStore.create(whole.path, writer.manifest()))
    assert writer.tree(whole.path) == before


def test_a_half_written_sidecar_is_found(whole: FeatureStore) -> None:
    path = shard_files(whole)[0].with_suffix(".json")
    for length in (0, path.stat().st_size // 2, path.stat().st_size - 1):
        path.write_bytes(path.read_bytes()[:length])
        assert [problem.split(" (")[0] for problem in whole.verify()] == [f"{path} is damaged"]
        with pytest.raises(StoreError, match=f"{path} is damaged .* delete {path} and run"):
            _ = FeatureStore.open(whole.path).ids


def test_ids_that_differ_between_checkpoints_are_found(tmp_path: Path) -> None:
    store, other = (writer.write(FeatureStore.create(tmp_path / prefix, writer.manifest()), prefix) for prefix in "ab")
    for suffix in (".json", ".safetensors"):
        foreign = (other.path / "shards/1/0-1").with_suffix(suffix)
        (store.path / "shards/1/0-1").with_suffix(suffix).write_bytes(foreign.read_bytes())

    (problem,) = store.verify()

    assert problem.startswith(f"{store.path}/shards/1/0-1.safetensors holds other ids than {store.path}/shards/0/0-1")


def test_ids_that_stand_twice_are_found(tmp_path: Path) -> None:
    store = FeatureStore.create(tmp_path, writer.manifest())
    for shard in store.shards():
        for checkpoint in (0, 1):
            features_BD = writer.shard_features(checkpoint, shard)[:1]
            store.write_shard(checkpoint, shard, ["the same"][: len(features_BD)], features_BD)
    assert store.verify() == [f"the id 'the same' stands at more than one row of {tmp_path}; build the store anew"]
