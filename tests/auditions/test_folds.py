"""Queries cut in two: nothing stands on both sides, and the sides are of a size."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handpick.auditions.folds import LEAST, group_queries, split_queries
from handpick.errors import DataError

QUERIES = st.lists(
    st.tuples(st.integers(0, 30), st.sampled_from(["a", "b", None])), min_size=LEAST, max_size=60
).filter(lambda found: len({group for group, _ in found}) >= LEAST)


@given(QUERIES, st.integers(1, 3), st.integers(0, 5))
def test_a_group_is_on_one_side_and_sides_are_of_a_size(
    queries: list[tuple[int, str | None]], repeats: int, seed: int
) -> None:
    group_Q = np.array([group for group, _ in queries])
    side_RQ = split_queries(group_Q, [subtask for _, subtask in queries], repeats, seed)
    assert side_RQ.shape == (repeats, len(queries))
    largest = np.bincount(group_Q).max()
    for side_Q in side_RQ:
        assert all(len(set(side_Q[group_Q == group])) == 1 for group in set(group_Q.tolist()))
        n = np.bincount(side_Q, minlength=2)
        assert n.min() > 0
        assert abs(n[0] - n[1]) <= 3 * largest  # a subtask may leave one group over


def test_subtasks_are_on_both_sides() -> None:
    subtasks = [name for name in "abcd" for _ in range(6)]
    (side_Q,) = split_queries(np.arange(24), subtasks, 1, 0)
    for name in "abcd":
        own = [side for side, subtask in zip(side_Q.tolist(), subtasks, strict=True) if subtask == name]
        assert sum(own) == 3


def test_a_repeat_is_another_cut_and_the_same_every_time() -> None:
    first = split_queries(np.arange(40), [None] * 40, 3, 7)
    assert len({tuple(side_Q) for side_Q in first.tolist()}) == 3
    assert (split_queries(np.arange(40), [None] * 40, 3, 7) == first).all()
    # more repeats leave those before them as they are, so that their steps are found again
    assert (split_queries(np.arange(40), [None] * 40, 2, 7) == first[:2]).all()


def test_queries_with_the_same_words_are_one_group() -> None:
    asked = ["What is 2 + 2?", "what is  2+2", "What is 2 + 3?", "?!", "?!", "!?"]
    assert group_queries(asked).tolist() == [0, 0, 1, 2, 2, 3]


def test_too_few_different_queries_are_refused() -> None:
    with pytest.raises(DataError, match="there are 7 different ones: give 8 at least"):
        split_queries(np.arange(14) // 2, [None] * 14, 1, 0)


def test_queries_of_one_example_or_of_the_same_words_are_one_group() -> None:
    prompts = ["How many?", "Wie viele?", "how  many", "Combien?", "Where?", "Why?", "Who?"]
    examples = ["1", "1", "2", "2", None, None, "3"]
    assert group_queries(prompts, examples).tolist() == [0, 0, 0, 0, 1, 2, 3]
    assert group_queries(prompts).tolist() == [0, 1, 0, 2, 3, 4, 5]
