from typing import Any

import pytest

from handpick.errors import DataError
from handpick.rewards.choice import Choice, choice

LETTER = {"id": "m1", "answer": "B"}
TRUTH = {"id": "b1", "answer": "true"}
SENTIMENT = {"id": "s1", "choices": ["negative", "positive"], "answer": "positive"}
VITAMIN = {"id": "v1", "choices": ["vitamin A", "vitamin C", "vitamin D"], "answer": "B"}


@pytest.mark.parametrize(
    ("record", "completion", "expected"),
    [
        (LETTER, "The answer is (B).", 1.0),
        (LETTER, "C", 0.0),
        (LETTER, "no idea", 0.0),
        (TRUTH, "the correct answer is true", 1.0),
        (TRUTH, "Yes.", 1.0),
        (TRUTH, "No.", 0.0),
        ({"answer": True}, "yes", 1.0),
        ({"answer": "No"}, "no", 1.0),
        (SENTIMENT, "Positive.", 1.0),
        (SENTIMENT, "The review is clearly positive in tone", 1.0),
        (SENTIMENT, "B", 1.0),
        (SENTIMENT, "A", 0.0),
        (SENTIMENT, "(C)", 0.0),
        (SENTIMENT, "I cannot say", 0.0),
        (VITAMIN, "It is vitamin C that helps", 1.0),
        (VITAMIN, "vitamin D", 0.0),
        (VITAMIN, "I'd go for B", 1.0),
        ({"answers": ["A", "C"]}, "C", 1.0),
        ({"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "So it is (C)."}]}, "C", 1.0),
    ],
)
def test_choice(record: dict[str, Any], completion: str, expected: float) -> None:
    assert choice(completion, record) == expected
    assert Choice()([[]], [completion], [record]) == [expected]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"id": "x1", "answer": "blue"}, "is no choice: in the record x1 it is neither a letter nor true, false, yes"),
        (SENTIMENT | {"answer": "mixed"}, "is no choice: in the record s1 it is none of negative, positive, nor the"),
        (SENTIMENT | {"choices": "negative"}, "`choices` is no list of texts: in the record s1"),
        (SENTIMENT | {"choices": ["yes", 3]}, "`choices` is no list of texts: in the record s1"),
    ],
)
def test_a_reference_that_is_no_choice_is_an_error(record: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        choice("A", record)
