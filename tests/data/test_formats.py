from typing import Any

import pytest

from handpick.data.examples import Message
from handpick.data.formats import Conversations, parse_record
from handpick.errors import DataError

USER, ASSISTANT, WORSE = Message("user", "Hi"), Message("assistant", "Hello"), Message("assistant", "No")
ASKED = (USER, ASSISTANT)
PREFERRED = Conversations(ASKED, (USER, WORSE))

hi, hello, no = ({"role": m.role, "content": m.content} for m in (USER, ASSISTANT, WORSE))


@pytest.mark.parametrize(
    ("record", "messages"),
    [
        ({"messages": [hi, hello]}, ASKED),
        ({"messages": [hi]}, (USER,)),
        ({"messages": [hi, hello], "prompt": "HumanEval records carry one too"}, ASKED),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": t} for t in "Hi"]}, hello]}, ASKED),
        ({"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}, ASKED),
        ({"conversations": [hi, {"role": "model", "content": "Hello"}]}, ASKED),
        ({"instruction": "Hi", "input": "", "output": "Hello"}, ASKED),
        ({"instruction": "Hi", "input": None, "output": "Hello"}, ASKED),
        ({"instruction": "Hi", "input": "there", "output": "Hello"}, (Message("user", "Hi\nthere"), ASSISTANT)),
        ({"instruction": "Hi", "context": "there", "response": "Hello"}, (Message("user", "Hi\nthere"), ASSISTANT)),
        ({"instruction": "Hi", "context": "", "response": "Hello", "category": "qa"}, ASKED),
        ({"instruction": "Hi", "input": "there", "response": "Hello"}, (Message("user", "Hi\nthere"), ASSISTANT)),
        ({"prompt": "Hi", "completion": "Hello<|endoftext|>"}, ASKED),
        ({"prompt": [hi], "completion": [hello]}, ASKED),
        ({"prompt": "Hi", "response": "Hello"}, ASKED),
        ({"prompt": "Hi"}, (USER,)),
    ],
)
def test_reads_conversation(record: dict[str, Any], messages: tuple[Message, ...]) -> None:
    assert parse_record(record) == Conversations(messages)


BRIEF = Message("system", "Be brief.")


@pytest.mark.parametrize("field", ["system", "system_prompt"])
@pytest.mark.parametrize(
    "record",
    [
        {"conversations": [hi, hello]},
        {"messages": [hi, hello]},
        {"instruction": "Hi", "output": "Hello"},
        {"prompt": "Hi", "response": "Hello"},
    ],
)
def test_a_system_prompt_in_a_field_of_its_own_is_the_first_turn(record: dict[str, Any], field: str) -> None:
    assert parse_record(record | {field: "Be brief."}) == Conversations((BRIEF, *ASKED))
    assert parse_record(record | {field: ""}) == Conversations(ASKED)


def test_a_system_prompt_stands_before_both_answers_and_never_twice() -> None:
    both = parse_record({"prompt": "Hi", "chosen": "Hello", "rejected": "No", "system": "Be brief."})
    assert both == Conversations((BRIEF, *ASKED), (BRIEF, USER, WORSE))
    told = {"messages": [{"role": "system", "content": "Be brief."}, hi, hello], "system": "Be long."}
    assert parse_record(told) == Conversations((BRIEF, *ASKED))


def test_what_was_said_before_stands_before_an_instruction() -> None:
    record = {"instruction": "And now?", "output": "Now.", "history": [["Hi", "Hello"]], "system": "Be brief."}
    now = (Message("user", "And now?"), Message("assistant", "Now."))
    assert parse_record(record) == Conversations((BRIEF, *ASKED, *now))


@pytest.mark.parametrize(
    "record",
    [
        {"prompt": "Hi", "chosen": "Hello", "rejected": "No"},
        {"prompt": [hi], "chosen": [hello], "rejected": [no]},
        {"prompt": "Hi", "chosen": [hi, hello], "rejected": [hi, no], "messages": [hi, hello]},
        {"chosen": [hi, hello], "rejected": [hi, no]},
        {
            "conversations": [{"from": "human", "value": "Hi"}],
            "chosen": {"from": "gpt", "value": "Hello"},
            "rejected": {"from": "gpt", "value": "No"},
        },
        {"chosen": "\n\nHuman: Hi\n\nAssistant: Hello", "rejected": "\n\nHuman: Hi\n\nAssistant: No"},
    ],
)
def test_reads_preference(record: dict[str, Any]) -> None:
    assert parse_record(record) == PREFERRED


def test_fields_that_are_null_in_a_table_of_mixed_shapes_do_not_count() -> None:
    nulls = dict.fromkeys(["prompt", "chosen", "rejected", "conversations", "completion", "output"])
    assert parse_record({**nulls, "messages": [hi, hello]}) == Conversations(ASKED)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"ask": "Hi", "tell": "Hello"}, r"no known shape: .* ask, tell; name its columns .* known are messages, "),
        ({}, "no known shape: the record has the fields none"),
        ({"instruction": "Hi", "input": ""}, "no known shape"),
        ({"instruction": "Hi", "output": None}, "`output` of a record in the Alpaca shape is null"),
        ({"instruction": "Hi", "output": True}, "`output` is bool, not text"),
        ({"instruction": "Hi", "input": 3, "output": "Hello"}, "`input` is int, not text; write it as text, in quotes"),
        ({"instruction": "Hi", "output": "Hello", "history": ["Hi"]}, "`history` is no list of pairs"),
        ({"instruction": "Hi", "output": "Hello", "history": [["Hi", 3]]}, "`history`, pair 1, is int, not text"),
        ({"prompt": "Hi", "completion": "Hello", "system": {"a": 1}}, "`system` is dict, not text"),
        ({"messages": []}, "`messages` is no list of turns, or an empty one"),
        ({"messages": "Hi"}, "`messages` is no list of turns"),
        ({"messages": ["Hi"]}, "turn 1 of `messages` is str"),
        ({"messages": [hi, {"role": "wizard", "content": ""}]}, "`role` of turn 2 of `messages` is 'wizard'"),
        ({"messages": [hi, {"role": "assistant"}]}, "`content` of turn 2 of `messages` is null"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "a part of type image_url"),
        ({"prompt": "Hi", "chosen": "Hello", "rejected": None}, "`chosen` and `rejected` beside `prompt`"),
        ({"prompt": "Hi", "completion": None}, "`completion` beside `prompt` is null"),
        ({"prompt": None, "completion": "Hello"}, "`prompt` of a record in the prompt/completion shape is null"),
        (
            {"chosen": "Hello", "rejected": "No"},
            "preference without a prompt: `chosen` is a text that does not open with a turn",
        ),
        (
            {"chosen": "Oh.\n\nHuman: Hi", "rejected": "No"},
            "preference without a prompt: `chosen` is a text that does not open with a turn",
        ),
    ],
)
def test_says_what_a_record_lacks(record: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_record(record)
