"""Constraints against the plainest walk down an order, and targets that take turns."""

import math
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from handpick.algorithms import Picks
from handpick.constraints import Examples, PassedOver, Pick, Walk, combine_picks, parse_limit
from handpick.constraints import order as order_module
from handpick.constraints.limits import Limit
from handpick.constraints.targets import check_weights, take_turns
from handpick.errors import SettingsError


class Kept(NamedTuple):
    picks: Picks
    passed: PassedOver


Order = Callable[[int], Picks]


def keep_within(order: Order | dict[str, Order], budget: int, n: int, **constraints: Any) -> Kept:
    """All of a walk, and what it passed over."""
    walk = Walk(order, n, budget, **constraints)
    return Kept(combine_picks(walk), walk.passed)


def order_of(columns: list[int]) -> Callable[[int], Picks]:
    """An algorithm that gives these; scores fall from 1, and the column's last digit is its query."""

    def order(count: int) -> Picks:
        assert 1 <= count <= len(columns)
        head = np.array(columns[:count], dtype=np.int64)
        return Picks(head, np.linspace(1, 0, len(columns))[:count].astype(np.float32), head % 10)

    return order


def in_order(n: int) -> Callable[[int], Picks]:
    return order_of(list(range(n)))


def features_of(features_NE: NDArray[np.float32]) -> Callable[[NDArray[np.int64]], NDArray[np.float32]]:
    return lambda columns_C: features_NE[columns_C]


def by_loops(
    columns: dict[str, list[int]],
    weights: dict[str, float],
    budget: int,
    sources: list[str],
    largest: dict[str, int],
    smallest: dict[str, int],
    always: list[int],
    features_NE: NDArray[np.float32],
    max_cosine: float,
) -> tuple[list[int], list[tuple[int, str]]]:
    """What is accepted, and what is passed over with the reason."""

    def cosine(a: int, b: int) -> float:
        norms = np.linalg.norm(features_NE[a]) * np.linalg.norm(features_NE[b])
        return min(1.0, float(features_NE[a] @ features_NE[b] / norms)) if norms else 0.0

    def reason(column: int) -> str | None:
        has = Counter(sources[each] for each in accepted)
        own = sources[column]
        owed = sum(max(0, count - has[source]) for source, count in smallest.items() if source != own)
        if has[own] >= largest[own]:
            return "full"
        if budget - len(accepted) - 1 < owed:
            return "no room"
        return "near" if any(cosine(column, each) > max_cosine for each in accepted) else None

    accepted, passed = list(always), []
    settled = set(always)
    for target in take_turns(check_weights(columns, weights)):
        if len(accepted) == budget or len(settled) == len(sources):
            break
        for column in columns[target]:
            if column in settled:
                continue
            settled.add(column)
            if (why := reason(column)) is None:
                accepted.append(column)
                break
            passed.append((column, why))
    return accepted, passed


def limits(least: int, most: int) -> st.SearchStrategy[Limit]:
    """Tenths of the budget, or examples."""
    return st.integers(least, most).map(lambda tenths: tenths / 10) | st.integers(0, most).map(Examples)


@st.composite
def walks(draw: st.DrawFn) -> dict[str, Any]:
    n = draw(st.integers(4, 30))
    budget = draw(st.one_of(st.integers(2, n // 2), st.integers(1, n)))
    targets = "xyz"[: draw(st.integers(1, 3))]
    return {
        "columns": {target: draw(st.permutations(range(n))) for target in targets},
        "weights": {target: draw(st.sampled_from([1.0, 2.0, 0.3])) for target in targets},
        "budget": budget,
        "sources": draw(st.lists(st.sampled_from("abccc"), min_size=n, max_size=n)),
        "max_share": {name: draw(limits(3, 10)) for name in draw(st.sets(st.sampled_from("bc*")))},
        "min_share": {name: draw(limits(0, 5)) for name in draw(st.sets(st.sampled_from("ab*")))},
        "always": draw(st.lists(st.integers(0, n - 1), unique=True, max_size=min(budget, 3))),
        # angles of whole tenths of a turn: no cosine is at the edge of 0.9
        "angles": draw(st.lists(st.integers(0, 9), min_size=n, max_size=n)),
        "max_cosine": draw(st.sampled_from([0.9, 0.5, 1.0])),
    }


@settings(max_examples=250, deadline=None)
@given(walk=walks(), block=st.sampled_from([1, 3, 256]))
def test_equals_the_plain_walk(walk: dict[str, Any], block: int) -> None:
    n, budget, sources = len(walk["sources"]), walk["budget"], walk["sources"]
    angles = 2 * np.pi * np.array(walk["angles"]) / 10
    features_NE = 3 * np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(order_module, "BLOCK", block)
        try:
            kept = keep_within(
                {target: order_of(own) for target, own in walk["columns"].items()}, budget, n,
                weights=walk["weights"], sources_N=sources, max_share=walk["max_share"],
                min_share={name: share for name, share in walk["min_share"].items() if name in (*sources, "*")},
                always=walk["always"], candidates=features_of(features_NE), max_cosine=walk["max_cosine"],
            )  # fmt: skip
        except SettingsError:
            kept = None
    present = set(sources)
    shares = [(walk["max_share"], 1), (walk["min_share"], 0)]
    highest, lowest = (
        {name: table.get(name, table.get("*", otherwise)) for name in present} for table, otherwise in shares
    )

    def count(limit: Limit, *, up: bool) -> int:
        if isinstance(limit, Examples):
            return limit.count
        return -(-round(10 * limit) * budget // 10) if up else round(10 * limit) * budget // 10

    largest = {name: count(limit, up=True) for name, limit in highest.items()}
    smallest = {name: count(limit, up=False) for name, limit in lowest.items()}
    is_share = {name: not {type(highest[name]), type(lowest[name])} & {Examples} for name in present}
    accepted, passed = by_loops(
        walk["columns"], walk["weights"], budget, sources, largest, smallest, walk["always"], features_NE,
        walk["max_cosine"],
    )  # fmt: skip
    has = Counter(sources[column] for column in accepted)
    possible = (
        len(accepted) == budget
        and all(has[name] <= largest[name] and has[name] >= smallest[name] for name in present)
        and all(lowest[name] <= highest[name] for name in present if is_share[name])
        and sum(round(10 * limit) for limit in lowest.values() if not isinstance(limit, Examples)) <= 10
        and not set(walk["max_share"]) - present - {"*"}
    )
    assert (kept is not None) == possible
    if kept is None:
        return
    assert kept.picks.columns.tolist() == accepted
    for reason, counts in (("full", kept.passed.full), ("no room", kept.passed.no_room)):
        assert counts == Counter(sources[column] for column, why in passed if why == reason)
    assert [near.column for near in kept.passed.near_duplicates] == [c for c, why in passed if why == "near"]
    for near in kept.passed.near_duplicates:
        turned = np.cos(angles[near.column] - angles[near.kept])
        assert near.cosine == pytest.approx(turned, abs=1e-6)
        assert near.cosine > walk["max_cosine"]
        assert near.kept in accepted
        for own in walk["columns"].values() if len(walk["columns"]) == 1 else ():
            assert near.kept in walk["always"] + own[: own.index(near.column)]


def test_without_constraints_the_order_is_kept_as_it_is() -> None:
    picks = order_of([4, 2, 0, 1, 3])(3)
    kept = keep_within(order_of([4, 2, 0, 1, 3]), 3, 5)
    assert kept.picks.columns.tolist() == [4, 2, 0]
    assert kept.picks.scores.tolist() == picks.scores.tolist()
    assert kept.picks.queries.tolist() == picks.queries.tolist()
    assert (kept.picks.columns.dtype, kept.picks.scores.dtype, kept.picks.queries.dtype) == (
        np.int64, np.float32, np.int64,
    )  # fmt: skip
    assert str(kept.passed) == "none"


def test_what_is_always_kept_comes_first_without_a_score_or_a_query() -> None:
    kept = keep_within(in_order(10), 4, 10, always=[7, 1])
    assert kept.picks.columns.tolist() == [7, 1, 0, 2]
    assert kept.picks.scores[:2].tolist() == [0, 0]
    assert kept.picks.queries.tolist() == [-1, -1, 0, 2]


def test_a_star_is_each_source_that_is_not_named() -> None:
    sources = ["a"] * 10 + ["b"] * 10 + ["c"] * 10
    kept = keep_within(in_order(30), 10, 30, sources_N=sources, max_share={"a": 0.2, "*": 0.4})
    assert Counter(sources[column] for column in kept.picks.columns) == {"a": 2, "b": 4, "c": 4}
    assert kept.passed.full == {"a": 8, "b": 6}
    assert str(kept.passed) == "14 of sources that have their largest share"


def test_a_number_of_examples_is_no_share() -> None:
    sources = ["a"] * 10 + ["b"] * 10 + ["c"] * 10
    kept = keep_within(
        in_order(30), 10, 30, sources_N=sources, max_share={"a": Examples(3), "*": 0.5}, min_share={"c": Examples(3)}
    )
    assert Counter(sources[column] for column in kept.picks.columns) == {"a": 3, "b": 4, "c": 3}


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (0.3, 0.3), ("0.3", 0.3), ("30%", 0.3), (" 12.5 % ", 0.125), (1.0, 1.0), ("1.0", 1.0), ("100%", 1.0),
        (0, 0.0), ("0", 0.0), (3, Examples(3)), ("3", Examples(3)), ("3 examples", Examples(3)),
        ("1 example", Examples(1)), ("1e-1", 0.1),
    ],
)  # fmt: skip
def test_a_limit_is_a_share_or_a_number(given: object, read: Limit) -> None:
    assert parse_limit(given) == read
    assert type(parse_limit(given)) is type(read)
    written = str(read) if isinstance(read, Examples) else read  # as settings are
    assert parse_limit(written) == read


@pytest.mark.parametrize("given", [1, "1", "01", True, 1.5, 3.0, "3.0", "130%", -1, "-0.5", "much", "nan", None, [3]])
def test_what_may_be_either_or_is_neither_is_refused(given: object) -> None:
    with pytest.raises(ValueError, match=r"write '1 example', or 100%" if str(given) in ("1", "01") else "a share"):
        parse_limit(given)


def test_a_smallest_share_is_met_at_the_end_of_the_order() -> None:
    sources = ["common"] * 95 + ["rare"] * 5
    kept = keep_within(in_order(100), 10, 100, sources_N=sources, min_share={"rare": 0.3})
    assert kept.picks.columns.tolist() == [0, 1, 2, 3, 4, 5, 6, 95, 96, 97]
    assert kept.passed.no_room == {"common": 88}


def test_thirds_of_ten_fit() -> None:
    """Largest shares are rounded up and smallest ones down: what adds up to 1 can be met."""
    sources = ["a", "b", "c"] * 10
    thirds = dict.fromkeys("abc", 0.3333) | {"c": 0.3334}
    kept = keep_within(in_order(30), 10, 30, sources_N=sources, min_share=thirds, max_share=thirds)
    assert sorted(Counter(sources[column] for column in kept.picks.columns).values()) == [3, 3, 4]


def test_a_share_is_the_fraction_that_was_written() -> None:
    """0.29 * 100 is 28.999… in floats."""
    kept = keep_within(in_order(200), 100, 200, sources_N=["a"] * 100 + ["b"] * 100, min_share={"b": 0.29})
    assert (kept.picks.columns >= 100).sum() == 29
    kept = keep_within(in_order(200), 100, 200, sources_N=["a"] * 100 + ["b"] * 100, max_share={"a": 0.07})
    assert (kept.picks.columns < 100).sum() == 7  # 0.07 * 100 is 7.000…1


def test_examples_without_a_source_are_of_one_of_their_own() -> None:
    sources = [None, None, "a", "a"]
    kept = keep_within(in_order(4), 2, 4, sources_N=sources, max_share={"*": 0.5})
    assert kept.picks.columns.tolist() == [0, 2]
    assert kept.passed.full == {None: 1}


def test_near_duplicates_are_named_with_the_one_that_was_kept() -> None:
    features_NE = np.array([[1, 0], [0, 2], [3, 0.01], [0, 0], [0, 0], [-1, 0]], dtype=np.float32)
    kept = keep_within(in_order(6), 5, 6, candidates=features_of(features_NE), max_cosine=0.95)
    assert kept.picks.columns.tolist() == [0, 1, 3, 4, 5]  # two zero rows are not alike
    [near] = kept.passed.near_duplicates
    assert (near.column, near.kept) == (2, 0)
    assert near.cosine == pytest.approx(1 / math.hypot(1, 0.01 / 3))
    everything = keep_within(in_order(6), 6, 6, candidates=features_of(features_NE), max_cosine=1.0)
    assert everything.picks.columns.tolist() == list(range(6))


def test_the_same_example_again_and_again_is_found_across_blocks() -> None:
    features_NE = np.random.default_rng(0).standard_normal((50, 8)).astype(np.float32)
    repeated_NE = np.tile(features_NE, (20, 1))
    kept = keep_within(in_order(1000), 50, 1000, candidates=features_of(repeated_NE), max_cosine=0.999)
    assert kept.picks.columns.tolist() == list(range(50))
    with pytest.raises(SettingsError, match=r"only 50 of 51 .* 950 near-duplicates; lower the budget to 50"):
        keep_within(in_order(1000), 51, 1000, candidates=features_of(repeated_NE), max_cosine=0.999)


def test_two_that_are_always_kept_may_be_alike() -> None:
    features_NE = np.ones((4, 3), dtype=np.float32)
    features_NE[3] = [1, -1, 0]
    kept = keep_within(in_order(4), 3, 4, always=[2, 1], candidates=features_of(features_NE), max_cosine=0.9)
    assert kept.picks.columns.tolist() == [2, 1, 3]


def test_only_columns_that_may_be_accepted_have_their_features_read() -> None:
    read: list[int] = []

    def candidates(columns_C: NDArray[np.int64]) -> NDArray[np.float32]:
        read.extend(columns_C.tolist())
        return np.eye(2000, dtype=np.float32)[columns_C]

    sources = ["a"] * 1000 + ["b"] * 1000
    kept = keep_within(
        in_order(2000), 100, 2000, sources_N=sources, max_share={"a": 0.5}, candidates=candidates, max_cosine=0.9
    )
    assert kept.picks.columns.tolist() == [*range(50), *range(1000, 1050)]
    assert len(read) == len(set(read)) < 800


def test_without_shares_a_smaller_budget_is_the_head_of_a_larger_one() -> None:
    generator = np.random.default_rng(1)
    features_NE = generator.standard_normal((1500, 4)).astype(np.float32)
    columns = generator.permutation(1500).tolist()
    budgets = (1, 20, 60, 255)

    def chosen(budget: int) -> list[int]:
        found = keep_within(
            order_of(columns), budget, 1500, always=[3], candidates=features_of(features_NE), max_cosine=0.99
        )
        return found.picks.columns.tolist()

    longest = chosen(budgets[-1])
    for budget in budgets:
        assert chosen(budget) == longest[:budget]


def test_a_walk_without_a_budget_can_be_stopped_at_any_time_and_asks_for_no_more_than_it_needs() -> None:
    asked: list[int] = []

    def order(count: int) -> Picks:
        asked.append(count)
        return in_order(9000)(count)

    walk = Walk(order, 9000, always=[5])
    assert [pick.column for pick in islice(walk, 4)] == [5, 0, 1, 2]
    assert asked == [1024]
    assert [pick.column for pick in Walk(order, 9000)] == list(range(9000))
    assert asked[1:] == [1024, 2048, 4096, 8192, 9000]
    assert next(iter(Walk(in_order(12), 12))) == Pick(0, 1.0, 0)


@pytest.mark.parametrize(
    ("constraint", "message"),
    [
        ({"max_share": {"d": 0.5}}, r"no example has the source 'd'; the pool has a, b, c"),
        ({"max_share": {"a": 1.5}}, r"share of 'a' is 1.5; give a fraction"),
        ({"min_share": {"a": float("nan")}}, r"share of 'a' is nan; give a fraction"),
        ({"min_share": {"a": 0.6, "b": 0.5}}, r"add up to 1.1; they must not exceed 1"),
        ({"min_share": {"*": 0.4}}, r"add up to 1.2"),
        ({"min_share": {"c": 0.5}}, r"smallest share of 'c' is 5 examples and the pool has 2"),
        ({"min_share": {"a": 0.5}, "max_share": {"*": 0.4}}, r"smallest share of 'a' is 0.5 and its largest 0.4"),
        ({"min_share": {"a": Examples(3)}, "max_share": {"*": 0.2}}, r"of 'a' is 3 examples and its largest 0.2"),
        ({"min_share": {"a": Examples(6), "b": 0.5}}, r"add up to 11 examples and the budget is 10; raise it"),
        ({"max_share": {"*": Examples(2)}}, r"largest shares leave 6 examples and the budget is 10"),
        ({"max_share": {"*": 0.3}}, r"largest shares leave 8 examples and the budget is 10"),
        ({"max_share": {"a": 0.1}, "always": [0, 1]}, r"2 examples of the source 'a' are always .* share is 1"),
        ({"min_share": {"b": 0.9}, "always": [0, 1]}, r"2 examples are always .* 9 more, beyond the budget of 10"),
        ({"sources_N": None, "max_share": {"a": 0.5}}, r"the pool names no sources"),
        ({"budget": None, "max_share": {"a": 0.5}}, r"shares of sources are of a budget in examples"),
        ({"always": [4, 4]}, r"example 4 is named twice"),
        ({"always": [40]}, r"example 40 is always to be kept and there are 22"),
        ({"budget": 1, "always": [1, 2]}, r"budget is 1, there are 22 examples, and 2 of them are always"),
        ({"budget": 23}, r"give a budget from 1 to 22"),
        ({"max_cosine": 0.9}, r"near-duplicates are told by features"),
        ({"max_cosine": 1.1, "candidates": lambda columns: columns}, r"largest cosine is 1.1"),
    ],
)
def test_what_cannot_be_met_is_said_before_anything_is_ranked(constraint: dict[str, Any], message: str) -> None:
    def never(count: int) -> Picks:
        raise AssertionError("the order was asked for")

    given_: dict[str, Any] = {"budget": 10, "sources_N": ["a"] * 10 + ["b"] * 10 + ["c"] * 2} | constraint
    with pytest.raises(SettingsError, match=message):
        Walk(never, 22, given_.pop("budget"), **given_)


def test_a_smallest_share_that_near_duplicates_prevent_is_named() -> None:
    features_NE = np.eye(6, dtype=np.float32)
    features_NE[4:] = features_NE[4]
    features_NE[5] = features_NE[4]
    sources = ["a"] * 4 + ["b"] * 2
    with pytest.raises(SettingsError, match=r"only 3 of 4 .* 1 near-duplicates; 'b' has 1 of at least 2"):
        keep_within(
            in_order(6), 4, 6, sources_N=sources, min_share={"b": 0.5}, candidates=features_of(features_NE),
            max_cosine=0.9,
        )  # fmt: skip


@st.composite
def targets(draw: st.DrawFn) -> tuple[dict[str, list[int]], dict[str, float]]:
    n = draw(st.integers(1, 40))
    names = draw(st.lists(st.sampled_from("abcde"), min_size=1, unique=True))
    weight = st.one_of(st.integers(1, 9).map(float), st.sampled_from([0.1, 0.7, 1e-3]))
    return {name: draw(st.permutations(range(n))) for name in names}, {name: draw(weight) for name in names}


@settings(max_examples=120, deadline=None)
@given(case=targets())
def test_after_any_number_of_turns_each_target_has_had_its_share(
    case: tuple[dict[str, list[int]], dict[str, float]],
) -> None:
    columns, weights = case
    n = len(next(iter(columns.values())))
    turns = list(islice(take_turns(check_weights(columns, weights)), n))
    whole = sum(Fraction(str(weight)) for weight in weights.values())
    for count in range(1, n + 1):
        had = Counter(turns[:count])
        for name, weight in weights.items():
            share = count * Fraction(str(weight)) / whole
            assert math.floor(share) <= had[name] <= math.ceil(share)
    taken: set[int] = set()
    picks = list(Walk({name: order_of(own) for name, own in columns.items()}, n, weights=weights))
    for target, pick in zip(turns, picks, strict=True):
        assert pick.column == next(column for column in columns[target] if column not in taken)
        taken.add(pick.column)
    assert sorted(taken) == list(range(n))


def test_equal_targets_alternate_and_carry_their_own_scores() -> None:
    picks = list(Walk({"x": order_of([3, 1, 0, 2]), "y": order_of([3, 2, 1, 0])}, 4))
    assert [pick.column for pick in picks] == [3, 2, 1, 0]
    assert [pick.score for pick in picks] == pytest.approx([1, 2 / 3, 2 / 3, 0])
    assert [pick.query for pick in picks] == [3, 2, 1, 0]


def test_a_turn_whose_candidates_are_passed_over_is_not_lost() -> None:
    of_x, of_y = list(range(20)), list(range(20, 40))  # x wants the first twenty first, y the others
    orders = {"x": order_of(of_x + of_y), "y": order_of(of_y + of_x)}
    sources = ["a"] * 10 + ["b"] * 10 + ["c"] * 20
    kept = keep_within(orders, 12, 40, weights={"x": 2, "y": 1}, sources_N=sources, max_share={"a": 0.25})
    assert sum(column < 20 for column in kept.picks.columns) == 8
    assert [column for column in kept.picks.columns.tolist() if column < 20] == [0, 1, 2, 10, 11, 12, 13, 14]
    assert kept.passed.full == {"a": 7}


def test_an_order_is_first_asked_for_its_share_of_what_is_expected() -> None:
    asked: list[int] = []

    def order(count: int) -> Picks:
        asked.append(count)
        return in_order(5000)(count)

    orders = {"x": order, "y": order_of(list(range(5000))[::-1])}
    picks = list(Walk(orders, 5000, 2000, weights={"x": 3, "y": 1}))
    assert sum(pick.column < 2500 for pick in picks) == 1500
    assert asked == [1536]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"x": 1}, "targets x, y and weights for x; give every target one weight"),
        ({"x": 1, "y": 0}, "weight of the target 'y' is 0"),
        ({"x": 1, "y": float("inf")}, "weight of the target 'y' is inf"),
    ],
)
def test_weights_that_make_no_shares_are_refused_at_once(weights: dict[str, float], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Walk({"x": in_order(2), "y": in_order(2)}, 2, weights=weights)
    with pytest.raises(SettingsError, match="targets none"):
        Walk({}, 2)
