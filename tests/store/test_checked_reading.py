"""A damaged shard is refused by whatever reads it first, in the bytes that are read, once.

Legend: Q queries, D features.
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from handpick.errors import StoreError
from handpick.store import FeatureStore, shard_file
from tests.store import writer

READERS: dict[str, Callable[[FeatureStore], object]] = {
    "array": lambda store: store.array(1),
    "a row": lambda store: store.on_disk(1)[0],
    "blocks": lambda store: list(store.blocks(1, normalized=False)),
    "products": lambda store: list(store.products(1, np.ones((2, writer.DIM), np.float32))),
    "norms": lambda store: store.norms(1),
}


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("at", [0, 12, -1], ids=["length of the header", "header", "last value"])
@pytest.mark.parametrize("reader", READERS)
def test_a_flipped_bit_is_refused(reader: str, at: int, whole: FeatureStore) -> None:
    path = whole.path / "shards" / "1" / "0-0.safetensors"
    flip(path, at)
    with pytest.raises(StoreError, match=rf"^{path} is damaged \(.*\); delete {path.with_suffix('.json')} and run"):
        READERS[reader](FeatureStore.open(whole.path))


def test_a_norm_that_damage_has_made_infinite_leaves_no_row_out(whole: FeatureStore) -> None:
    path = whole.path / "shards" / "0" / "0-1.safetensors"
    good = path.read_bytes()
    norms = shard_file.map_tensors(path)["norms"].tobytes()
    path.write_bytes(good.replace(norms, np.full(len(norms) // 4, np.inf, np.float32).tobytes()))
    with pytest.raises(StoreError, match="is damaged"):
        len(FeatureStore.open(whole.path))


@pytest.mark.parametrize(
    "change",
    [("row 2", "row 3"), ('"rows":4', '"rows":5'), ('"crc32":', '"crc32":1'), ('"ids":', '"idz":'), ("{", "[")],
)
def test_a_changed_sidecar_is_refused(change: tuple[str, str], whole: FeatureStore) -> None:
    path = whole.path / "shards" / "0" / "0-0.json"
    text = path.read_text()
    assert change[0] in text
    path.write_text(text.replace(*change, 1))
    store = FeatureStore.open(whole.path)
    with pytest.raises(StoreError, match=f"{path.with_suffix('')}.* is damaged"):
        _ = store.ids, store.array(0)


def test_every_shard_is_checked_once(whole: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    checked = []
    check = shard_file._check

    def note(path: Path, file: np.ndarray) -> None:  # type: ignore[type-arg]
        checked.append(str(path.relative_to(whole.path / "shards")))
        check(path, file)

    monkeypatch.setattr(shard_file, "_check", note)
    store = FeatureStore.open(whole.path)
    for read in [*READERS.values(), *READERS.values()]:
        read(store)
    assert len(set(checked)) == len(checked)
    assert {f"1/{shard.file}-{shard.number}.safetensors" for shard in store.shards()} == set(checked)


def make_old(store: FeatureStore) -> None:
    """Take away what stores had not at first: the CRC-32 of a shard, the digest of the manifest."""
    for path in [*store.path.glob("shards/*/*.json"), store.path / "manifest.json"]:
        kept = {name: value for name, value in json.loads(path.read_bytes()).items() if name not in ("crc32", "digest")}
        path.write_text(json.dumps(kept))


def test_a_store_of_before_is_checked_by_its_sha256_once(whole: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    features, before = np.asarray(whole.array(0)), writer.tree(whole.path / "shards" / "0")
    make_old(whole)
    np.testing.assert_array_equal(np.asarray(FeatureStore.open(whole.path).array(0)), features)
    after = writer.tree(whole.path / "shards" / "0")
    assert {name for name in before if after[name] != before[name]} == {"0-2.json"}  # which has no row, and is not read

    taken = []
    monkeypatch.setattr(shard_file, "_sha256", lambda data: taken.append(len(data)))
    np.testing.assert_array_equal(np.asarray(FeatureStore.open(whole.path).array(0)), features)
    assert taken == []


def test_a_damaged_store_of_before_is_refused(whole: FeatureStore) -> None:
    make_old(whole)
    flip(whole.path / "shards" / "0" / "0-0.safetensors", -1)
    with pytest.raises(StoreError, match=r"0-0\.safetensors is damaged \(its checksum has changed\)"):
        FeatureStore.open(whole.path).array(0)


def test_a_store_of_before_that_nobody_may_write_to_is_read(
    whole: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = np.asarray(whole.array(0))
    make_old(whole)

    def refuse(path: Path, data: bytes) -> None:
        raise StoreError(f"cannot write {path}: Read-only file system")

    monkeypatch.setattr(shard_file, "atomic_write", refuse)
    np.testing.assert_array_equal(np.asarray(FeatureStore.open(whole.path).array(0)), features)


def test_a_store_whose_manifest_is_gone_adopts_no_shards(whole: FeatureStore) -> None:
    (whole.path / "manifest.json").unlink()
    with pytest.raises(StoreError, match=rf"{whole.path} holds features, and its manifest\.json, .* is gone"):
        FeatureStore.create(whole.path, writer.manifest())
