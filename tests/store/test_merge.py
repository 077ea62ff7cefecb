"""Two stores made into one."""

import errno
from pathlib import Path

import numpy as np
import pytest

from handpick.errors import FingerprintMismatch, StoreError
from handpick.store import FeatureStore, Manifest, merge
from tests.store import writer


def build(folder: Path, prefix: str, manifest: Manifest | None = None) -> FeatureStore:
    plan = manifest or writer.manifest([writer.data_file(f"{prefix}.jsonl", 12)])
    return writer.write(FeatureStore.create(folder / prefix, plan), prefix)


@pytest.mark.parametrize("can_link", [True, False])
def test_merge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can_link: bool) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    if not can_link:
        monkeypatch.setattr("os.link", refuse)
    stores = [build(tmp_path, "a"), build(tmp_path, "b")]

    merged = merge([store.path for store in stores], tmp_path / "out")

    assert merged.ids == stores[0].ids + stores[1].ids
    assert [file.name for file in merged.manifest.files] == ["a.jsonl", "b.jsonl"]
    for checkpoint in (0, 1):
        parts = [store.array(checkpoint, normalized=False) for store in stores]
        np.testing.assert_array_equal(merged.array(checkpoint, normalized=False), np.concatenate(parts))
    assert FeatureStore.open(tmp_path / "out").verify() == []


def test_a_merge_that_was_cut_off_goes_on(tmp_path: Path) -> None:
    paths = [build(tmp_path, prefix).path for prefix in "ab"]
    whole = writer.tree(merge(paths, tmp_path / "out").path)
    (tmp_path / "out/shards/1/1-0.json").unlink()

    merge(paths, tmp_path / "out")

    assert writer.tree(tmp_path / "out") == whole


def test_stores_with_an_id_in_common_are_not_merged(tmp_path: Path) -> None:
    paths = [build(tmp_path / folder, "a").path for folder in ("one", "two")]
    with pytest.raises(
        StoreError, match=r"the id 'a 1 ü' and 7 others stand at more than one row of .*one/a, .*two/a;"
    ):
        merge(paths, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_stores_of_another_space_are_not_merged(tmp_path: Path) -> None:
    paths = [build(tmp_path, "a").path, build(tmp_path, "b", writer.manifest(seed=1)).path]
    with pytest.raises(FingerprintMismatch, match=r"a, to be merged with .*b, does not match: space.projection.seed"):
        merge(paths, tmp_path / "out")


def test_merge_needs_whole_stores_and_a_folder_of_its_own(tmp_path: Path) -> None:
    store = build(tmp_path, "a")
    with pytest.raises(StoreError, match="name a new folder"):
        merge([store.path], store.path)
    with pytest.raises(StoreError, match="no feature store to merge"):
        merge([], tmp_path / "out")
    (store.path / "shards/0/0-0.json").unlink()
    with pytest.raises(StoreError, match="is incomplete"):
        merge([store.path], tmp_path / "out")
