import time
from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from handpick.rewards.extractors import EXTRACTORS, boxed, choice_letter, find_named, last_number, truth, whole_text


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("2250", "2250"),
        ("1,234.50", "1234.5"),
        ("The answer is 1,234.50.", "1234.5"),
        ("16 - 9 = 7", "7"),
        ("10-5", "5"),
        ("(3)-5", "5"),
        ("x = -5", "-5"),
        ("x = −5", "-5"),
        ("It fell by -$5,000", "-5000"),
        ("It fell by $-5,000", "-5000"),
        (r"It costs \$18", "18"),
        ("**-5**", "-5"),
        ("50%", "50"),
        (".5", "0.5"),
        ("0.50 of it", "0.5"),
        ("1, 2 or 3", "3"),
        ("1,2,3", "3"),
        ("12,34", "34"),
        ("1,2345", "2345"),
        (r"1{,}000", "1000"),
        ("007", "7"),
        ("Covid-19", "19"),
        ("٣ apples", "3"),
        ("3/4", "4"),
        ("3.14.15", "15"),
        ("none at all", None),
        ("", None),
    ],
)
def test_last_number(text: str, number: str | None) -> None:
    assert last_number(text) == (None if number is None else Decimal(number))


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("18 + 2 = 20\n#### 20", Decimal(20)),
        ("#### 1,000 dollars", Decimal(1000)),
        ("#### $20\n\nQuestion: 3 + 4?\n#### 7", Decimal(20)),
        ("#### Step 1: add\n#### 20", Decimal(20)),
        ("#### 3/4", "3/4"),
        ("#### New  York.", "new york"),
        ("#### ", None),
        ("20", None),
    ],
)
def test_hash(text: str, answer: object) -> None:
    assert EXTRACTORS["hash"].find(text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{5}", Decimal(5)),
        (r"\boxed{5.0}", Decimal(5)),
        (r"\boxed{ 1,234 }", Decimal(1234)),
        (r"\boxed{1{,}234}", Decimal(1234)),
        (r"\boxed{\$18}", Decimal(18)),
        (r"\boxed{50\%}", Decimal(50)),
        (r"\boxed {7}", Decimal(7)),
        (r"\boxed{3} then \boxed{4}", Decimal(4)),
        (r"\boxed{4} and \boxed{unclosed", Decimal(4)),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{ x + \sqrt{ 2 } }", r"x+\sqrt{2}"),
        (r"\boxed{\left\{1,2\right\}}", r"\left\{1,2\right\}"),
        (r"\boxed{(1,2)}", "(1,2)"),
        (r"\boxed{1,2}", "1,2"),
        (r"\boxed{a \boxed{6}}", Decimal(6)),
        (r"} \boxed{8} {", Decimal(8)),
        (r"\boxed{\text{Eve}}", r"\text{Eve}"),
        (r"\boxed{}", None),
        (r"\boxed{unclosed", None),
        ("5", None),
    ],
)
def test_boxed(text: str, answer: object) -> None:
    assert boxed(text) == answer


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("D", "D"),
        ("d", "D"),
        (" D\n", "D"),
        ("D.", "D"),
        ("(D)", "D"),
        ("[D]", "D"),
        ("D) the dog", "D"),
        ("d) the dog", "D"),
        ("D: the dog", "D"),
        ("**D**", "D"),
        ("B\nbecause of it", "B"),
        (r"\boxed{D}", "D"),
        ("The answer is D", "D"),
        ("the answer is d.", "D"),
        ("The answer is (D).", "D"),
        ("The answer is: (d)", "D"),
        ("the correct answer is option C", "C"),
        ("The correct option is C.", "C"),
        ("**Answer:** C", "C"),
        ("Answer: **C. Paris**", "C"),
        (r"The answer is $\boxed{\text{C}}$", "C"),
        ("Answer:\n\nC", "C"),
        ("Answer: A because it rains", "A"),
        ("The answer would be “B”", "B"),
        ("Let's think step by step. (A) is wrong. So the answer is (B).", "B"),
        ("The answer is (A). No: the answer is (B).", "B"),
        ("The answer is C, for option B is wrong", "C"),
        ("(B) fits better than the rest", "B"),
        ("We see that (A) is wrong and (B) is right", "B"),
        ("I think it must be C", "C"),
        ("A dog would choose B", "B"),
        ("I would go with A", "A"),
        ("Both B and C", None),
        ("A dog is an animal", None),
        ("I think so", None),
        ("The answer is a dog", None),
        ("the answer is Dog", None),
        ("E.g. dogs", None),
        ("It's a T-shirt", None),
        ("", None),
    ],
)
def test_choice(text: str, letter: str | None) -> None:
    assert choice_letter(text) == letter


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", "true"),
        ("Yes", "true"),
        ("False.", "false"),
        ("NO!", "false"),
        ("the correct answer is true", "true"),
        ("The answer is: **No**", "false"),
        ("Yes, there is no doubt that it is so", "true"),
        ("No one knows whether it is false, so the answer is yes.", "true"),
        ("It is said to be false, but it is true", "true"),
        ("There is no reason to think that it is true", "true"),
        ("That is not true", "false"),
        ("That isn't true.", "false"),
        ("the answer is not false", "true"),
        ("Notable untruths of yesterday", None),
        ("", None),
    ],
)
def test_true_false(text: str, value: str | None) -> None:
    assert truth(text) == value


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("sports", "Sports"),
        ("The answer is Sci/Tech, not sports", "Sci/Tech"),
        ("Business: sports clubs are businesses", "Business"),
        ("I would call this WORLD   NEWS", "World news"),
        ("It is about sport", None),
        ("", None),
    ],
)
def test_named(text: str, word: str | None) -> None:
    assert find_named(text, ["Sports", "Business", "World news", "Sci/Tech"]) == word


def test_longer_words_are_named_before_what_they_hold() -> None:
    assert find_named("a natural place", ["place", "natural place"]) == "natural place"
    assert find_named("anything", [""]) is None


@pytest.mark.parametrize(
    ("one", "other"),
    [("Science and  Technology", "science and technology"), ("Company.", "company"), (" 北京。", "北京")],
)
def test_text_forgives_case_space_and_full_stop(one: str, other: str) -> None:
    assert whole_text(one) == whole_text(other)


def test_text_keeps_what_matters() -> None:
    assert whole_text("] } ]") == "] } ]"
    assert whole_text(".") == "."
    assert whole_text(" \n ") is None


texts = st.text() | st.text(alphabet="0123456789,.-−$%#ABCDIabcd()[]{}*\\ \nboxedansweristruenot:\"'")


@given(text=texts)
@example(text="\\boxed{" * 5)
@example(text="yeſ, falſe, not")
def test_no_text_makes_an_extractor_raise(text: str) -> None:
    for extractor in EXTRACTORS.values():
        assert extractor.find(text) is None or extractor.find(text) == extractor.of_reference(text)


@given(
    number=st.decimals(min_value=-(10**12), max_value=10**12, places=3),
    before=st.sampled_from(["", "so 3 + 4 = ", "The answer is ", "$", "#### ", "**"]),
    after=st.sampled_from(["", ".", "%", " dollars", "**", "\n", ", I think"]),
)
def test_a_number_written_any_way_is_read_back(number: Decimal, before: str, after: str) -> None:
    for written in (f"{number}", f"{number:,}", f"{number.normalize():f}"):
        assert last_number(before + written + after) == number


@pytest.mark.parametrize(
    "unit", ["1,234,", "1,", "\\boxed{", "answer is ", "Answer: \n", " ", "#### ", "(A)", "not ", "((", "9", "{", "A "]
)
def test_a_text_that_runs_on_is_read_in_time(unit: str) -> None:
    text = unit * (20_000 // len(unit)) + "5"
    start = time.process_time()
    for extractor in EXTRACTORS.values():
        extractor.find(text)
        extractor.find("answer:" + text)
    assert time.process_time() - start < 1.5
