from typing import Any

import pytest

from handpick.errors import DataError
from handpick.rewards.reference import record_name, reference_answers

ASKED = {"role": "user", "content": "How many?"}
ANSWERED = {"role": "assistant", "content": "So it is\n#### 7"}


@pytest.mark.parametrize(
    ("record", "answers"),
    [
        ({"messages": [ASKED, ANSWERED], "answer": "7"}, ["7"]),
        ({"answer": "7", "answers": ["7", "seven"]}, ["7", "seven"]),
        ({"answers": {"text": ["7", "seven"], "answer_start": [3, 9]}}, ["7", "seven"]),
        ({"answers": "seven"}, ["seven"]),
        ({"answer": "7", "answers": None}, ["7"]),
        ({"answer": "7", "answers": []}, ["7"]),
        ({"answer": True}, ["true"]),
        ({"answer": 7}, ["7"]),
        ({"answer": 0}, ["0"]),
        ({"answer": 7.5}, ["7.5"]),
        ({"messages": [ASKED, ANSWERED]}, ["So it is\n#### 7"]),
        ({"messages": [ASKED, ANSWERED], "answer": None}, ["So it is\n#### 7"]),
        ({"instruction": "How many?", "output": "7"}, ["7"]),
    ],
)
def test_reference_answers(record: dict[str, Any], answers: list[str]) -> None:
    assert reference_answers(record) == answers


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"id": "x1", "messages": [ASKED]}, "the record x1 has no `answer` or `answers` and does not end with an ass"),
        ({"id": "x1", "messages": [ASKED, ANSWERED, ASKED]}, "the record x1 has no `answer`"),
        ({"id": "x1", "question": "?"}, "no reference answer: none in the record x1: no known shape"),
        ({"id": "x1", "answer": {"value": 7}}, "no reference answer: `answer` of the record x1 holds dict"),
        ({"id": "x1", "answers": [["7"]]}, "`answers` of the record x1 holds list; write it as text"),
    ],
)
def test_no_reference_is_an_error_that_names_the_record(record: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        reference_answers(record)


def test_a_record_without_an_id_is_called_by_its_beginning() -> None:
    assert record_name({"id": 3}) == "the record 3"
    assert record_name({"prompt": "Wie viel?"}) == 'the record {"prompt": "Wie viel?"}'
    assert record_name({"prompt": "x" * 99}).endswith("x…")
