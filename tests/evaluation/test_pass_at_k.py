"""pass@k against counting every set of k answers."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from handpick.evaluation.pass_at_k import pass_at_k


@given(st.lists(st.booleans(), min_size=1, max_size=9), st.data())
def test_it_is_the_share_of_sets_that_hold_one_that_passes(passes: list[bool], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(passes)))
    sets = list(combinations(passes, k))
    assert pass_at_k(len(passes), sum(passes), k) == pytest.approx(sum(map(any, sets)) / len(sets))


def test_it_is_unbiased() -> None:
    """Over all that 8 draws can be, its mean is the truth, 1 − (1 − p)^k; that of the plug-in estimate is not."""
    n, k, p = 8, 3, 0.3
    weight_9 = binom.pmf(range(n + 1), n, p)
    truth = 1 - (1 - p) ** k
    assert weight_9 @ [pass_at_k(n, c, k) for c in range(n + 1)] == pytest.approx(truth)
    assert abs(weight_9 @ [1 - (1 - c / n) ** k for c in range(n + 1)] - truth) > 0.02


@pytest.mark.parametrize(("n", "passed", "k"), [(3, 4, 1), (3, -1, 1), (3, 1, 4), (3, 1, 0)])
def test_what_makes_no_sense_is_refused(n: int, passed: int, k: int) -> None:
    with pytest.raises(ValueError, match=rf"^pass@{k} of {n} answers of which {passed} pass$"):
        pass_at_k(n, passed, k)
