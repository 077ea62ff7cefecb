"""What is written is read back, whichever way it is read.

Legend: N rows, D features per row.
"""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from handpick.errors import StoreError
from handpick.store import FeatureArray, FeatureStore, codec
from handpick.store.codec import CODECS, Storage
from handpick.store.memory import _free_in_group, available_bytes
from tests.store import writer

ERROR = {"float32": 1e-6, "float16": 2**-11, "int8": 1 / 254 + 1e-6}  # of a feature, relative to its row's norm


@pytest.mark.parametrize("storage", ERROR)
def test_round_trip(tmp_path: Path, storage: Storage) -> None:
    writer.write(FeatureStore.create(tmp_path / "store", writer.manifest(storage=storage)))

    store = FeatureStore.open(tmp_path / "store")

    assert store.ids == [id_ for shard in store.shards() for id_ in writer.shard_ids(shard)]
    assert (len(store), store.dim) == (len(store.ids), writer.DIM)
    assert (store.checkpoints, store.weights) == (["epoch-1", "epoch-2"], [2e-5, 1e-5])
    for checkpoint in (0, 1):
        expected_ND = writer.expected(store, checkpoint)
        norms_N = np.linalg.norm(expected_ND.astype(np.float64), axis=1)
        unit_ND = np.divide(expected_ND, norms_N[:, None], where=norms_N[:, None] > 0, out=np.zeros(expected_ND.shape))
        np.testing.assert_allclose(store.norms(checkpoint), norms_N, rtol=1e-6)
        np.testing.assert_allclose(store.array(checkpoint), unit_ND, rtol=0, atol=ERROR[storage])
        raw_ND = np.asarray(store.array(checkpoint, normalized=False))
        assert raw_ND.dtype == np.float32
        assert np.all(np.abs(raw_ND - expected_ND) <= ERROR[storage] * norms_N[:, None])
    assert (store.norms() == 0).sum() == sum(bool(writer.shard_ids(shard)) for shard in store.shards())


def test_one_bit_keeps_signs_and_norms(tmp_path: Path) -> None:
    writer.write(FeatureStore.create(tmp_path / "store", writer.manifest(storage="1bit")))
    store = FeatureStore.open(tmp_path / "store")
    for checkpoint in range(2):
        given_ND = np.concatenate([writer.shard_features(checkpoint, shard) for shard in store.shards()])
        norms_N = np.linalg.norm(given_ND.astype(np.float64), axis=1)
        unit_ND = np.asarray(store.array(checkpoint))
        np.testing.assert_allclose(unit_ND, np.where(given_ND > 0, 1, -1) / np.sqrt(24) * (norms_N > 0)[:, None], 1e-6)
        np.testing.assert_allclose(store.norms(checkpoint), norms_N, rtol=1e-6)


@pytest.mark.parametrize("storage", CODECS)
def test_products_are_those_of_the_rows_that_are_read(tmp_path: Path, storage: Storage) -> None:
    store = writer.write(FeatureStore.create(tmp_path / "store", writer.manifest(storage=storage)))
    query_QD = np.random.default_rng(0).normal(size=(3, writer.DIM)).astype(np.float32)
    for checkpoint in range(2):
        expected_QN = query_QD @ np.asarray(store.array(checkpoint)).T
        found_QN = np.empty_like(expected_QN)
        for start, block_QB in store.products(checkpoint, query_QD):
            found_QN[:, start : start + block_QB.shape[1]] = block_QB
        np.testing.assert_allclose(found_QN, expected_QN, atol=1e-6)


@pytest.mark.parametrize("normalized", [True, False])
def test_blocks_are_the_array_in_pieces(whole: FeatureStore, normalized: bool) -> None:
    blocks = list(whole.blocks(1, normalized=normalized))

    lengths = [len(block) for _, block in blocks]
    assert [start for start, _ in blocks] == np.cumsum([0, *lengths[:-1]]).tolist()
    assert max(lengths) <= whole.manifest.shard_rows
    np.testing.assert_array_equal(np.concatenate([block for _, block in blocks]), whole.array(1, normalized))


@pytest.mark.parametrize(
    "key",
    [
        0,
        -1,
        np.int64(7),
        slice(None),
        slice(3, 17),
        slice(None, None, -2),
        slice(5, 5),
        [9, 2, 2, -1],
        [],
        np.array([20, 0, 11], np.uint32),
    ],
)
def test_a_lazy_array_is_indexed_like_an_eager_one(
    whole: FeatureStore, key: int | slice | list[int] | npt.NDArray[np.uint32]
) -> None:
    eager_ND = np.asarray(whole.array(1))
    lazy = FeatureArray(whole.rows(), 1, normalized=True)

    np.testing.assert_array_equal(lazy[key], eager_ND[key])
    assert lazy[key].shape == eager_ND[key].shape


def test_a_lazy_array_passes_for_an_eager_one(whole: FeatureStore) -> None:
    eager_ND = np.asarray(whole.array(1))
    lazy = FeatureArray(whole.rows(), 1, normalized=True)

    assert (lazy.shape, lazy.ndim, lazy.dtype, len(lazy)) == (eager_ND.shape, 2, eager_ND.dtype, len(eager_ND))
    np.testing.assert_array_equal(np.asarray(lazy), eager_ND)
    np.testing.assert_array_equal(np.stack(list(lazy)), eager_ND)
    assert np.asarray(lazy, np.float64).dtype == np.float64
    with pytest.raises(ValueError, match="can only be copied"):
        np.asarray(lazy, copy=False)


@pytest.mark.parametrize("key", [1000, -1000, [0, 1000], [0.5], [[1]], [True, False]])
def test_a_lazy_array_refuses_what_is_no_row_number(whole: FeatureStore, key: int) -> None:
    with pytest.raises(IndexError):
        FeatureArray(whole.rows(), 0, normalized=True)[key]


def test_an_array_is_lazy_past_half_of_the_memory(whole: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    size = np.asarray(whole.array()).nbytes
    monkeypatch.setattr("handpick.store.feature_store.available_bytes", lambda: 2 * size)
    assert isinstance(whole.array(), np.ndarray)
    monkeypatch.setattr("handpick.store.feature_store.available_bytes", lambda: 2 * size - 1)
    assert isinstance(whole.array(), FeatureArray)


def test_available_memory_is_some_of_the_machine() -> None:
    assert 1 << 20 < available_bytes() < 1 << 50


def test_what_a_control_group_holds_is_not_free(tmp_path: Path) -> None:
    for name, text in {"max": "1000\n", "current": "700\n", "stat": "anon 500\ninactive_file 150\n"}.items():
        (tmp_path / f"memory.{name}").write_text(text)
    assert _free_in_group(tmp_path) == 450
    (tmp_path / "memory.max").write_text("max\n")
    assert _free_in_group(tmp_path) is None


def test_a_store_without_any_row(tmp_path: Path) -> None:
    store = FeatureStore.create(tmp_path, writer.manifest([writer.data_file("empty.jsonl", 0)]))
    assert FeatureStore.open(tmp_path).array().shape == (0, writer.DIM)
    assert (len(store), store.ids, list(store.blocks())) == (0, [], [])


def test_an_incomplete_store_gives_the_rows_that_every_checkpoint_has(tmp_path: Path) -> None:
    store = FeatureStore.create(tmp_path, writer.manifest())
    first, second, *_ = store.shards()
    for checkpoint, shard in ((0, first), (0, second), (1, second)):
        store.write_shard(checkpoint, shard, writer.shard_ids(shard), writer.shard_features(checkpoint, shard))

    with pytest.raises(StoreError, match="is incomplete, 11 of its 14 shards are missing; run the command"):
        FeatureStore.open(tmp_path)

    store = FeatureStore.open(tmp_path, allow_incomplete=True)
    assert store.ids == writer.shard_ids(second)
    np.testing.assert_array_equal(store.array(1, normalized=False).shape, (4, writer.DIM))


def test_open_names_what_is_wrong(tmp_path: Path, whole: FeatureStore) -> None:
    with pytest.raises(StoreError, match="there is no feature store at"):
        FeatureStore.open(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="has no checkpoint 2; the last is 1"):
        whole.array(checkpoint=2)
    path = whole.path / "manifest.json"
    text = path.read_text()
    path.write_text(text.replace('"schema_version": 1', '"schema_version": 3'))
    with pytest.raises(StoreError, match="schema version 3 and this handpick reads up to 2"):
        FeatureStore.open(whole.path)
    path.write_text(text.replace('"float32"', '"float16"'))
    with pytest.raises(StoreError, match="cannot be read as a manifest \\(its digest has changed\\); restore it"):
        FeatureStore.open(whole.path)
    of_before = {key: value for key, value in json.loads(text).items() if key != "digest"}
    path.write_text(json.dumps(of_before | {"storage": "float3"}))
    with pytest.raises(StoreError, match="cannot be read as a manifest \\(storage: Input should be"):
        FeatureStore.open(whole.path)
    path.write_text(text[:100])
    with pytest.raises(StoreError, match="cannot be read as a manifest"):
        FeatureStore.open(whole.path)


def test_every_finite_half_is_widened_to_itself() -> None:
    halves_N = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    halves_1N = halves_N[np.isfinite(halves_N)][None]
    tensors = {"features": halves_1N, "norms": np.ones(1, np.float32)}
    widened_1N = codec.decode(tensors, "float16", halves_1N.shape[1], normalized=True)
    assert widened_1N.tobytes() == halves_1N.astype(np.float32).tobytes()
