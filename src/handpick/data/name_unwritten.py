"""What a conversation carries and its template does not write.

Turns carry much that nobody means for a model: who asked, when, in which language. So of their fields those count that
models are known to read, or that say of a turn how it is learnt in words that handpick does not know, and those that
the template itself speaks of.
"""

import re
from collections import defaultdict

from handpick.data.chat_template import ChatTemplate, Form, without_field
from handpick.data.examples import Conversation
from handpick.data.loss_spans import TurnSpans
from handpick.data.marks import Placed
from handpick.errors import DataError

# They say what belongs together, which the order of turns does too.
_IDENTIFIERS = {"id", "tool_call_id", "tool_use_id"}

# what some model's template writes of a turn, under all the names that records have for it
_READ_BY_MODELS = {
    *("tool_calls", "function_call", "function_calls", "functions", "tools", "tool_plan", "tool_responses", "is_error"),
    *("reasoning_content", "reasoning", "thinking", "thought", "thoughts", "name", "refusal", "documents", "citations"),
}
# what may say that a turn is not to be learnt, and is in no loader's documents
_OF_THE_LOSS = {"training", "trainable", "mask", "masked", "loss_mask"}


def name_unwritten(template: ChatTemplate, spans: TurnSpans, conversation: Conversation) -> tuple[str, ...]:
    """Name what a conversation carries and the template does not write, in the alphabet's order.

    Returns:
        Names of fields of turns, "tools", "chat_template_kwargs", "text of a system turn" and its like; none where all
        is written, or where the template refuses the conversation.

    Raises:
        ModelError: the template is not valid Jinja.
    """
    conversation = _without_metadata(template, conversation)
    try:
        form, (text, _) = template.write_first(conversation)
        placed = spans.write(conversation, form, range(-1, len(conversation)), ask=False, text=text)
    except DataError:
        return ()
    # A template that rewrites some text may do so because of a mark; of which it leaves out nothing is said then.
    names = _names(conversation, placed) if placed.text == text else set()
    for field in {field for message in conversation for field in message.fields} - _IDENTIFIERS:
        if _writes(template, without_field(conversation, field), form) == text:
            names = {name for name in names if not name.startswith(f"{field} ")} | {field}
    without_args = Conversation(conversation, conversation.tools)
    if conversation.template_args and _writes(template, without_args, form) == text:
        names.add("chat_template_kwargs")
    return tuple(sorted(names))


def _without_metadata(template: ChatTemplate, conversation: Conversation) -> Conversation:
    """Return a conversation without the fields of its turns that neither models nor its template know of."""
    names = {name for message in conversation if message.extra for name in message.fields}
    unknown = names - _READ_BY_MODELS - _OF_THE_LOSS - _IDENTIFIERS
    for name in sorted(name for name in unknown if not _speaks_of(template, conversation, name)):
        conversation = without_field(conversation, name)
    return conversation


def _speaks_of(template: ChatTemplate, conversation: Conversation, name: str) -> bool:
    """Return whether a template looks a field up by its name."""
    source = template.source_for(conversation)
    return re.search(rf"""\.\s*{re.escape(name)}\b|['"]{re.escape(name)}['"]""", source) is not None


def _writes(template: ChatTemplate, conversation: Conversation, form: Form) -> str | None:
    try:
        return template.write(conversation, form).text
    except DataError:  # it misses what is not there any more
        return None


def _names(conversation: Conversation, placed: Placed) -> set[str]:
    """Name the fields that are left out of one turn or more."""
    written, left_out = defaultdict[str, set[int]](set), defaultdict[str, set[int]](set)
    for place in placed.places:
        written[_field(conversation, place.slot.turn, place.slot.field)].add(place.slot.turn)
    for slot in placed.left_out:
        left_out[_field(conversation, slot.turn, slot.field)].add(slot.turn)
    names = set()
    for field, turns in left_out.items():
        if not written[field]:
            names.add(field)
        elif field != "tools":  # a template that writes of a tool what it needs has written it
            some = turns - written[field]
            names.add(f"{field} of some turns" if some else f"part of {field}")
    return names


def _field(conversation: Conversation, turn: int, field: str) -> str:
    return f"text of {conversation[turn].role} turns" if field == "content" else field
