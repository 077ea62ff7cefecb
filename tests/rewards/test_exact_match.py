import pytest

from handpick.errors import DataError, SettingsError
from handpick.rewards.exact_match import ExactMatch, exact_match

SOLVED = {"id": "q1", "messages": [
    {"role": "user", "content": "How many?"}, {"role": "assistant", "content": "He has 3 * 6 = 18\n#### 18"},
]}  # fmt: skip


@pytest.mark.parametrize(
    ("extractor", "completion", "reference", "expected"),
    [
        ("text", "science and technology.", "Science and Technology", 1.0),
        ("text", "Scientists", "Scientist", 0.0),
        ("text", "", "Scientist", 0.0),
        ("last-number", "I get $1,234.50.", "1234.5", 1.0),
        ("last-number", "I get 1234.", "1234.5", 0.0),
        ("last-number", "I get nothing", "0", 0.0),
        ("hash", "so\n#### 18 eggs", "18", 1.0),
        ("hash", "so 18", "18", 0.0),
        ("hash", "so\n#### 18", "3 * 6\n#### 18.0", 1.0),
        ("boxed", r"thus $\boxed{\frac 12}$", r"\frac12", 1.0),
        ("boxed", r"thus $\boxed{18}$", "18", 1.0),
        ("boxed", r"thus 18", r"I find \boxed{18}", 0.0),
        ("choice", "I choose (B).", "(B)", 1.0),
        ("choice", "A", "B", 0.0),
        ("true-false", "Yes, it is.", "true", 1.0),
        ("true-false", "no", "true", 0.0),
    ],
)
def test_exact_match(extractor: str, completion: str, reference: str, expected: float) -> None:
    record = {"id": "q1", "answer": reference}
    assert exact_match(completion, record, extractor) == expected
    assert ExactMatch(extractor)([[]], [completion], [record]) == [expected]


def test_any_reference_will_do() -> None:
    record = {"answers": ["no number", "18", "20"]}
    assert ExactMatch("last-number")([[]] * 3, ["18", "20", "no number"], [record] * 3) == [1.0, 1.0, 0.0]


def test_a_worked_solution_is_a_reference() -> None:
    for extractor in ("last-number", "hash"):
        assert exact_match("#### 18.00", SOLVED, extractor) == 1.0


def test_a_reference_without_an_answer_is_an_error() -> None:
    with pytest.raises(
        DataError, match="exact-match:last-number finds none in 'several', the reference of the record q7; mend"
    ):
        ExactMatch("last-number")([[]], ["3"], [{"id": "q7", "answer": "several"}])


def test_an_unknown_extractor_is_an_error() -> None:
    with pytest.raises(SettingsError, match=r"no extractor 'last-numbr' .did you mean 'last-number'..; choose one of"):
        ExactMatch("last-numbr")
