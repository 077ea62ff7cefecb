"""A part of a similarity reads as NumPy's own indexing of the whole."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from handpick.algorithms import ALGORITHMS, rank
from handpick.algorithms.matrix import Matrix
from handpick.algorithms.view import SimilarityView

Floats = NDArray[np.float32]


class Blocks:
    """A matrix in blocks of given widths, the last one repeated."""

    def __init__(self, whole_QN: Floats, widths: list[int]) -> None:
        self.whole_QN = whole_QN
        self.widths = widths

    @property
    def shape(self) -> tuple[int, int]:
        return self.whole_QN.shape[0], self.whole_QN.shape[1]

    def blocks(self) -> Iterator[tuple[int, Floats]]:
        start = number = 0
        while start < self.shape[1]:
            width = self.widths[min(number, len(self.widths) - 1)]
            yield start, self.whole_QN[:, start : start + width]
            start, number = start + width, number + 1

    def columns(self, columns_C: NDArray[np.int64]) -> Floats:
        return self.whole_QN[:, columns_C]


def similarity(q: int, n: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).normal(size=(q, n)).astype(np.float32)


def read(part: SimilarityView) -> Floats:
    """One pass, put together; every block stands where it says."""
    blocks = list(part.blocks())
    starts = np.cumsum([0, *(block.shape[1] for _, block in blocks)])
    assert [start for start, _ in blocks] == starts[:-1].tolist()
    return np.concatenate([block for _, block in blocks], axis=1)


@st.composite
def parts(draw: st.DrawFn) -> tuple[Floats, list[int], list[int] | None, list[int] | None]:
    q, n = draw(st.integers(1, 5)), draw(st.integers(1, 12))
    queries = draw(st.none() | st.lists(st.integers(0, q - 1), min_size=1, unique=True))
    columns = draw(st.none() | st.sets(st.integers(0, n - 1), min_size=1).map(sorted))
    widths = draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    return similarity(q, n), widths, queries, columns


@settings(max_examples=150, deadline=None)
@given(parts(), st.data())
def test_reads_as_an_array_does(
    drawn: tuple[Floats, list[int], list[int] | None, list[int] | None], data: st.DataObject
) -> None:
    whole_QN, widths, queries, columns = drawn
    part = SimilarityView(
        Blocks(whole_QN, widths),
        None if queries is None else np.array(queries),
        None if columns is None else np.array(columns),
    )
    want_QN = whole_QN[queries if queries is not None else slice(None)]
    want_QN = want_QN[:, columns if columns is not None else slice(None)]
    assert part.shape == want_QN.shape
    np.testing.assert_array_equal(read(part), want_QN)
    np.testing.assert_array_equal(read(part), want_QN)  # a second pass is the same
    asked = data.draw(st.lists(st.integers(0, part.shape[1] - 1), max_size=6))
    np.testing.assert_array_equal(part.columns(np.array(asked, dtype=np.int64)), want_QN[:, asked])


@settings(max_examples=60, deadline=None)
@given(parts())
def test_a_part_of_a_part(drawn: tuple[Floats, list[int], list[int] | None, list[int] | None]) -> None:
    whole_QN, widths, queries, columns = drawn
    rows, kept = queries or [0], columns or list(range(whole_QN.shape[1]))
    inner = SimilarityView(Blocks(whole_QN, widths), columns_N=np.array(kept))
    outer = SimilarityView(inner, np.array(rows), np.arange(len(kept))[::2])
    np.testing.assert_array_equal(read(outer), whole_QN[rows][:, kept[::2]])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_chooses_from_a_part_as_from_its_array(algorithm: str) -> None:
    features_NE = similarity(40, 6, seed=1)
    features_NE /= np.linalg.norm(features_NE, axis=1, keepdims=True)
    whole_QN = (features_NE[:5] @ features_NE.T).astype(np.float32)
    queries, columns = np.array([3, 0, 4]), np.setdiff1d(np.arange(40), [0, 7, 8, 20, 39])
    part = SimilarityView(Matrix(whole_QN), queries, columns)

    def candidates(columns_C: NDArray[np.int64]) -> Floats:
        return features_NE[columns[columns_C]]

    array_QN = np.ascontiguousarray(whole_QN[np.ix_(queries, columns)])
    want = rank(array_QN, 20, algorithm, subtasks=["a", "b", "a"], candidates=candidates)
    np.testing.assert_array_equal(rank(part, 20, algorithm, subtasks=["a", "b", "a"], candidates=candidates), want)
