"""How records were read by the first rule, before turns kept their fields. Nothing is read by it any more.

It is there to tell of a record whether what was made by that rule may be used again (``handpick.data.version``), and so
is never changed.
"""

import re
from collections.abc import Mapping
from typing import Any

Turns = list[tuple[str, str]]
Sides = tuple[Turns, Turns | None]
FirstReading = tuple[str | None, Turns, Turns | None]

_ROLES = {
    "system": "system", "user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant",
    "bot": "assistant", "model": "assistant", "tool": "tool",
}  # fmt: skip
_SHAPES = (
    ("prompt", "chosen", "rejected"),
    ("conversations", "chosen", "rejected"),
    ("chosen", "rejected"),
    ("messages",),
    ("conversations",),
    ("instruction", "output"),
    ("instruction", "context", "response"),
    ("instruction", "response"),
    ("prompt", "completion"),
    ("prompt", "response"),
    ("prompt",),
)


class _SetAside(Exception):
    """The first rule could not use the record."""


def read_by_rule_one(record: Mapping[str, Any]) -> FirstReading | None:
    """Return a record's own id, its turns and those of its rejected answer; None where it was set aside."""
    try:
        return _own_id(record), *_sides(record)
    except _SetAside:
        return None


def _own_id(record: Mapping[str, Any]) -> str | None:
    own = record.get("id")
    if own is None or own == "":
        return None
    if isinstance(own, bool) or not isinstance(own, str | int):
        raise _SetAside
    return str(own)


def _sides(record: Mapping[str, Any]) -> Sides:
    there = {field for field, value in record.items() if value is not None}
    shape = next((each for each in _SHAPES if there.issuperset(each)), None)
    if shape is None:
        raise _SetAside
    messages, rejected = _read(record, shape)
    told = next((record[field] for field in ("system", "system_prompt") if record.get(field)), None)
    if told is None:
        return messages, rejected
    first = ("system", _text(told))
    sides = [side if side is None or side[0][0] == "system" else [first, *side] for side in (messages, rejected)]
    return sides[0] or [], sides[1]


def _read(record: Mapping[str, Any], shape: tuple[str, ...]) -> Sides:
    if shape[-1] == "rejected":
        return _preferred(record, shape[0], "chosen"), _preferred(record, shape[0], "rejected")
    if shape[0] in ("messages", "conversations"):
        return _turns(record[shape[0]]), None
    if shape[0] == "instruction":
        return _instructed(record, shape[-1], shape[1] if len(shape) == 3 else "input"), None
    prompt = _side(record["prompt"], "user")
    if shape == ("prompt",):
        if any(field in record for field in ("completion", "response", "chosen", "rejected")):
            raise _SetAside
        return prompt, None
    answer = _side(record[shape[1]], "assistant")
    if isinstance(record[shape[1]], str):
        answer = [("assistant", answer[0][1].removesuffix("<|endoftext|>"))]
    return prompt + answer, None


def _preferred(record: Mapping[str, Any], prompt: str, field: str) -> Turns:
    value = record[field]
    if prompt == "chosen":
        return _hh_turns(value) if isinstance(value, str) else _turns(value)
    before, answer = _side(record[prompt], "user"), _side(value, "assistant")
    return answer if answer[0][0] in ("system", "user") else before + answer


def _hh_turns(text: str) -> Turns:
    before, *rest = re.split(r"\n\n(Human|Assistant):", text)
    if before.strip() or not rest:
        raise _SetAside
    roles = {"Human": "user", "Assistant": "assistant"}
    return [(roles[who], said.strip()) for who, said in zip(rest[::2], rest[1::2], strict=True)]


def _instructed(record: Mapping[str, Any], response: str, context: str) -> Turns:
    prompt = _text(record["instruction"])
    if record.get(context):
        prompt += "\n\n" + _text(record[context])
    pairs = record.get("history") or []
    turns: Turns = []
    for pair in pairs if isinstance(pairs, list) else [pairs]:
        if not isinstance(pair, list) or len(pair) != 2:
            raise _SetAside
        turns += [("user", _text(pair[0])), ("assistant", _text(pair[1]))]
    return [*turns, ("user", prompt), ("assistant", _text(record[response]))]


def _side(value: Any, role: str) -> Turns:
    if isinstance(value, str):
        return [(role, value)]
    return _turns([value] if isinstance(value, dict) else value)


def _turns(value: Any) -> Turns:
    if not isinstance(value, list) or not value:
        raise _SetAside
    return [_turn(each) for each in value]


def _turn(turn: Any) -> tuple[str, str]:
    if not isinstance(turn, dict):
        raise _SetAside
    name, content = ("from", "value") if "from" in turn else ("role", "content")
    role = turn.get(name)
    if not isinstance(role, str) or role not in _ROLES:
        raise _SetAside
    return _ROLES[role], _text(turn.get(content))


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(_part(each) for each in value)
    raise _SetAside


def _part(part: Any) -> str:
    if isinstance(part, dict) and part.get("type") == "text":
        return _text(part.get("text"))
    raise _SetAside
