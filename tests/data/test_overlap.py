"""What repeats a test set, against slow counting, and on the known leaks."""

import os
import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handpick.data.examples import Example, Message
from handpick.data.overlap import COMMON, HeldOut, Overlap, overlaps
from handpick.errors import DataError, SettingsError
from tests.conftest import records

DATA = Path(os.environ.get("HANDPICK_DATA") or Path(__file__).parents[3] / "shared" / "data")


def asked(*turns: str, answer: str | None = None) -> Example:
    messages = [Message("user", turn) for turn in turns]
    return Example("", (*messages, *([Message("assistant", answer)] if answer is not None else [])), b"")


def share(example: Example, tests: list[Example], groups: list[int] | None = None) -> float:
    overlap = HeldOut(tests, groups).compare(0, example)
    return 0.0 if overlap is None else overlap.share


def numbered(template: str, n: int) -> list[Example]:
    """Items that share a template around words of their own."""
    return [asked(template.format(" ".join(f"w{i}x{k}" for k in range(9)))) for i in range(n)]


# --- the definition


def runs(text: str) -> list[tuple[str, ...]]:
    words = re.findall(r"[a-z0-9]+", text.lower())
    return [tuple(words[i : i + 5]) for i in range(max(1, len(words) - 4))] if words else []


def by_loops(example: Example, items: list[str]) -> list[tuple[Fraction, Fraction]]:
    """The share of each item and of the example, where no word is a template's (ten items at most never have one)."""

    def items_with(run: tuple[str, ...]) -> int:
        return sum(run in runs(item) for item in items)

    stand = {run for message in example.messages for run in runs(message.content)}
    known = sum((Fraction(1, items_with(run)) for run in stand if items_with(run)), Fraction(0))
    unknown = sum(1 for run in stand if not items_with(run))
    of_example = known / (known + unknown) if stand else Fraction(0)
    shares = []
    for item in items:
        weights = {run: Fraction(1, items_with(run)) for run in runs(item)}
        whole = sum(weights.values(), Fraction(0))
        found = sum((weight for run, weight in weights.items() if run in stand), Fraction(0))
        shares.append((found / whole if whole else Fraction(0), of_example))
    return shares


few_words = st.lists(st.sampled_from("abc"), max_size=9).map(" ".join)


@settings(max_examples=200, deadline=None)
@given(turns=st.lists(few_words, min_size=1, max_size=3), items=st.lists(few_words, min_size=1, max_size=COMMON))
def test_equals_slow_counting(turns: list[str], items: list[str]) -> None:
    example = asked(*turns)
    expected = by_loops(example, items)
    best = max(range(len(items)), key=lambda i: (expected[i][0], -i))
    overlap = HeldOut([asked(item) for item in items]).compare(7, example)
    if expected[best][0] == 0:
        assert overlap is None
    else:
        of_item, of_example = map(float, expected[best])
        assert overlap == Overlap(7, best, pytest.approx(of_item), pytest.approx(of_example))


# --- what does not count


@settings(max_examples=50, deadline=None)
@given(random=st.randoms(use_true_random=False), gap=st.sampled_from(["  ", "\n", "\t ", ", ", " - "]))
def test_case_punctuation_and_white_space_do_not_count(random: Random, gap: str) -> None:
    plain = "in november a toy was 40 dollars and in december its price was 80 percent more"
    forms = [random.choice([word, word.upper(), word.title(), f'"{word}"']) for word in plain.split()]
    assert share(asked(gap.join(forms), answer="72 dollars"), [asked(plain), asked("another one")]) == 1


@settings(max_examples=50, deadline=None)
@given(pool=st.lists(few_words, max_size=6), items=st.lists(few_words, min_size=1, max_size=6), data=st.data())
def test_the_order_of_records_does_not_count(pool: list[str], items: list[str], data: st.DataObject) -> None:
    mixed_pool, mixed_items = data.draw(st.permutations(pool)), data.draw(st.permutations(items))

    def found(texts: list[str], held: list[str]) -> list[tuple[str, float, float]]:
        held_out = HeldOut([asked(item) for item in held])
        return sorted((texts[o.row], o.share, o.of_example) for o in overlaps(map(asked, texts), held_out, 0.01))

    assert found(mixed_pool, mixed_items) == found(pool, items)


def test_a_long_answer_does_not_hide_a_question() -> None:
    tests = numbered("{}", 3)
    question = tests[1].messages[0].content
    answer = " ".join(f"step {i}" for i in range(400))
    overlap = HeldOut(tests).compare(0, asked(question, answer=answer))
    assert overlap is not None
    assert (overlap.item, overlap.share) == (1, 1)
    assert overlap.of_example < 0.02
    assert share(asked("what is it", answer=f"You may ask: {question} So?"), tests) == 1


def test_the_answers_of_a_test_are_not_looked_for() -> None:
    item = asked("one two three four five six", answer="a long answer that stands in many other places too")
    assert share(asked("one two three four five six"), [item]) == 1
    assert share(asked(item.messages[1].content), [item]) == 0


def test_a_short_turn_matches_only_a_turn_that_says_just_that() -> None:
    assert share(asked("What is gravity?", answer="A force."), [asked("what is gravity")]) == 1
    assert share(asked("Tell me, what is gravity? And why?"), [asked("what is gravity")]) == 0


def test_each_character_is_a_word_where_writing_has_no_spaces() -> None:
    assert share(asked("問題:日本の首都はどこですか。答えてください。"), [asked("日本の首都はどこですか")]) == 1


# --- templates


TEMPLATE = "please answer the following question with true or false question {} answer format true false"


def test_a_template_alone_is_no_overlap() -> None:
    tests = numbered(TEMPLATE, 50)
    other = asked(TEMPLATE.format("is this one of the questions that only the pool has"))
    assert share(other, tests) == 0
    assert share(tests[7], tests) == 1


def test_an_item_is_found_under_another_template() -> None:
    tests = numbered(TEMPLATE, 50)
    own_words = " ".join(f"w7x{k}" for k in range(9))
    assert share(asked(f"Q: {own_words}? Yes or no?"), tests) == 1


def test_an_item_that_is_nearly_all_template_is_still_found() -> None:
    tests = [asked(TEMPLATE.format(f"w{i}")) for i in range(50)]
    assert share(tests[3], tests) == 1
    assert share(asked(TEMPLATE.format("v")), tests) == 0


def test_several_templates_of_one_example_do_not_make_it_common() -> None:
    templates = [f"t{t} " * 6 + "{}" for t in range(COMMON + 2)]
    tests = [item for template in templates for item in numbered(template, 30)]
    groups = list(range(30)) * len(templates)
    own_words = asked("In the news: " + " ".join(f"w7x{k}" for k in range(9)))
    assert share(own_words, tests, groups) == 1
    assert share(own_words, tests) == 0  # without groups they are twelve items that share a run


def test_items_that_cannot_be_told_apart_are_named() -> None:
    tests = [asked("all the same words in here")] * (COMMON + 1) + [asked("but these are its own words"), asked("?!")]
    held_out = HeldOut(tests)
    assert held_out.unjudged == (*range(COMMON + 1), COMMON + 2)
    assert held_out.compare(0, tests[0]) is None


# --- the pass over a pool


def test_rows_are_those_of_the_pool_and_the_threshold_holds() -> None:
    tests = numbered("{}", 4)
    part = " ".join(f"w2x{k}" for k in range(8))  # four of five runs
    pool = [asked("nothing of it"), tests[3], asked(""), asked(part), tests[0]]
    assert [(o.row, o.item, o.share) for o in overlaps(pool, HeldOut(tests))] == [(1, 3, 1), (3, 2, 0.8), (4, 0, 1)]
    assert [o.row for o in overlaps(pool, HeldOut(tests), 0.8)] == [1, 3, 4]
    assert [o.row for o in overlaps(pool, HeldOut(tests), 0.81)] == [1, 4]


def test_a_pool_is_read_as_it_comes() -> None:
    held_out = HeldOut(numbered("{}", 2))
    drawn = []

    def pool() -> Iterator[Example]:
        for example in numbered("{}", 2):
            drawn.append(example)
            yield example

    next(overlaps(pool(), held_out))
    assert len(drawn) == 1


@pytest.mark.parametrize("threshold", [0, -1, 1.01, float("nan")])
def test_a_threshold_out_of_range(threshold: float) -> None:
    with pytest.raises(SettingsError, match="above 0 and at most 1"):
        overlaps([], HeldOut([asked("a")]), threshold)


def test_bad_test_sets() -> None:
    with pytest.raises(DataError, match="is empty"):
        HeldOut([])
    with pytest.raises(DataError, match="2 groups for 1 test items"):
        HeldOut([asked("a")], [1, 2])


# --- real data


def real(name: str, n: int = 100_000) -> list[Example]:
    path = DATA / f"{name}.jsonl.gz"
    if not path.exists():
        pytest.skip(f"no {path}; set HANDPICK_DATA to the folder of the full data set")
    return [Example(r["id"], tuple(Message(**m) for m in r["messages"]), b"") for r in records(path, n)]


@pytest.mark.data
def test_the_known_leaks_are_found_and_the_training_set_is_not() -> None:
    tests, maths = real("targets/gsm8k/test"), real("fixtures/contaminated_math")
    held_out = HeldOut(tests)
    questions = {test.messages[0].content.strip() for test in tests}
    leaked = {row for row, e in enumerate(maths) if e.messages[0].content.strip() in questions}
    assert len(leaked) == 1052
    assert {o.row for o in overlaps(maths, held_out)} == leaked
    assert list(overlaps(real("pool/pool_small"), held_out)) == []
    assert list(overlaps(real("targets/gsm8k/dev"), held_out)) == []
