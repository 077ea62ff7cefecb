"""The reference answers of a record, and what messages call it."""

import json
from collections.abc import Mapping
from typing import Any

from handpick.data.formats import parse_record
from handpick.errors import DataError
from handpick.rewards.protocol import Record

_SHOWN = 60  # characters of a record without an id that a message has room for


def record_name(record: Record) -> str:
    """Return a record's id, else the beginning of the record itself."""
    if record.get("id") is not None:
        return f"the record {record['id']}"
    text = json.dumps(record, ensure_ascii=False, default=str)
    return f"the record {text[:_SHOWN]}{'…' if len(text) > _SHOWN else ''}"


def reference_answers(record: Record) -> list[str]:
    """Return every answer that counts as right, at least one.

    They stand in ``answers`` (a list, or SQuAD's ``{"text": [...]}``), else in ``answer``; a record with neither is
    answered by the assistant's turn that it ends with. A number or a truth value is written as JSON writes it.

    Raises:
        DataError: there is none, or one is neither a text nor a number nor a truth value.
    """
    answers = record.get("answers")
    if isinstance(answers, Mapping):
        answers = answers.get("text")
    if not isinstance(answers, list | tuple):
        answers = [answers]
    found = [_text(answer, "answers", record) for answer in answers if not _is_blank(answer)]
    if not found and not _is_blank(record.get("answer")):
        found = [_text(record["answer"], "answer", record)]
    return found or [_last_turn(record)]


def _is_blank(answer: Any) -> bool:
    return answer is None or (isinstance(answer, str) and not answer.strip())


def _text(answer: Any, field: str, record: Record) -> str:
    if isinstance(answer, str):
        return answer
    if isinstance(answer, bool | int | float):
        return json.dumps(answer)
    raise DataError(
        f"no reference answer: `{field}` of {record_name(record)} holds {type(answer).__name__}; write it as text"
    )


def _last_turn(record: Record) -> str:
    try:
        messages = parse_record(record).messages
    except DataError as error:
        raise DataError(f"no reference answer: none in {record_name(record)}: {error}") from error
    if not messages or messages[-1].role != "assistant" or not messages[-1].content.strip():
        raise DataError(
            f"no reference answer: {record_name(record)} has no `answer` or `answers` and does not end with an "
            "assistant's turn; add one, or take a reward that needs none"
        )
    return messages[-1].content
