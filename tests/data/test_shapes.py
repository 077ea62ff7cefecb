"""One record of every shape that people hold: read as docs/data.md says, or refused by name."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handpick.data.examples import Conversation, Message
from handpick.data.formats import FORMATS, parse_record, read_record
from handpick.data.pool import Pool
from handpick.data.reading import Reading, ReadingSettings
from handpick.errors import DataError

DOCS = Path(__file__).parents[2] / "docs" / "data.md"


def user(content: str = "Hi", **more: Any) -> dict[str, Any]:
    return {"role": "user", "content": content, **more}


def bot(content: Any = "Hello", **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


def told(content: str = "Be brief.") -> dict[str, Any]:
    return {"role": "system", "content": content}


def call(name: str = "set_lamp", arguments: Any = None, **more: Any) -> dict[str, Any]:
    return {
        **more,
        "type": "function",
        "function": {"name": name, "arguments": {"on": True} if arguments is None else arguments},
    }


ASKED = [user(), bot()]
SCHEMA = {"type": "function", "function": {"name": "set_lamp", "parameters": {"type": "object", "properties": {}}}}
CALLING = bot("", tool_calls=[call()])
RESULT = {"role": "tool", "name": "set_lamp", "content": "ok"}

# the name of a shape, a record of it, and its turns as chat templates get them
READ: list[tuple[str, dict[str, Any], list[dict[str, Any]]]] = [
    ("TRL messages", {"messages": ASKED}, ASKED),
    ("TRL prompt and completion", {"prompt": "Hi", "completion": "Hello"}, ASKED),
    ("TRL prompt and completion as turns", {"prompt": [user()], "completion": [bot()]}, ASKED),
    (
        "TRL tools",
        {"messages": [user(), {"role": "assistant", "tool_calls": [call()]}, RESULT, bot()], "tools": [SCHEMA]},
        [user(), CALLING, RESULT, bot()],
    ),
    (
        "Harmony",
        {"messages": [{"role": "developer", "content": "x"}, user(), bot(thinking="t")]},
        [{"role": "developer", "content": "x"}, user(), bot(thinking="t")],
    ),
    (
        "OpenAI, null content",
        {"messages": [user(), bot(None, tool_calls=[call(arguments="{}", id="c1")])]},
        [user(), bot("", tool_calls=[call(arguments="{}", id="c1")])],
    ),
    (
        "OpenAI, empty content",
        {"messages": [user(), bot("", tool_calls=[call(id="c1")]), {**RESULT, "tool_call_id": "c1"}]},
        [user(), bot("", tool_calls=[call(id="c1")]), {**RESULT, "tool_call_id": "c1"}],
    ),
    ("OpenAI, no calls after all", {"messages": [user(), bot(tool_calls=[])]}, ASKED),
    (
        "OpenAI's older function_call",
        {
            "messages": [
                user(),
                bot(None, function_call={"name": "f", "arguments": "{}"}),
                {"role": "function", "name": "f", "content": "ok"},
            ]
        },
        [user(), bot("", tool_calls=[call("f", "{}")]), {"role": "tool", "content": "ok", "name": "f"}],
    ),
    ("calls as JSON text", {"messages": [user(), bot(None, tool_calls=json.dumps([call()]))]}, [user(), CALLING]),
    (
        "a columnar file's nulls",
        {
            "messages": [
                {**user(), "name": None, "tool_calls": None},
                bot(None, tool_calls=[{**call(arguments={"on": True, "room": None}), "id": None}]),
            ]
        },
        [user(), CALLING],
    ),
    (
        "axolotl reasoning_content",
        {"messages": [user(), bot(reasoning_content="t")]},
        [user(), bot(reasoning_content="t")],
    ),
    (
        "axolotl parts by any name",
        {
            "messages": [
                user(),
                bot(
                    [{"type": "text", "text": "Hel"}, {"type": "text", "content": "l"}, {"type": "text", "value": "o"}]
                ),
            ]
        },
        ASKED,
    ),
    ("vLLM reasoning", {"messages": [user(), bot(None, reasoning="t")]}, [user(), bot("", reasoning="t")]),
    ("messages as JSON text", {"messages": json.dumps(ASKED)}, ASKED),
    ("a list of turns as JSON text each", {"messages": [json.dumps(turn) for turn in ASKED]}, ASKED),
    (
        "a list of calls as JSON text",
        {"messages": [user(), bot(None, tool_calls=[json.dumps(call())])]},
        [user(), CALLING],
    ),
    ("null among calls", {"messages": [user(), bot(tool_calls=[None])]}, ASKED),
    (
        "a call whose arguments are null",
        {"messages": [user(), bot("", tool_calls=[{"function": {"name": "f", "arguments": None}}])]},
        [user(), bot("", tool_calls=[{"function": {"name": "f", "arguments": {}}}])],
    ),
    (
        "a bare call without arguments",
        {"messages": [user(), bot("", tool_calls=[{"name": "f"}])]},
        [user(), bot("", tool_calls=[{"name": "f", "arguments": {}}])],
    ),
    ("Nemotron, turns as JSON text", {"input": json.dumps([user()]), "output": "Hello"}, ASKED),
    (
        "Nemotron, an answer of turns",
        {"input": "Hi", "output": [bot(reasoning_content="t")]},
        [user(), bot(reasoning_content="t")],
    ),
    (
        "an answer that is a turn",
        {"question": "Hi", "response": bot(reasoning_content="t")},
        [user(), bot(reasoning_content="t")],
    ),
    (
        "an instruction, an input and a target",
        {"instruction": "Say:", "input": "Hi", "target": "Hello"},
        [user("Say:\nHi"), bot()],
    ),
    (
        "an instruction, an input and an answer",
        {"instruction": "Say:", "input": "Hi", "answer": "Hello"},
        [user("Say:\nHi"), bot()],
    ),
    (
        "an instruction, a context and an output",
        {"instruction": "Say:", "context": "Hi", "output": "Hello"},
        [user("Say:\nHi"), bot()],
    ),
    ("a prompt with its context in it", {"prompt": "Hi", "context": "H", "response": "Hello"}, ASKED),
    ("messages as Python text", {"messages": repr(ASKED)}, ASKED),
    ("ShareGPT", {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}, ASKED),
    (
        "ShareGPT, its first",
        {"conversations": [{"from": "user", "value": "Hi"}, {"from": "chatgpt", "value": "Hello"}]},
        ASKED,
    ),
    (
        "ShareGPT calls, as LLaMA-Factory has them",
        {
            "conversations": [
                {"from": "human", "value": "Hi"},
                {"from": "function_call", "value": '{"name": "set_lamp", "arguments": {"on": true}}'},
                {"from": "observation", "value": "ok"},
                {"from": "gpt", "value": "Hello"},
            ],
            "tools": json.dumps([SCHEMA]),
            "system": "Be brief.",
        },
        [told(), user(), CALLING, {"role": "tool", "content": "ok"}, bot()],
    ),
    (
        "LLaMA-Factory, a thought before the call",
        {
            "conversations": [
                {"from": "human", "value": "Hi"},
                {
                    "from": "function_call",
                    "value": '<think>\nt\n</think>\n\n{"name": "set_lamp", "arguments": {"on": true}}',
                },
            ]
        },
        [user(), bot("<think>\nt\n</think>\n\n", tool_calls=[call()])],
    ),
    (
        "ms-swift calls in a row",
        {
            "messages": [
                user(),
                bot("Wait."),
                {"role": "tool_call", "content": '{"name": "a", "arguments": {}}'},
                {"role": "tool_call", "content": '{"name": "b", "arguments": {}}'},
                {"role": "tool_response", "content": "1"},
                {"role": "tool_response", "content": "2"},
                bot(),
            ]
        },
        [
            user(),
            bot("Wait.", tool_calls=[call("a", {}), call("b", {})]),
            {"role": "tool", "content": "1"},
            {"role": "tool", "content": "2"},
            bot(),
        ],
    ),
    (
        "a list of calls as text",
        {"messages": [user(), {"role": "tool_call", "content": json.dumps([call("a"), call("b")])}]},
        [user(), bot("", tool_calls=[call("a"), call("b")])],
    ),
    (
        "Hermes",
        {
            "conversations": [
                {"from": "system", "value": "<tools>"},
                {"from": "human", "value": "Hi"},
                {"from": "gpt", "value": "<tool_call>"},
                {"from": "tool", "value": "ok"},
            ]
        },
        [told("<tools>"), user(), bot("<tool_call>"), {"role": "tool", "content": "ok"}],
    ),
    (
        "Dolci",
        {
            "id": "d1",
            "messages": [
                {"role": "system", "content": "x", "functions": "[]", "function_calls": None},
                {**user(), "functions": None},
                bot(None, function_calls="f()"),
                {"role": "environment", "content": "ok"},
            ],
        },
        [{**told("x"), "functions": "[]"}, user(), bot("", function_calls="f()"), {"role": "tool", "content": "ok"}],
    ),
    (
        "Anthropic",
        {
            "system": "Be brief.",
            "messages": [
                user(),
                bot(
                    [
                        {"type": "text", "text": "Wait."},
                        {"type": "tool_use", "id": "t1", "name": "set_lamp", "input": {"on": True}},
                    ]
                ),
                {
                    "role": "user",
                    "content": [
                        {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "ok"}]},
                        {"type": "text", "text": "And?"},
                    ],
                },
                bot([{"type": "thinking", "thinking": "t"}, {"type": "text", "text": "Hello"}]),
            ],
        },
        [
            told(),
            user(),
            bot("Wait.", tool_calls=[call(id="t1")]),
            {"role": "tool", "content": "ok", "tool_call_id": "t1", "name": "set_lamp"},
            user("And?"),
            bot(reasoning_content="t"),
        ],
    ),
    (
        "Mistral's thought",
        {
            "messages": [
                user(),
                bot(
                    [
                        {"type": "thinking", "thinking": [{"type": "text", "text": "t"}]},
                        {"type": "text", "text": "Hello"},
                    ]
                ),
            ]
        },
        [user(), bot(reasoning_content="t")],
    ),
    ("UltraChat-200k", {"prompt": "Hi", "prompt_id": "p", "messages": ASKED}, ASKED),
    ("Tulu 3", {"id": "t", "messages": ASKED, "source": "s"}, ASKED),
    ("SmolTalk2", {"messages": ASKED, "source": "s", "chat_template_kwargs": {"enable_thinking": False}}, ASKED),
    (
        "OpenThoughts-114k",
        {
            "system": "Be brief.",
            "conversations": [{"from": "user", "value": "Hi"}, {"from": "assistant", "value": "Hello"}],
        },
        [told(), *ASKED],
    ),
    (
        "LMSYS-Chat-1M, WildChat-1M",
        {"conversation_id": "c", "model": "m", "conversation": ASKED, "turn": 1, "redacted": False},
        ASKED,
    ),
    (
        "Llama-Nemotron",
        {"input": [user()], "output": "Hello", "category": "c", "reasoning": "off", "system_prompt": "Be brief."},
        [told(), *ASKED],
    ),
    ("Llama-Nemotron, a text", {"input": "Hi", "output": "Hello", "category": "c"}, ASKED),
    ("KTO mix", {"prompt": [user()], "completion": [bot()], "label": True}, ASKED),
    ("KTO, the whole conversation", {"completion": ASKED, "label": True}, ASKED),
    ("Alpaca", {"instruction": "Hi", "input": "", "output": "Hello", "text": "Below is …"}, ASKED),
    ("Alpaca with an input", {"instruction": "Add.", "input": "1 2", "output": "3"}, [user("Add.\n1 2"), bot("3")]),
    ("Alpaca with the input alone", {"instruction": "", "input": "Hi", "output": "Hello"}, ASKED),
    (
        "LLaMA-Factory alpaca",
        {"instruction": "And?", "input": "", "output": "Now.", "system": "Be brief.", "history": [["Hi", "Hello"]]},
        [told(), *ASKED, user("And?"), bot("Now.")],
    ),
    (
        "Dolly",
        {"instruction": "Hi", "context": "there", "response": "Hello", "category": "qa"},
        [user("Hi\nthere"), bot()],
    ),
    ("GPTeacher", {"instruction": "Hi", "input": "there", "response": "Hello"}, [user("Hi\nthere"), bot()]),
    ("MathInstruct", {"source": "s", "instruction": "Hi", "output": "Hello"}, ASKED),
    ("GSM8K, WebInstructSub", {"question": "Hi", "answer": "Hello"}, ASKED),
    ("OpenOrca", {"id": "o", "system_prompt": "", "question": "Hi", "response": "Hello"}, ASKED),
    (
        "axolotl system_prompt/question/response",
        {"system_prompt": "Be brief.", "question": "Hi", "response": "Hello"},
        [told(), *ASKED],
    ),
    ("MetaMath", {"query": "Hi", "response": "Hello", "type": "x", "original_question": "Ho"}, ASKED),
    (
        "ms-swift query/response/history",
        {"query": "And?", "response": "Now.", "history": '[["Hi", "Hello"]]'},
        [*ASKED, user("And?"), bot("Now.")],
    ),
    ("ms-swift, several answers", {"question": "Hi", "answers": ["Hello", "Hey"]}, ASKED),
    ("NuminaMath", {"problem": "Hi", "solution": "Hello", "answer": "42"}, ASKED),
    ("firefly, FLAN", {"kind": "k", "input": "Hi", "target": "Hello"}, ASKED),
    ("axolotl INSTRUCTION/RESPONSE", {"INSTRUCTION": "Hi", "RESPONSE": "Hello"}, ASKED),
    ("axolotl article/summary", {"article": "Hi", "summary": "Hello"}, ASKED),
    ("axolotl message_1/message_2", {"message_1": "Hi", "message_2": "Hello"}, ASKED),
    ("axolotl prompt/generation", {"prompt": "Hi", "generation": "Hello"}, ASKED),
    ("prompt/response", {"prompt": "Hi", "response": "Hello"}, ASKED),
    (
        "ms-swift pairs",
        {"conversations": [{"human": "Hi", "assistant": "Hello"}, {"human": "And?", "assistant": "Now."}]},
        [*ASKED, user("And?"), bot("Now.")],
    ),
    (
        "ms-swift pairs, singular",
        {"conversation": [{"system": "Be brief.", "user": "Hi", "bot": "Hello"}]},
        [told(), *ASKED],
    ),
    (
        "capital speakers",
        {"messages": [{"role": "User", "content": "Hi"}, {"role": "ASSISTANT", "content": "Hello"}]},
        ASKED,
    ),
]


@pytest.mark.parametrize(("name", "record", "turns"), READ, ids=[name for name, *_ in READ])
def test_a_shape_is_read(name: str, record: dict[str, Any], turns: list[dict[str, Any]]) -> None:
    said = parse_record(record)
    assert [turn.to_json() for turn in said.messages] == turns
    assert said.rejected is None
    # tables fill in null columns of other shapes
    other = dict.fromkeys(("messages", "conversations", "chosen", "rejected", "label", "tools", "images", "text"))
    assert parse_record(other | record) == said


PREFERRED = [user(), bot("No")]
PREFERENCES: list[tuple[str, dict[str, Any]]] = [
    ("TRL explicit prompt", {"prompt": [user()], "chosen": [bot()], "rejected": [bot("No")]}),
    ("TRL, one turn each", {"prompt": [user()], "chosen": bot(), "rejected": bot("No")}),
    ("TRL implicit prompt", {"chosen": ASKED, "rejected": PREFERRED}),
    (
        "UltraFeedback binarized",
        {"prompt": "Hi", "messages": ASKED, "chosen": ASKED, "rejected": PREFERRED, "score_chosen": 8.0},
    ),
    ("UltraFeedback", {"instruction": "Hi", "chosen": "Hello", "rejected": "No"}),
    ("LLaMA-Factory alpaca", {"instruction": "Hi", "input": "", "chosen": "Hello", "rejected": "No"}),
    (
        "LLaMA-Factory sharegpt",
        {
            "conversations": [{"from": "human", "value": "Hi"}],
            "chosen": {"from": "gpt", "value": "Hello"},
            "rejected": {"from": "gpt", "value": "No"},
        },
    ),
    ("axolotl", {"messages": [user()], "chosen": bot(), "rejected": bot("No")}),
    ("orca_dpo_pairs", {"system": "", "question": "Hi", "chosen": "Hello", "rejected": "No"}),
    ("distilabel orca", {"system": "", "input": "Hi", "chosen": "Hello", "rejected": "No", "order": ["a"]}),
    ("query", {"query": "Hi", "chosen": "Hello", "rejected": "No"}),
    ("HH-RLHF", {"chosen": "\n\nHuman: Hi\n\nAssistant: Hello", "rejected": "\n\nHuman: Hi\n\nAssistant: No"}),
    (
        "OpenAI",
        {
            "input": {"messages": [user()], "tools": []},
            "preferred_output": [bot()],
            "non_preferred_output": [bot("No")],
        },
    ),
    ("OpenAI, turns alone", {"input": [user()], "preferred_output": [bot()], "non_preferred_output": [bot("No")]}),
    ("rejected alone", {"instruction": "Hi", "output": "Hello", "rejected": "No"}),
    ("ms-swift", {"messages": ASKED, "rejected_response": "No"}),
    ("ms-swift, a turn", {"messages": ASKED, "rejected_response": [bot("No")]}),
    ("ms-swift, whole", {"messages": ASKED, "rejected_messages": PREFERRED}),
    ("ms-swift columns", {"query": "Hi", "response": "Hello", "rejected_response": "No"}),
    ("the chosen answer in the messages too", {"messages": ASKED, "chosen": "Hello", "rejected": "No"}),
    ("turns as JSON text", {"prompt": "Hi", "chosen": json.dumps([bot()]), "rejected": json.dumps([bot("No")])}),
]


@pytest.mark.parametrize(("name", "record"), PREFERENCES, ids=[name for name, _ in PREFERENCES])
def test_a_preference_is_read(name: str, record: dict[str, Any]) -> None:
    said = parse_record(record | {"label": False})  # of a pair it is no label of one answer
    assert said.rejected is not None
    assert [turn.to_json() for turn in said.messages] == ASKED
    assert [turn.to_json() for turn in said.rejected] == PREFERRED
    assert said.wanted is None


def test_a_preference_keeps_its_system_prompt_on_both_sides() -> None:
    record = {"prompt": [told(), user()], "chosen": ASKED, "rejected": PREFERRED}
    for said in parse_record(record)[:2]:
        assert isinstance(said, Conversation)
        assert [turn.role for turn in said] == ["system", "user", "assistant"]


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"messages": [user("<image>Hi"), bot()], "images": ["a.png"]}, "images: the record has a column `images`"),
    (
        {"messages": [user([{"type": "image_url", "image_url": {"url": "x"}}]), bot()]},
        "images: .* a part of type image_url",
    ),
    (
        {"messages": [user([{"type": "image"}, {"type": "text", "text": "Hi"}]), bot()]},
        "images: .* a part of type image",
    ),
    ({"messages": [user([{"type": "input_audio", "input_audio": {}}]), bot()]}, "audio: .* a part of type input_audio"),
    ({"messages": [user("<video>"), bot()], "videos": ["a.mp4"]}, "video: the record has a column `videos`"),
    ({"messages": [user(images=["a.png"]), bot()]}, "images: turn 1 of `messages` has a column `images`"),
    ({"conversations": ASKED, "image": "a.jpg"}, "images: the record has a column `image`"),
    ({"image": {"bytes": "…", "path": None}, "question": "Hi", "answer": "Hello"}, "images: "),
    (
        {"input_ids": [1, 2], "labels": [-100, 2], "attention_mask": [1, 1]},
        "pre-tokenised: the record holds `input_ids`",
    ),
    ({"segments": [{"label": True, "text": "Hi"}]}, "segments: the record holds axolotl's"),
    ({"text": "Once."}, "bare text: .* --columns text=text"),
    ({"text": "Once.", "label": 1}, "bare text: "),
    (
        {"messages": [user(), bot(weight=0.5)]},
        r"turn weight: `weight` of turn 2 of `messages` is 0.5; .*--turn-weights round",
    ),
    ({"messages": [user(), bot(loss_scale=2.0)]}, "turn weight: `loss_scale` of turn 2 .* is 2.0"),
    ({"messages": [user(), bot(loss="no")]}, "turn weight: `loss` of turn 2 .* is 'no'"),
    ({"messages": [user(train=True), bot()]}, "turn weight: `train` of turn 1 .* what the user says"),
    (
        {"messages": [user(), bot(train_detail=[{"begin_offset": 0}])]},
        "turn weight: `train_detail` of turn 2 .* begin_offset",
    ),
    (
        {"messages": [user(), bot(reasoning_content=[{"type": "text", "text": "t", "train": False}])]},
        "turn weight: a part of",
    ),
    (
        {"messages": [user(), {"role": "tool_call", "content": "set_lamp()"}]},
        "malformed tool call: the text of turn 2 .* no JSON",
    ),
    (
        {"messages": [user(), {"role": "tool_call", "content": "{}"}]},
        "malformed tool call: .* not an object with a name",
    ),
    ({"messages": [user(), bot(None, tool_calls="set_lamp()")]}, "malformed tool call: `tool_calls` of turn 2"),
    (
        {"messages": [user(), bot(None, tool_calls='[{"name": "f", "name": "g", "arguments": {}}]')]},
        r"ambiguous JSON: the key 'name' stands twice in one object.* \(in `tool_calls` of turn 2 of `messages`\)",
    ),
    (
        {"messages": [user(), bot(None, tool_calls=[{"name": "f", "arguments": '{"a": {"b": 1, "b": 2}}'}])]},
        r"ambiguous JSON: the key 'b' stands twice in one object.* \(in `tool_calls` of turn 2 of `messages`\)",
    ),
    (
        {"messages": [user(), bot(None, function_call={"name": "f", "arguments": '{"a": 1e400}'})]},
        r"malformed JSON: the number 1e400 is beyond .* \(in `function_call` of turn 2 of `messages`\)",
    ),
    ({"messages": ASKED, "tools": '[{"name": "f", "name": "g"}]'}, r"ambiguous JSON: .* \(in `tools`\)"),
    ({"messages": [user(), bot(None, tool_calls=["f"])]}, "malformed tool call: `tool_calls` of turn 2 .* no JSON"),
    ({"messages": [user(), bot(None, tool_calls=[3])]}, "malformed tool call: .* no list of objects"),
    ({"messages": [user(), bot(None, tool_calls=[{}])]}, "malformed tool call: .* one of them is empty"),
    ({"messages": ASKED, "kto_tag": "good"}, "no label: `kto_tag` is 'good', neither true nor false"),
    ({"messages": [user(), bot(weight="0.3")]}, "turn weight: `weight` of turn 2 of `messages` is '0.3'"),
    (
        {"question": "Why?", "context": "It rained.", "answer": "So."},
        "unread part of a question: `context` .* beside `question`.*--columns prompt=…,context=…",
    ),
    ({"instruction": "Be brief.", "problem": "Why?", "solution": "So."}, "unread part of a question: `instruction`"),
    ({"prompt": "Why?", "context": "It rained.", "response": "So."}, "unread part of a question: `context`"),
    (
        {"question": "Why?", "context": "It rained.", "chosen": "So.", "rejected": "No."},
        "unread part of a question: `context` stands beside `question`",
    ),
    ({"messages": ASKED, "tools": "set_lamp"}, "tools: `tools` is text, but no JSON"),
    ({"messages": ASKED, "tools": [3]}, "tools: `tools` holds int"),
    ({"messages": ASKED, "chat_template_kwargs": [1]}, "template arguments: `chat_template_kwargs` is list"),
    ({"messages": [user(), bot(None)]}, "missing text: `content` of turn 2 of `messages` is null"),
    ({"messages": [user(), bot(None, tool_calls=[])]}, "missing text: `content` of turn 2"),
    (
        {"messages": [user(), {"role": "oracle", "content": "?"}]},
        "unknown role: `role` of turn 2 of `messages` is 'oracle'; write it as one of system, ",
    ),
    (
        {"messages": [{"speaker": "customer", "utterance": "Hello?"}]},
        "unknown role: turn 1 of `messages` has no `role`, and its fields are speaker, utterance; write turns",
    ),
    ({"conversations": [{"from": None, "value": "Hello?"}]}, "unknown role: turn 1 of `conversations` has no `from`, "),
    ({"chosen": "Hello", "rejected": "No"}, "preference without a prompt: .* none of `prompt`, `messages`"),
    (
        {"chosen": [bot()], "rejected": [bot("No")]},
        "preference without a prompt: `chosen` begins with what the assistant says",
    ),
    ({"messages": [user()], "rejected_response": "No"}, "missing text: there is a `rejected_response`"),
    ({"question": "Hi", "answer": False}, "missing text: `answer` is bool, not text"),
    ({"question": "Hi", "answer": 3, "choices": ["a", "b"]}, "missing text: `answer` is a number, 3, and beside `choi"),
    ({"question": "Hi", "answer": 1, "A": "a", "B": "b"}, "missing text: `answer` is a number, 1, and beside `A` it"),
    ({"question": "Hi", "answer": 1, "option1": "a"}, "missing text: `answer` is a number, 1, and beside `option1`"),
    ({"messages": [user(), bot(4)]}, "missing text: `content` of turn 2 of `messages` is int, not text; write it as"),
]


@pytest.mark.parametrize(("record", "message"), REFUSED, ids=range(len(REFUSED)))
def test_what_is_not_read_is_refused_by_name(record: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_record(record)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("4", "4"), ("-4", "-4"), ("4.0", "4.0"), ("0.1", "0.1"), ("1e+20", "1e+20"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
        ("4.10", None), ("1e5", None), ("1E400", None), ("0.10000000000000001", None), ("true", None), ("null", None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("form", ['{{"prompt": "Hi", "completion": {}}}\n', '[{{"prompt": "Hi", "completion": {}}}]'])
def test_a_number_is_an_answer_as_it_is_written(
    written: str, read: str | None, form: str, tmp_path: Path, open_pool: Callable[..., Pool]
) -> None:
    path = tmp_path / "a.json"
    path.write_text(form.format(written) + '{"prompt": "Hi", "completion": "Hello"}\n' * (form[0] == "{"))
    if read is None and form[0] == "[":
        with pytest.raises(DataError, match="no usable record"):
            open_pool(path)
        return
    pool = open_pool(path)
    answers = [each.messages[-1].content for each in pool.examples(0, len(pool))]
    assert answers[: len(answers) - (form[0] == "{")] == ([] if read is None else [read])
    if read is not None:
        again = tmp_path / "again.jsonl"  # as selected.jsonl is read
        again.write_bytes(pool.raw(0))
        assert open_pool(again)[0].messages == pool[0].messages


def test_a_number_in_a_users_own_column_is_an_answer() -> None:
    assert parse_record({"q": "Hi", "a": 4}, mapping(prompt="q", response="a")).messages[-1].content == "4"


def test_a_prompt_may_stand_alone() -> None:
    """As sets for rewards have it, whose result is a number, or several that are right."""
    for reference in ({"answer": 42}, {"answers": ["a", "b"]}):
        assert [turn.to_json() for turn in parse_record({"prompt": "Hi", **reference}).messages] == [user()]


@pytest.mark.parametrize(
    ("record", "turns"),
    [
        # a conversation above columns, which may be metadata of it
        ({"messages": ASKED, "prompt": "a name", "response": "x", "instruction": "y", "output": "z"}, ASKED),
        (
            {
                "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}],
                "input": "x",
                "output": "y",
            },
            ASKED,
        ),
        ({"conversation": ASKED, "question": "x", "answer": "y"}, ASKED),
        ({"messages": ASKED, "input_ids": [1], "labels": [1], "segments": [{}], "text": "Hi Hello"}, ASKED),
        ({"messages": ASKED, "chosen": 0.3, "rejected": 0.1}, ASKED),
        ({"messages": [], "prompt": "Hi", "completion": "Hello"}, ASKED),
        # what was said above the bare result
        ({"question": "Hi", "response": "Hello", "answer": "42"}, ASKED),
        ({"problem": "Hi", "solution": "Hello", "answer": "42"}, ASKED),
        ({"prompt": "Hi", "completion": "Hello", "text": "Hi Hello"}, ASKED),
        ({"instruction": "Hi", "output": "Hello", "response": "x"}, ASKED),
        # metadata by the name of a medium is none
        ({"messages": ASKED, "images": [], "image": None, "audio": "", "video": False, "videos": [None]}, ASKED),
    ],
)
def test_of_two_shapes_the_conversation_is_read(record: dict[str, Any], turns: list[dict[str, Any]]) -> None:
    assert [turn.to_json() for turn in parse_record(record).messages] == turns


BARE = {"name": "f", "description": "d", "parameters": {"type": "object"}}


@pytest.mark.parametrize(
    ("beside", "tools"),
    [
        ({"tools": [SCHEMA]}, [SCHEMA]),
        ({"tools": SCHEMA}, [SCHEMA]),
        ({"tools": json.dumps([SCHEMA])}, [SCHEMA]),
        ({"tools": json.dumps(SCHEMA)}, [SCHEMA]),
        ({"tools": [json.dumps(SCHEMA)]}, [SCHEMA]),
        ({"tools": repr([SCHEMA])}, [SCHEMA]),
        ({"tools": [SCHEMA | {"function": SCHEMA["function"] | {"strict": None}}]}, [SCHEMA]),  # type: ignore[operator]
        ({"tools": [BARE]}, [{"type": "function", "function": BARE}]),
        ({"functions": [BARE]}, [{"type": "function", "function": BARE}]),
        (
            {"tools": [{"name": "f", "description": "d", "input_schema": {"type": "object"}}]},
            [{"type": "function", "function": BARE}],
        ),
        *(({"tools": nothing}, None) for nothing in (None, "", " ", "[]", [], {}, float("nan"))),
        ({"functions": "f(), g()"}, None),
    ],
)
def test_tools_stand_beside_the_conversation(beside: dict[str, Any], tools: list[dict[str, Any]] | None) -> None:
    found = parse_record({"messages": ASKED, **beside}).messages.tools
    assert (json.loads(found) if found else None) == tools
    both = parse_record({"prompt": "Hi", "chosen": "Hello", "rejected": "No", **beside})
    assert both.rejected is not None
    assert both.messages.tools == both.rejected.tools == found


@pytest.mark.parametrize("said_so", [{"enable_thinking": False, "xml_tools": None}, '{"enable_thinking": false}'])
def test_template_arguments_stand_beside_the_conversation(said_so: Any) -> None:
    said = parse_record({"messages": ASKED, "chat_template_kwargs": said_so})
    assert said.messages.template_args == '{"enable_thinking":false}'
    assert said.messages[:1].template_args == said.messages.template_args
    assert parse_record({"messages": ASKED, "chat_template_kwargs": {}}).messages.template_args == ""


def test_arguments_stay_an_object_or_a_text_and_keys_stay_in_order() -> None:
    for arguments in ('{"b": 1,  "a": null}', {"b": 1, "a": 2}):
        turn = parse_record({"messages": [user(), bot(None, tool_calls=[call(arguments=arguments)])]}).messages[1]
        assert turn.fields["tool_calls"][0]["function"]["arguments"] == arguments  # type: ignore[index,call-overload]
    assert parse_record({"messages": [user(), bot(z=1, a=2)]}).messages[1].extra == '{"z":1,"a":2}'


@pytest.mark.parametrize(
    "mark",
    [
        {"weight": 0},
        {"weight": 0.0},
        {"weight": False},
        {"loss": False},
        {"loss": 0},
        {"loss_scale": 0.0},
        {"train": False},
        {"train": 0},
        {"weight": 1, "train": False},
        {"train_detail": []},
    ],
)
def test_a_turn_that_is_not_to_be_learnt_has_no_loss_and_no_trace_of_it(mark: dict[str, Any]) -> None:
    record = {
        "messages": [user(), bot("Made up.", **mark), user(), bot(weight=1, loss=True, train=True, loss_scale=None)]
    }
    said = parse_record(record).messages
    assert [turn.loss for turn in said] == [True, False, True, True]
    assert not any(turn.extra for turn in said)


@pytest.mark.parametrize(("weight", "learnt"), [(0.5, True), (0.49, False), (3, True), (0, False), (1, True)])
def test_weights_are_rounded_where_asked_for(weight: float, learnt: bool) -> None:
    rounding = Reading(rounds_weights=True)
    assert parse_record({"messages": [user(), bot(weight=weight)]}, rounding).messages[1].loss == learnt
    with pytest.raises(DataError, match="turn weight"):
        parse_record({"messages": [user(), bot(weight=-1)]}, rounding)


def test_parts_say_for_themselves_what_is_learnt() -> None:
    parts = [
        {"type": "text", "text": "ab", "train": False},
        {"type": "text", "text": "c", "weight": 0},
        {"type": "text", "text": "de"},
        {"type": "text", "text": "f", "train": True, "weight": 0},
        {"type": "text", "text": "", "train": False},
        {"type": "text", "text": "g", "weight": 0},
    ]
    turn = parse_record({"messages": [user(), bot(parts)]}).messages[1]
    assert (turn.content, turn.loss, turn.no_loss) == ("abcdefg", True, ((0, 3), (6, 7)))


@given(
    st.text(min_size=1, max_size=12),
    st.lists(st.tuples(st.integers(0, 14), st.integers(0, 14), st.booleans()), min_size=1),
)
def test_train_detail_leaves_out_what_no_stretch_trains(content: str, stretches: list[tuple[int, int, bool]]) -> None:
    detail = [{"begin_offset": begin, "end_offset": end, "train": train} for begin, end, train in stretches]
    turn = parse_record({"messages": [user(), bot(content, train_detail=detail)]}).messages[1]
    trained = [any(begin <= i <= end and train for begin, end, train in stretches) for i in range(len(content))]
    assert [not any(start <= i < stop for start, stop in turn.no_loss) for i in range(len(content))] == trained
    assert all(a[1] < b[0] for a, b in zip(turn.no_loss, turn.no_loss[1:], strict=False))


@pytest.mark.parametrize(
    ("record", "wanted"),
    [
        ({"messages": ASKED, "label": False}, False),
        ({"prompt": "Hi", "completion": "Hello", "label": True}, True),
        ({"prompt": "Hi", "completion": "Hello", "label": "False"}, False),  # a CSV file's
        ({"instruction": "Hi", "input": "", "output": "Hello", "kto_tag": False}, False),
        ({"messages": ASKED, "kto_tag": 0}, False),
        ({"query": "Hi", "response": "Hello", "label": False}, False),
        ({"messages": ASKED, "label": None}, None),
        ({"messages": ASKED, "label": 0}, None),  # the class of something
        ({"messages": ASKED, "label": 0.0}, None),
        ({"messages": ASKED, "label": "false"}, False),  # a CSV file's
        ({"conversations": ASKED, "label": "TRUE"}, True),
        ({"messages": ASKED, "label": "0"}, None),
        ({"prompt": "Hi", "completion": "Hello", "label": 0}, False),  # a data frame's
        ({"completion": ASKED, "label": 1.0}, True),
        ({"prompt": "Hi", "completion": "Hello", "label": 2}, None),
        ({"messages": ASKED, "kto_tag": "0.0"}, False),
        ({"messages": ASKED, "kto_tag": ""}, None),
        ({"question": "Is it?", "answer": "no", "label": "False"}, None),
        ({"messages": ASKED, "label": [False]}, None),
        ({"messages": [user()], "label": False}, None),
        ({"prompt": "Hi", "completion": "Hello", "label": "entailment"}, None),
    ],
)
def test_a_label_is_ktos_where_it_judges_an_answer(record: dict[str, Any], wanted: bool | None) -> None:
    assert parse_record(record).wanted is wanted


def mapping(**columns: str) -> Reading:
    return ReadingSettings(columns=columns).reading


@pytest.mark.parametrize(
    ("columns", "record", "turns"),
    [
        ({"prompt": "q", "response": "a"}, {"q": "Hi", "a": "Hello"}, ASKED),
        ({"prompt": "q", "response": "a"}, {"q": [user()], "a": [bot()]}, ASKED),
        ({"prompt": "q", "response": "a"}, {"q": "Hi", "a": ["Hello", "Hey"], "messages": [user("x")]}, ASKED),
        (
            {"prompt": "q", "response": "a", "system": "s", "context": "c"},
            {"q": "Hi", "a": "Hello", "s": "Be brief.", "c": "there"},
            [told(), user("Hi\nthere"), bot()],
        ),
        ({"prompt": "q", "response": "a", "system": "s", "context": "c"}, {"q": "Hi", "a": "Hello", "c": ""}, ASKED),
        ({"prompt": "q"}, {"q": "Hi"}, [user()]),
        ({"messages": "dialog", "system": "s"}, {"dialog": json.dumps(ASKED), "s": "Be brief."}, [told(), *ASKED]),
        ({"messages": "dialog"}, {"messages": ASKED}, ASKED),  # of another file: by the table
    ],
)
def test_a_users_own_columns(columns: dict[str, str], record: dict[str, Any], turns: list[dict[str, Any]]) -> None:
    assert [turn.to_json() for turn in parse_record(record, mapping(**columns)).messages] == turns


def test_a_users_own_columns_of_preferences_labels_and_tools() -> None:
    pair = parse_record({"q": "Hi", "w": "Hello", "l": "No"}, mapping(prompt="q", chosen="w", rejected="l"))
    assert pair.rejected is not None
    assert [turn.to_json() for turn in pair.rejected] == PREFERRED
    with_tools = parse_record({"q": "Hi", "a": "Hello", "t": [SCHEMA]}, mapping(prompt="q", response="a", tools="t"))
    assert json.loads(with_tools.messages.tools) == [SCHEMA]
    labelled = mapping(prompt="q", response="a", label="good")
    assert [
        parse_record({"q": "Hi", "a": "Hello", "good": good}, labelled).wanted for good in (1, 0, "true", None)
    ] == [
        True,
        False,
        True,
        None,
    ]
    with pytest.raises(DataError, match="no label: `good` is 5, neither"):
        parse_record({"q": "Hi", "a": "Hello", "good": 5}, labelled)
    with pytest.raises(DataError, match="missing text: the response's column `a` is null or missing"):
        parse_record({"q": "Hi", "a": None}, mapping(prompt="q", response="a"))


def test_a_bare_text_is_a_document_where_asked_for() -> None:
    said = parse_record({"body": "Once."}, mapping(text="body")).messages
    assert said == (Message("assistant", "Once."),)
    assert (said.document, said[:1].document) == (True, True)
    assert not parse_record({"messages": ASKED}, mapping(text="body")).messages.document


def test_the_page_has_the_table_of_shapes() -> None:
    table = re.search(r"<!-- shapes -->\n(.*?)<!-- /shapes -->", DOCS.read_text("utf-8"), re.DOTALL)
    assert table
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table[1].splitlines()[2:]]
    assert [(name, tuple(re.findall(r"`([^`]+)`", fields))) for name, fields, _ in rows] == [
        (fmt.name, fmt.fields) for fmt in FORMATS
    ]


def test_every_shape_of_the_table_has_a_record_here() -> None:
    records = [record for _, record, *_ in (*READ, *PREFERENCES)] + [{"prompt": "Hi", "answer": 42}]
    assert {read_record(record)[0] for record in records} == {fmt.name for fmt in FORMATS}
    assert read_record({"q": "Hi"}, mapping(prompt="q"))[0] == "columns of your own"


def test_what_was_read_is_written_back_byte_for_byte(tmp_path: Path, open_pool: Callable[..., Pool]) -> None:
    records = [record for _, record, *_ in (*READ, *PREFERENCES)]
    lines = [json.dumps(record | {"id": f"r{i}"}).encode() for i, record in enumerate(records)]
    file = tmp_path / "all.jsonl"
    file.write_bytes(b"\n".join(lines))
    pool = open_pool(file)
    assert [pool.raw(row) for row in range(len(pool))] == lines
    for row, record in enumerate(records):  # through the cache and back
        said = parse_record(record)
        assert (pool[row].messages, pool[row].rejected) == (said.messages, said.rejected)
        assert vars(pool[row].messages) == vars(said.messages)


@pytest.mark.parametrize(
    "record",
    [
        {"messages": [user(), bot(train_detail=[{"begin_offset": float("inf"), "end_offset": 1, "train": True}])]},
        {"messages": [user(), bot(weight=float("inf"))]},
        {"messages": '[{"role": "user", "content": "\\ud83d"}]'},
        {"messages": ASKED, "tools": "{[]: 1}"},
        {"messages": ASKED, "tools": "[" * 100_000},
    ],
)
def test_what_looks_like_nothing_known_ends_no_run(record: dict[str, Any]) -> None:
    with pytest.raises(DataError):
        parse_record(record, Reading(rounds_weights=True))


def test_a_pair_says_of_its_answer_whether_it_is_learnt() -> None:
    pairs = [
        {"human": "Hi", "assistant": "Made up.", "loss": False},
        {"human": "Hi", "assistant": "Hello", "name": "b"},
    ]
    said = parse_record({"conversations": pairs}).messages
    assert [(turn.role, turn.loss) for turn in said] == [
        ("user", True),
        ("assistant", False),
        ("user", True),
        ("assistant", True),
    ]
    assert said[3].fields == {"name": "b"}


def test_calls_may_be_objects_where_others_have_their_text() -> None:
    turns = [user(), {"from": "function_call", "value": {"name": "set_lamp", "arguments": {"on": True}}}]
    assert [turn.to_json() for turn in parse_record({"conversations": turns}).messages] == [user(), CALLING]


_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["", "Hi", "[]", "{}", '[{"role":"user"}]']),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["role", "from", "content", "value", "type", "text", "name", "arguments", "function", "input"]
            ),
            inner | st.sampled_from(["user", "assistant", "tool_call", "text", "tool_use", "tool_result", "thinking"]),
            max_size=4,
        )
    ),
    max_leaves=8,
)
_TURN = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "tool", "tool_call"]), "content": _VALUES},
    optional={"tool_calls": _VALUES, "train_detail": _VALUES, "weight": _VALUES, "thinking": _VALUES},
)
_BESIDE = st.dictionaries(
    st.sampled_from(
        ["tools", "label", "system", "history", "rejected_response", "chosen", "rejected", "images", "input"]
    ),
    _VALUES,
    max_size=3,
)


@given(st.lists(_TURN, min_size=1, max_size=3) | _VALUES, _BESIDE)
def test_any_record_is_read_or_refused(turns: Any, beside: dict[str, Any]) -> None:
    for field in ("messages", "prompt", "query"):
        try:
            said = parse_record({field: turns, "response": "Hello", **beside})
        except DataError:
            continue
        for turn in (*said.messages, *(said.rejected or ())):
            assert isinstance(turn.content, str)
            assert all(0 <= start < stop <= len(turn.content) for start, stop in turn.no_loss)
            assert isinstance(turn.fields, dict)
