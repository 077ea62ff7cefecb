"""The streamed similarity, against a loop in float64 over an in-memory store."""

import errno
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from handpick.algorithms import pick
from handpick.errors import FingerprintMismatch, SettingsError, StoreError
from handpick.similarity import StoredSimilarity, candidate_features, query_rows, similarity
from handpick.store import Checkpoint, FeatureStore, Manifest, ManifestFile


@dataclass
class Features:
    """What the similarity reads of a feature store, held in memory."""

    arrays: list[NDArray[np.float32]]
    weights: list[float]
    block: int = 7
    space: dict[str, Any] = field(default_factory=lambda: {"model": "m", "seed": 0})

    @property
    def manifest(self) -> SimpleNamespace:
        return SimpleNamespace(space=self.space, storage="float32")

    def __len__(self) -> int:
        return len(self.arrays[0])

    def array(self, checkpoint: int) -> NDArray[np.float32]:
        return self.arrays[checkpoint]

    on_disk = array

    def products(self, checkpoint: int, query_QD: NDArray[np.float32]) -> Iterator[tuple[int, NDArray[np.float32]]]:
        for first_row in range(0, len(self), self.block):
            yield first_row, query_QD @ self.arrays[checkpoint][first_row : first_row + self.block].T


def features(rows: int, weights: list[float], seed: int, dim: int = 512) -> Features:
    generator = np.random.default_rng(seed)
    raw = generator.standard_normal((len(weights), rows, dim))
    unit = (raw / np.linalg.norm(raw, axis=2, keepdims=True)).astype(np.float32)
    return Features(list(unit), weights)


POOL = features(rows=45, weights=[0.5, 0.3, 0.2], seed=1)
QUERY = features(rows=4, weights=[1.0, 1.0, 1.0], seed=2)


def by_loops(pool: Features, query: Features) -> NDArray[np.float64]:
    matrix = np.zeros((len(query), len(pool)))
    for q in range(len(query)):
        for n in range(len(pool)):
            for t, weight in enumerate(pool.weights):
                x_q, x_n = query.arrays[t][q].astype(np.float64), pool.arrays[t][n].astype(np.float64)
                matrix[q, n] += weight * (x_q @ x_n)
    return matrix


def test_equals_a_float64_loop_with_the_pools_weights() -> None:
    matrix = similarity(POOL, QUERY)
    assert matrix.dtype == np.float32
    np.testing.assert_allclose(matrix, by_loops(POOL, QUERY), atol=1e-6)


def test_an_example_is_as_similar_to_itself_as_the_weights_allow() -> None:
    np.testing.assert_allclose(np.diag(similarity(POOL, POOL)), 1, atol=1e-6)


def test_a_file_holds_the_same_bytes_and_nothing_else_is_left(tmp_path: Path) -> None:
    out = tmp_path / "similarity.npy"
    mapped = similarity(POOL, QUERY, out=out)
    assert isinstance(mapped, np.memmap)
    assert not mapped.flags.writeable
    np.testing.assert_array_equal(mapped, similarity(POOL, QUERY))
    np.testing.assert_array_equal(np.load(out), mapped)
    assert list(tmp_path.iterdir()) == [out]


def test_a_broken_run_leaves_no_file_that_looks_finished(tmp_path: Path) -> None:
    class Interrupted(Features):
        def products(self, checkpoint: int, query_QD: NDArray[np.float32]) -> Iterator[tuple[int, NDArray[np.float32]]]:
            yield from super().products(0, query_QD)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        similarity(Interrupted(POOL.arrays, POOL.weights), QUERY, out=tmp_path / "similarity.npy")
    assert not list(tmp_path.iterdir())


def test_single_columns_are_those_of_the_whole() -> None:
    streamed = StoredSimilarity(POOL, query_rows(POOL, QUERY))
    columns = np.array([44, 0, 7, 7, 13])
    np.testing.assert_allclose(streamed.columns(columns), similarity(POOL, QUERY)[:, columns], atol=1e-6)


def test_candidates_features_give_their_similarity_to_each_other() -> None:
    columns = np.array([3, 40, 12])
    features_CE = candidate_features(POOL, columns)
    np.testing.assert_allclose(features_CE @ features_CE.T, by_loops(POOL, POOL)[np.ix_(columns, columns)], atol=1e-6)


@pytest.mark.parametrize("storage", ["float32", "int8", "1bit"])
def test_workers_that_share_a_pass_find_what_one_finds(storage: Any, tmp_path: Path) -> None:
    """Shards of unlike sizes, one row that is not finite, two checkpoints; more workers than shards too."""
    manifest = Manifest(
        space={}, build={}, dim=64, storage=storage, shard_rows=9,
        checkpoints=[Checkpoint(name=name, weight=0.5) for name in "ab"],
        files=[ManifestFile(name="pool.jsonl", sha256="0" * 64, rows=40)],
    )  # fmt: skip
    store = FeatureStore.create(tmp_path, manifest)
    for t in range(2):
        for shard in store.shards():
            count = shard.stop - shard.start
            rows_BD = np.random.default_rng([t, shard.start]).standard_normal((count, 64), np.float32)
            if t == shard.start == 0:
                rows_BD[4] = np.nan
            store.write_shard(t, shard, [str(n) for n in range(shard.start, shard.stop)], rows_BD)
    query_TQD = [np.random.default_rng(t).standard_normal((5, 64), np.float32) for t in range(2)]
    one = StoredSimilarity(store, query_TQD)
    for workers in (2, 3, 8):
        shared = StoredSimilarity(store, query_TQD, workers)
        shared.blocks = pytest.fail  # type: ignore[method-assign,assignment]  # nobody reads it whole
        assert [start for start, _ in shared.shares()][:2] == [0, {2: 17, 3: 17, 8: 8}[workers]]
        for budget in (1, 12, 39):
            got, want = pick(shared, budget), pick(one, budget)
            assert (got.columns.tolist(), got.scores.tolist()) == (want.columns.tolist(), want.scores.tolist())


def test_another_space_is_refused() -> None:
    other = Features(QUERY.arrays, QUERY.weights, space={"model": "m", "seed": 1})
    with pytest.raises(FingerprintMismatch, match="seed"):
        similarity(POOL, other)


def test_another_number_of_checkpoints_is_refused() -> None:
    with pytest.raises(SettingsError, match="have 1 checkpoints and the pool's 3"):
        similarity(POOL, features(rows=4, weights=[1.0], seed=2))


def test_a_pool_whose_blocks_fall_short_is_refused() -> None:
    class Short(Features):
        def products(self, checkpoint: int, query_QD: NDArray[np.float32]) -> Iterator[tuple[int, NDArray[np.float32]]]:
            yield 0, query_QD @ self.arrays[checkpoint][:10].T

    with pytest.raises(StoreError, match="have 10 rows of 45"):
        similarity(Short(POOL.arrays, POOL.weights), QUERY)


def test_a_full_disk_shows_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", no_space)
    with pytest.raises(StoreError, match=r"No space left on device.* takes 720 bytes"):
        similarity(POOL, QUERY, out=tmp_path / "similarity.npy")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="nowhere"):
        similarity(POOL, QUERY, out=tmp_path / "nowhere" / "similarity.npy")
