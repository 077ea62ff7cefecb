"""What is spread over a store, block by block, against the dense solution; and exact columns in it."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from handpick.algorithms.matrix import Matrix
from handpick.scorers import spread
from handpick.scorers.ridge import fit_ridge
from handpick.scorers.spread import ExactColumns, SpreadSimilarity, deviations
from handpick.similarity import write_similarity
from handpick.store import Checkpoint, FeatureStore, Manifest, ManifestFile
from handpick.store.codec import Storage
from tests.scorers.test_ridge import dense_ridge

N, DIM, QUERIES = 47, 9, 3


def make_store(folder: Path, rows_ND: NDArray[np.float32], shard_rows: int, storage: Storage) -> FeatureStore:
    manifest = Manifest(
        space={}, build={}, dim=rows_ND.shape[1], storage=storage, checkpoints=[Checkpoint(name="base", weight=1.0)],
        files=[ManifestFile(name="pool", sha256="0", rows=len(rows_ND))], shard_rows=shard_rows,
    )  # fmt: skip
    store = FeatureStore.create(folder, manifest)
    for shard in store.shards():
        ids = [str(row) for row in range(shard.start, shard.stop)]
        store.write_shard(0, shard, ids, rows_ND[shard.start : shard.stop])
    return store


@pytest.mark.parametrize(
    ("storage", "shard_rows", "values"),
    [("float32", 10, 1), ("float32", 64, 40), ("float32", 7, 1 << 23), ("float16", 10, 40), ("int8", 64, 1 << 23)],
)
def test_blocks_and_columns_are_the_dense_solution(
    storage: Storage, shard_rows: int, values: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of rows at unit norm, with one of zeros, and only of candidates."""
    monkeypatch.setattr(spread, "_VALUES", values)
    rng = np.random.default_rng(shard_rows)
    rows_ND = (rng.normal(size=(N, DIM)) * rng.lognormal(size=(N, 1))).astype(np.float32)
    rows_ND[5] = 0
    store = make_store(tmp_path / "store", rows_ND, shard_rows, storage)
    candidates_N = np.flatnonzero(rng.random(N) < 0.8)
    landmarks_L = candidates_N[::3]
    targets_LQ = rng.normal(size=(len(landmarks_L), QUERIES)).astype(np.float32)
    unit_ND = np.asarray(store.array(0), np.float64)
    want_QN = dense_ridge(unit_ND[landmarks_L], targets_LQ.astype(np.float64), unit_ND[candidates_N]).T

    fitted = fit_ridge(store.on_disk(0)[landmarks_L], targets_LQ)
    similarity = SpreadSimilarity(store, candidates_N, fitted.ridge)
    assert similarity.shape == (QUERIES, len(candidates_N))
    starts = [start for start, _ in similarity.blocks()]
    assert starts == sorted(set(starts))
    found_QN = write_similarity(similarity, None)
    np.testing.assert_allclose(found_QN, want_QN, rtol=1e-5, atol=1e-6)
    some = np.array([7, 0, 7, len(candidates_N) - 1])
    np.testing.assert_allclose(similarity.columns(some), found_QN[:, some], rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(
        deviations(store, candidates_N, fitted), fitted.deviation(unit_ND[candidates_N]), rtol=1e-6
    )


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 30), exact=st.integers(0, 30), step=st.integers(1, 12), seed=st.integers(0, 999))
def test_exact_columns_stand_where_they_should(n: int, exact: int, step: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    before_QN = rng.normal(size=(2, n)).astype(np.float32)
    columns_E = np.sort(rng.permutation(n)[:exact])
    values_QE = rng.normal(size=(2, len(columns_E))).astype(np.float32)
    want_QN = before_QN.copy()
    want_QN[:, columns_E] = values_QE

    class Blocks(Matrix):
        def blocks(self):  # type: ignore[no-untyped-def]
            return ((start, before_QN[:, start : start + step]) for start in range(0, n, step))

    kept_QN = before_QN.copy()
    similarity = ExactColumns(Blocks(before_QN), columns_E, values_QE)
    np.testing.assert_array_equal(write_similarity(similarity, None), want_QN)
    np.testing.assert_array_equal(before_QN, kept_QN)  # blocks are not to be written to
    some = rng.integers(0, n, 5)
    np.testing.assert_array_equal(similarity.columns(some), want_QN[:, some])
