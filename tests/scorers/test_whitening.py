"""Whitening against the inverse that its formula writes down, and the covariance that is kept between runs."""

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from handpick.errors import StoreError
from handpick.scorers.whitening import cached_second_moment, second_moment, whiten

Floats = NDArray[np.float32]


def unit(rows: NDArray[Any]) -> Floats:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0).astype(np.float32)


def random_unit(n: int, d: int, seed: int) -> Floats:
    return unit(np.random.default_rng(seed).normal(size=(n, d)))


class Rows:
    """What is read of a store: unit rows, some at a time; counts the passes."""

    def __init__(self, rows_ND: Floats, step: int = 3) -> None:
        self.rows_ND = rows_ND
        self.step = step
        self.passes = 0

    def __len__(self) -> int:
        return len(self.rows_ND)

    @property
    def dim(self) -> int:
        return self.rows_ND.shape[1]

    def blocks(self, checkpoint: int) -> Iterator[tuple[int, Floats]]:
        assert checkpoint == 1
        self.passes += 1
        for start in range(0, len(self), self.step):
            yield start, self.rows_ND[start : start + self.step]


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 20), d=st.integers(1, 8), seed=st.integers(0, 999))
def test_the_second_moment_is_that_of_the_rows(n: int, d: int, seed: int) -> None:
    rows_ND = random_unit(n, d, seed)
    moment_DD = second_moment(Rows(rows_ND), 1)
    assert moment_DD.dtype == np.float64
    np.testing.assert_allclose(moment_DD, rows_ND.astype(np.float64).T @ rows_ND / n, atol=1e-6)
    assert np.trace(moment_DD) == pytest.approx(1, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    q=st.integers(1, 4), n=st.integers(1, 20), d=st.integers(1, 8), seed=st.integers(0, 999),
    damping=st.sampled_from([1e-3, 0.1, 1.0, 10.0]),
)  # fmt: skip
def test_equals_the_inverse(q: int, n: int, d: int, seed: int, damping: float) -> None:
    rows_ND, query_QD = random_unit(n, d, seed).astype(np.float64), random_unit(q, d, seed + 1)
    moment_DD = rows_ND.T @ rows_ND / n
    damped_DD = moment_DD + damping * np.mean(np.linalg.eigvalsh(moment_DD)) * np.eye(d)
    want_QD = unit((np.linalg.inv(damped_DD) @ query_QD.T).T)
    found_QD = whiten(query_QD, moment_DD.copy(), damping)
    assert (found_QD.dtype, found_QD.shape) == (np.float32, (q, d))
    np.testing.assert_allclose(found_QD, want_QD, atol=1e-4)


def test_what_all_share_counts_for_little() -> None:
    """All rows point along the first axis, a few also along the second: a query between the two leans on the latter."""
    rows_ND = unit(np.array([[1, 0.1 * (i % 5 == 0), 0] for i in range(50)]))
    query_1D = unit(np.array([[1.0, 1.0, 0.0]]))
    found_D = whiten(query_1D, second_moment(Rows(rows_ND), 1), 0.1)[0]
    assert found_D[1] > 0.99
    assert found_D[2] == pytest.approx(0, abs=1e-6)


def test_much_damping_leaves_queries_as_they_are() -> None:
    rows_ND, query_QD = random_unit(30, 6, 0), random_unit(3, 6, 1)
    for damping, tolerance in ((1e2, 0.1), (1e5, 1e-4)):
        np.testing.assert_allclose(whiten(query_QD, second_moment(Rows(rows_ND), 1), damping), query_QD, atol=tolerance)
    little_QD = whiten(query_QD, second_moment(Rows(rows_ND), 1), 1e-3)
    assert np.abs(little_QD - query_QD).max() > 0.1


@pytest.mark.parametrize("damping", [1e-3, 1.0, 10.0])
def test_a_pool_without_directions_of_its_own_changes_nothing(damping: float) -> None:
    """Its covariance is a multiple of the identity."""
    rows_ND = np.concatenate([np.eye(5), -np.eye(5)]).astype(np.float32)
    query_QD = random_unit(4, 5, 3)
    np.testing.assert_allclose(whiten(query_QD, second_moment(Rows(rows_ND), 1), damping), query_QD, atol=1e-6)


def test_zero_rows_stay_zero_and_tiny_dampings_stay_finite() -> None:
    rows_ND = np.array([[1, 0, 0]] * 4, np.float32)  # the covariance has rank 1
    query_QD = np.array([[0, 0, 0], [0, 0, 1], [1, 0, 1]], np.float32)
    found_QD = whiten(query_QD, second_moment(Rows(rows_ND), 1), 1e-12)
    assert not found_QD[0].any()
    np.testing.assert_allclose(found_QD[1], [0, 0, 1], atol=1e-6)
    assert np.linalg.norm(found_QD[2]) == pytest.approx(1, abs=1e-6)


def test_what_was_kept_is_read_and_not_computed_again(tmp_path: Path) -> None:
    store = Rows(random_unit(10, 4, 0))
    path = tmp_path / "second-moment.npy"
    first_DD = cached_second_moment(store, 1, path)
    np.testing.assert_array_equal(cached_second_moment(store, 1, path), first_DD)
    assert store.passes == 1
    assert [each.name for each in tmp_path.iterdir()] == ["second-moment.npy"]
    whiten(random_unit(2, 4, 1), first_DD, 1.0)  # which overwrites what it is given
    np.testing.assert_array_equal(cached_second_moment(store, 1, path), second_moment(store, 1))


def test_one_that_was_not_finished_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, path = Rows(random_unit(10, 4, 0)), tmp_path / "second-moment.npy"

    def killed(_: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as stopped:
        stopped.setattr("os.fsync", killed)
        with pytest.raises(KeyboardInterrupt):
            cached_second_moment(store, 1, path)
    assert not path.exists()
    np.testing.assert_array_equal(cached_second_moment(store, 1, path), second_moment(store, 1))


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    rows = Rows(random_unit(30, 6, 0))
    with monkeypatch.context() as full:
        full.setattr("os.fsync", no_space)
        with pytest.raises(StoreError, match=r"moment\.npy: No space left"):
            cached_second_moment(rows, 1, tmp_path / "moment.npy")
    assert list(tmp_path.iterdir()) == []
    np.testing.assert_array_equal(cached_second_moment(rows, 1, tmp_path / "moment.npy"), second_moment(rows, 1))
