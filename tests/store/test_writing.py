"""Writing: in parts, by several processes, interrupted, refused."""

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from handpick.errors import FingerprintMismatch, StoreError
from handpick.files import atomic_write
from handpick.store import FeatureStore, Shard
from tests.store import writer
from tests.store.writer import data_file, manifest, tree

SCRIPT = [sys.executable, writer.__file__]


@pytest.mark.parametrize("step", [1, 2, 4, 5, 7, 8, 9, 47])
def test_a_killed_and_resumed_store_is_byte_equal_to_an_unbroken_one(
    tmp_path: Path, whole: FeatureStore, step: int
) -> None:
    """The writer dies by SIGKILL just before it syncs or renames the manifest, a shard or a sidecar."""
    folder = tmp_path / "broken"
    killed = subprocess.run([*SCRIPT, folder, "--die-at", str(step)], check=False)
    assert killed.returncode == -9
    assert tree(folder) != tree(whole.path)

    writer.write(FeatureStore.create(folder, manifest()))

    assert tree(folder) == tree(whole.path)
    assert FeatureStore.open(folder).verify() == []


def test_two_processes_write_one_store(tmp_path: Path, whole: FeatureStore) -> None:
    folder = tmp_path / "shared"
    both = [subprocess.Popen([*SCRIPT, folder, "--every", "2", "--from", first]) for first in ("0", "1")]
    assert [process.wait() for process in both] == [0, 0]
    assert tree(folder) == tree(whole.path)


def test_two_writers_of_the_very_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second finishes while the first is about to rename, and sweeps the first's temporary file away."""
    really_replace = os.replace

    def second_comes_first(content: bytes) -> None:
        def replace(temporary: Path, path: Path) -> None:
            monkeypatch.setattr("os.replace", really_replace)
            atomic_write(path, content)
            really_replace(temporary, path)

        monkeypatch.setattr("os.replace", replace)

    second_comes_first(b"same")
    atomic_write(tmp_path / "shard", b"same")
    second_comes_first(b"other")
    with pytest.raises(StoreError, match="was written by another run meanwhile"):
        atomic_write(tmp_path / "shard", b"same")
    assert tree(tmp_path) == {"shard": b"other"}


def test_bytes_do_not_depend_on_the_layout_or_type_of_the_features(tmp_path: Path) -> None:
    store = FeatureStore.create(tmp_path, manifest())
    shard = store.shards()[0]
    features_BD = writer.shard_features(0, shard)
    trees: list[dict[str, bytes]] = []
    for same_BD in (features_BD, np.asfortranarray(features_BD), features_BD.astype(np.float64)):
        store.write_shard(0, shard, writer.shard_ids(shard), same_BD)
        trees.append(tree(tmp_path))
    assert trees[0] == trees[1] == trees[2]


def test_shards_tile_the_pool_and_never_span_two_files() -> None:
    assert manifest([data_file("a", 7), data_file("b", 0), data_file("c", 5)]).shards() == [
        Shard(file=0, number=0, start=0, stop=5),
        Shard(file=0, number=1, start=5, stop=7),
        Shard(file=2, number=0, start=7, stop=12),
    ]


def test_a_store_of_other_settings_is_refused(whole: FeatureStore) -> None:
    before = tree(whole.path)
    with pytest.raises(FingerprintMismatch, match=r"whole does not match: space.projection.seed is 0 there and 1 here"):
        FeatureStore.create(whole.path, manifest(seed=1))
    with pytest.raises(FingerprintMismatch, match='storage is "float32" there and "float16" here'):
        FeatureStore.create(whole.path, manifest(storage="float16"))
    assert tree(whole.path) == before


def test_a_new_file_is_appended_without_touching_the_old_shards(tmp_path: Path, whole: FeatureStore) -> None:
    old = {path: path.stat().st_ino for path in (whole.path / "shards").rglob("*.*")}
    files = [data_file("moved/a.jsonl", 23, "a.jsonl"), data_file("b.jsonl", 9), data_file("c.jsonl", 8)]

    store = FeatureStore.create(whole.path, manifest(files))

    assert [(shard.file, shard.start) for shard in store.missing(0)] == [(2, 32), (2, 37)]
    writer.write(store)
    assert FeatureStore.open(whole.path).verify() == []
    assert len(store) == len(whole) + 6
    assert {path: path.stat().st_ino for path in old} == old
    at_once = writer.write(FeatureStore.create(tmp_path / "once", store.manifest))
    assert tree(at_once.path) == tree(whole.path)


@pytest.mark.parametrize(
    ("files", "difference"),
    [
        ([data_file("a.jsonl", 23, "edited"), data_file("b.jsonl", 9)], r"files\[0\].sha256 is "),
        ([data_file("a.jsonl", 22), data_file("b.jsonl", 9)], r"files\[0\].rows is 23 there and 22 here"),
        ([data_file("b.jsonl", 9), data_file("a.jsonl", 23)], r"files\[0\].sha256 is "),
        ([data_file("a.jsonl", 23)], r"files\[1\] is .* there and not set here"),
    ],
    ids=["content", "rows", "order", "fewer"],
)
def test_an_append_to_changed_data_is_refused(
    whole: FeatureStore, files: list[writer.ManifestFile], difference: str
) -> None:
    with pytest.raises(FingerprintMismatch, match=difference):
        FeatureStore.create(whole.path, manifest(files))


def test_ids_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    store = FeatureStore.create(tmp_path, manifest())
    shard = store.shards()[0]
    features_BD = np.ones((2, writer.DIM), np.float32)
    with pytest.raises(StoreError, match=r"cannot hold 1 ids with features of shape \(2, 24\)"):
        store.write_shard(0, shard, ["a"], features_BD)
    with pytest.raises(StoreError, match="cannot hold 6 ids"):
        store.write_shard(0, shard, list("abcdef"), np.ones((6, writer.DIM)))
    with pytest.raises(StoreError, match="the id 'a' stands twice"):
        store.write_shard(0, shard, ["a", "a"], features_BD)
    store.write_shard(0, shard, ["a", "b"], features_BD)
    with pytest.raises(StoreError, match="would hold other ids than"):
        store.write_shard(1, shard, ["a", "c"], features_BD)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"mounting a small tmpfs is not permitted here: {error}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_leaves_what_was_written_good(small_disk: Path, whole: FeatureStore) -> None:
    folder = small_disk / "store"
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(200 << 10))
    with pytest.raises(StoreError, match=r"cannot write .*: No space left on device; all that was written before"):
        writer.write(FeatureStore.create(folder, manifest()))
    assert not list(folder.rglob("*.partial"))
    store = FeatureStore.open(folder, allow_incomplete=True)
    assert 0 < len(store.missing(0)) < len(store.shards())
    assert all("is missing" in problem for problem in store.verify())

    ballast.unlink()
    writer.write(FeatureStore.create(folder, manifest()))
    assert tree(folder) == tree(whole.path)


def test_the_message_of_a_full_disk_without_mounting_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    store = FeatureStore.create(tmp_path, manifest())
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StoreError, match="No space left on device"):
        writer.write(store)
    assert list(tree(tmp_path)) == ["manifest.json"]
