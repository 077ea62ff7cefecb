"""Which fields of turns are named where a template does not write them: those that models read, and no metadata."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from handpick.data.examples import Conversation, Message
from handpick.data.render import Renderer

WILDCHAT = {"language": "English", "toxic": False, "turn_identifier": 1, "header": {"accept-language": "en"}}


def unwritten(tiny_model: Path, template: str, fields: dict[str, Any]) -> tuple[str, ...]:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.chat_template = template
    turns = Conversation([Message("user", "Hi", json.dumps(fields)), Message("assistant", "Hello")])
    return Renderer(tokenizer).unwritten(turns)


PLAIN = "{% for m in messages %}{{ m['role'] }} says in one language: {{ m['content'] }}</s>{% endfor %}"
SPEAKS = PLAIN + "{% if messages[0].language == 'nb' %}!{% endif %}{{ '' if messages[0]['toxic'] is undefined }}"


@pytest.mark.parametrize(
    ("template", "fields", "named"),
    [
        (PLAIN, WILDCHAT, ()),
        (PLAIN, WILDCHAT | {"tool_calls": [{"name": "f"}], "thinking": "t"}, ("thinking", "tool_calls")),
        (PLAIN, {"mask": True, "name": "Ann", "tool_call_id": "c"}, ("mask", "name")),
        (SPEAKS, WILDCHAT, ("language", "toxic")),
    ],
)
def test_metadata_of_turns_counts_where_the_template_speaks_of_it(
    tiny_model: Path, template: str, fields: dict[str, Any], named: tuple[str, ...]
) -> None:
    assert unwritten(tiny_model, template, fields) == named
