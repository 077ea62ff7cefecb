"""Conversations in LLaMA-Factory's own form, for those who let it render: ShareGPT with calls, results and tools.

What that form has no word for is not written otherwise than it is: such a conversation is refused, with the reason.
"""

import json
from typing import Any

from handpick.data.examples import Conversation, Json, Message
from handpick.errors import DataError

_NO_WORD_FOR = ("functions", "function_calls", "tool_plan")  # fields of turns that other trainers' templates write
_REASONING = ("reasoning_content", "reasoning", "thinking")
_BETWEEN_RESULTS = "\n</tool_response>\n<tool_response>\n"  # as LLaMA-Factory joins the results of parallel calls
_SPEAKERS = {"user": "human", "assistant": "gpt", "tool": "observation"}


def sharegpt_record(conversation: Conversation) -> dict[str, Any]:
    """Return a conversation as LLaMA-Factory's ``sharegpt`` formatting reads it.

    Raises:
        DataError: it says something that the form has no word for; the reason is short, for counting.
    """
    if conversation.document:
        raise DataError("a text without turns")
    if conversation.template_args:
        raise DataError("arguments of the chat template")
    system = conversation[0].content if conversation[0].role == "system" else ""
    turns: list[dict[str, str]] = []
    for message in conversation[1:] if conversation[0].role == "system" else conversation:
        turn = _turn(message)
        if turns and turn["from"] == turns[-1]["from"] == "observation":
            turns[-1]["value"] += _BETWEEN_RESULTS + turn["value"]
        else:
            turns.append(turn)
    answers = [turn["from"] in ("gpt", "function_call") for turn in turns]
    if answers != [i % 2 == 1 for i in range(len(turns))] or not answers[-1]:
        raise DataError("turns that do not alternate")
    return {"conversations": turns, "system": system, "tools": conversation.tools}


def _turn(message: Message) -> dict[str, str]:
    if message.role not in _SPEAKERS:
        raise DataError(f"a {message.role} turn that is not the first")
    if message.role == "assistant" and (not message.loss or message.no_loss):
        raise DataError("turns or parts that are not learnt")
    fields = message.fields
    if foreign := [name for name in _NO_WORD_FOR if fields.get(name)]:
        raise DataError(f"the field {foreign[0]}")
    thought = next((f"<think>\n{fields[name]}\n</think>\n\n" for name in _REASONING if fields.get(name)), "")
    calls = fields.get("tool_calls")
    if not calls:
        return {"from": _SPEAKERS[message.role], "value": thought + message.content}
    if message.content.strip():
        raise DataError("text beside calls")
    listed = [_call(call) for call in calls] if isinstance(calls, list) else []
    return {"from": "function_call", "value": thought + json.dumps(listed, ensure_ascii=False)}


def _call(call: Json) -> dict[str, Json]:
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise DataError("calls of another form")
    arguments = function.get("arguments", {})
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except ValueError:
            raise DataError("arguments that are no JSON") from None
    return {"name": function["name"], "arguments": arguments}
