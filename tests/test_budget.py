"""Budgets: what is read, what is refused, how many examples it makes."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handpick.budget import Budget, longest_prefix
from handpick.errors import SettingsError


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        (1000, Budget("examples", 1000)),
        ("1000", Budget("examples", 1000)),
        ("10k", Budget("examples", 10_000)),
        ("5%", Budget("percent", 5)),
        (" 0.5 % ", Budget("percent", 0.5)),
        ("100%", Budget("percent", 100)),
        ("2M tokens", Budget("tokens", 2_000_000)),
        ("250k tokens", Budget("tokens", 250_000)),
        ("1.5B tokens", Budget("tokens", 1_500_000_000)),
        ("2m tokens", Budget("tokens", 2_000_000)),
        ("4.35M tokens", Budget("tokens", 4_350_000)),
        ("123 tokens", Budget("tokens", 123)),
        ("1 token", Budget("tokens", 1)),
    ],
)
def test_reads(text: str | int, budget: Budget) -> None:
    assert Budget.parse(text) == budget


@pytest.mark.parametrize(
    "text", ["1000", "5%", "0.5%", "100%", "2M tokens", "250k tokens", "1.5B tokens", "123 tokens"]
)
def test_prints_as_it_was_given(text: str) -> None:
    assert str(Budget.parse(text)) == text


@given(st.sampled_from(["examples", "tokens"]), st.integers(1, 10**13))
def test_whole_numbers_round_trip(kind: str, amount: int) -> None:
    budget = Budget(kind, amount)  # type: ignore[arg-type]
    assert Budget.parse(str(budget)) == budget


@given(st.floats(min_value=0, max_value=100, exclude_min=True))
def test_percents_round_trip(amount: float) -> None:
    assert Budget.parse(str(Budget("percent", amount))) == Budget("percent", amount)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (0, "not above zero"),
        ("0%", "not above zero"),
        ("-5", "not above zero"),
        (-3, "not above zero"),
        ("-2M tokens", "not above zero"),
        ("101%", "more than the whole pool"),
        ("1.5", "not a whole number of examples"),
        ("0.0001k tokens", "not a whole number of tokens"),
        ("5k%", "cannot be read"),
        ("many", "cannot be read"),
        ("", "cannot be read"),
        ("1,000", "cannot be read"),
        ("2M words", "cannot be read"),
        (True, "cannot be read"),
    ],
)
def test_refuses(text: str | int, reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        Budget.parse(text)


@pytest.mark.parametrize(
    ("text", "n_pool", "needed"),
    [("7", 10, 7), ("10", 10, 10), ("5%", 1000, 50), ("5%", 10, 1), ("5%", 29, 1), ("5%", 31, 2), ("0.1%", 3, 1)],
)
def test_examples_needed(text: str, n_pool: int, needed: int) -> None:
    assert Budget.parse(text).examples_needed(n_pool) == needed


def test_a_budget_above_the_pool_says_both_numbers() -> None:
    with pytest.raises(SettingsError, match=r"1000 examples and the pool has 12; give 12 at most"):
        Budget.parse(1000).examples_needed(12)


def test_a_token_budget_has_no_number_of_examples_of_its_own() -> None:
    with pytest.raises(SettingsError, match="2M tokens depends on the length"):
        Budget.parse("2M tokens").examples_needed(12)


@pytest.mark.parametrize(("tokens", "fitting"), [(10, 1), (29, 1), (30, 2), (34, 2), (60, 3), (61, 4), (10**9, 4)])
def test_longest_prefix_counts_whole_conversations(tokens: int, fitting: int) -> None:
    assert longest_prefix([10, 20, 30, 1], tokens) == fitting


def test_longest_prefix_stops_counting_where_the_budget_ends() -> None:
    def counts() -> Iterator[int]:
        yield from (10, 20, 30)
        raise AssertionError("a conversation past the end was tokenised")

    assert longest_prefix(counts(), 45) == 2


def test_a_token_budget_too_small_for_the_first_choice_says_so() -> None:
    with pytest.raises(SettingsError, match=r"5 tokens and the first choice alone has 10; give at least 10"):
        longest_prefix([10, 1], 5)
