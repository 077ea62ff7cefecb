"""What handpick's renderer gives for a family and a record, to be held to what was written down by hand."""

import json
from functools import cache
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from handpick.bundled import model_path
from handpick.data.examples import Conversation, Message
from handpick.data.render import Renderer
from tests.data.chat_shapes import as_templates_take_it, is_learnt
from tests.data.chat_templates.families import Family
from tests.data.chat_templates.oracle import template_text


def conversation(record: dict[str, Any]) -> Conversation:
    """Return a record's turns as handpick holds them."""
    turns = []
    for raw, taken in zip(record["messages"], as_templates_take_it(record["messages"]), strict=True):
        extra = {name: value for name, value in taken.items() if name not in ("role", "content")}
        loss = is_learnt(raw) or raw["role"] != "assistant"
        turns.append(Message(taken["role"], taken["content"], json.dumps(extra) if extra else "", loss))
    return Conversation(turns, json.dumps(record["tools"]) if "tools" in record else "")


@cache
def tokenizer(family: Family) -> PreTrainedTokenizerBase:
    """Return the bundled tokenizer with the family's template and special tokens."""
    loaded = AutoTokenizer.from_pretrained(model_path())
    loaded.add_special_tokens(
        {"additional_special_tokens": list(family.special_tokens), "eos_token": family.eos},
    )
    loaded.bos_token = family.bos or None
    loaded.chat_template = template_text(family)
    return loaded


def learnt_spans(family: Family, record: dict[str, Any]) -> tuple[str, list[tuple[int, int]]]:
    """Return the training text and the spans of its characters that are learnt.

    Raises:
        HandpickError: where the renderer refuses the record.
    """
    return Renderer(tokenizer(family)).spans(conversation(record))


def unwritten_fields(family: Family, record: dict[str, Any]) -> set[str]:
    """Return what the renderer says that the record carries and the template does not write."""
    named = Renderer(tokenizer(family)).unwritten(conversation(record))
    fields = {name.removesuffix(" of some turns") for name in named if not name.startswith("text of")}
    return fields - {"name"}  # of a tool, which few templates write
