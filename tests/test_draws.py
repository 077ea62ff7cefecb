"""Draws of one seed for several purposes have nothing to do with each other."""

import numpy as np

from handpick.algorithms import rank
from handpick.random_streams import generator
from handpick.training.settings import WarmupSettings
from handpick.training.warmup import warmup_rows


def test_a_purpose_and_a_seed_make_one_stream() -> None:
    first = generator(3, "a").permutation(100)
    np.testing.assert_array_equal(first, generator(3, "a").permutation(100))
    assert (first != generator(3, "b").permutation(100)).any()
    assert (first != generator(4, "a").permutation(100)).any()


def test_a_random_subset_is_not_what_the_warmup_was_trained_on() -> None:
    of_warmup = set(warmup_rows(5000, WarmupSettings(), seed=0))
    chosen = rank(np.zeros((1, 5000), np.float32), 500, "random", seed=0)
    shared = len(of_warmup & set(chosen.tolist())) / 500
    assert abs(shared - len(of_warmup) / 5000) < 0.06  # as two draws that do not know of each other
