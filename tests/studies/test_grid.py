"""Which cells a study has, and in which order."""

from hypothesis import given
from hypothesis import strategies as st

from handpick.studies.grid import quantile_of
from handpick.studies.run import Study
from tests.studies.conftest import Ask


def test_the_grid_has_every_cell_once_and_those_that_decide_first(ask: Ask) -> None:
    places = Study(ask(baselines=["full", "zero-shot", "random"], draws=3)).opened.places
    assert len(set(places)) == len(places) == 2 * (1 + 2 * (2 + 3) + 1)  # targets × (zero-shot, budgets × …, full)
    assert [place.method for place in places[:2]] == ["zero-shot"] * 2
    assert [place.method for place in places[-2:]] == ["full"] * 2
    order = [(place.budget, place.seed) for place in places if place.budget is not None]
    assert order == sorted(order)


def test_quantiles_are_of_one_method_a_representation(ask: Ask) -> None:
    methods = {"less": {}, "less-rr": {}, "gradient-rr": {}, "bm25": {}, "longest": {}}
    study = Study(ask(methods=methods, quantiles={"bins": 3, "each": 2}))
    cells = [place for place in study.opened.places if place.quantile is not None]
    assert list(dict.fromkeys(place.method for place in cells)) == ["less", "gradient-rr", "bm25"]
    assert {(place.budget, place.quantile) for place in cells} == {(2, 0), (2, 1), (2, 2)}


@given(st.integers(1, 60), st.integers(2, 12), st.integers(1, 70))
def test_quantiles_cut_the_order_without_gap_or_overlap(n: int, bins: int, each: int) -> None:
    ids = [str(i) for i in range(n)]
    whole = [quantile_of(ids, bins, quantile, n) for quantile in range(bins)]
    assert [each for own in whole for each in own] == ids
    assert max(map(len, whole)) - min(map(len, whole)) <= 1
    for quantile, own in enumerate(whole):
        assert quantile_of(ids, bins, quantile, each) == own[:each]
