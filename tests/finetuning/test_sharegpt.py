"""LLaMA-Factory's own form: what its converter takes, and what the form has no word for."""

import json
from typing import Any

import pytest

from handpick.data.examples import Conversation, Message
from handpick.data.formats import parse_record
from handpick.errors import DataError
from handpick.finetuning.sharegpt import sharegpt_record

USER, BOT = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}


def calling(*arguments: Any, content: Any = None, **more: Any) -> dict[str, Any]:
    calls = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": each}} for each in arguments]
    return {"role": "assistant", "content": content, "tool_calls": calls, **more}


def result(content: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": "c", "name": "f", "content": content}


def said(who: str, value: str) -> dict[str, str]:
    return {"from": who, "value": value}


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        ([USER | {"toxic": False}, BOT | {"language": "de"}], [said("human", "Hi"), said("gpt", "Hello")]),
        (
            [USER, BOT | {"reasoning_content": "Well."}],
            [said("human", "Hi"), said("gpt", "<think>\nWell.\n</think>\n\nHello")],
        ),
        (
            [USER, calling('{"x": 1}'), result("1"), BOT],
            [
                said("human", "Hi"),
                said("function_call", '[{"name": "f", "arguments": {"x": 1}}]'),
                said("observation", "1"),
                said("gpt", "Hello"),
            ],
        ),
        (
            [USER, calling({"x": 1}, "", thinking="Well."), result("1"), result("2"), BOT],
            [
                said("human", "Hi"),
                said(
                    "function_call",
                    '<think>\nWell.\n</think>\n\n[{"name": "f", "arguments": {"x": 1}}, '
                    '{"name": "f", "arguments": {}}]',
                ),
                said("observation", "1\n</tool_response>\n<tool_response>\n2"),
                said("gpt", "Hello"),
            ],
        ),
    ],
)
def test_conversations_in_its_form(turns: list[dict[str, Any]], expected: list[dict[str, str]]) -> None:
    told = {"role": "system", "content": "Be brief."}
    record = sharegpt_record(parse_record({"messages": [told, *turns], "tools": [TOOL]}).messages)
    assert (record["conversations"], record["system"]) == (expected, "Be brief.")
    assert json.loads(record["tools"]) == [TOOL]
    assert sharegpt_record(parse_record({"messages": turns}).messages) == {
        "conversations": expected,
        "system": "",
        "tools": "",
    }


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"messages": [USER, BOT | {"train": False}, USER, BOT]}, "turns or parts that are not learnt"),
        (
            {"messages": [USER, BOT | {"content": [{"type": "text", "text": "a", "weight": 0}, {"text": "b"}]}]},
            "turns or parts that are not learnt",
        ),
        ({"messages": [USER, calling("{}", content="Now.")]}, "text beside calls"),
        ({"messages": [USER, calling("x=1")]}, "arguments that are no JSON"),
        ({"messages": [USER, {"role": "assistant", "tool_calls": [{"f": 1}]}]}, "calls of another form"),
        ({"messages": [USER, BOT, BOT]}, "turns that do not alternate"),
        ({"messages": [BOT, USER, BOT]}, "turns that do not alternate"),
        ({"messages": [{"role": "developer", "content": "x"}, USER, BOT]}, "a developer turn that is not the first"),
        ({"messages": [USER, BOT], "chat_template_kwargs": {"a": 1}}, "arguments of the chat template"),
        ({"messages": [USER, BOT | {"function_calls": "f()"}]}, "the field function_calls"),
    ],
)
def test_what_the_form_has_no_word_for(record: dict[str, Any], reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        sharegpt_record(parse_record(record).messages)


def test_a_text_without_turns() -> None:
    with pytest.raises(DataError, match="a text without turns"):
        sharegpt_record(Conversation([Message("assistant", "Once.")], document=True))
