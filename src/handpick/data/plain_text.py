"""A conversation as text, for what reads text and knows no model's template."""

from collections.abc import Sequence
from dataclasses import replace

from handpick.data.examples import Message

# what an answer may be besides its text
_SAID_BESIDE = ("tool_calls", "function_calls", "reasoning_content", "reasoning", "thinking")


def contents(messages: Sequence[Message]) -> str:
    """Return what was said, a turn behind the other, and nothing else: for what counts words."""
    return "\n".join(message.content for message in messages)


def begin_text(messages: Sequence[Message], room: int) -> str:
    """Return the first characters of what was said, on one line: for people to recognise it by."""
    text = " ".join(contents(messages)[: 4 * room].split())
    return text if len(text) <= room else f"{text[: room - 1]}…"


def has_response(messages: Sequence[Message]) -> bool:
    """Return whether an assistant says anything that is to be learnt: without it there is nothing to learn from.

    A call of a tool or a thought is something to learn too. What the data says is not to be learnt is not.
    """
    return any(message.role == "assistant" and message.loss and _is_said(message) for message in messages)


def _is_said(message: Message) -> bool:
    if message.extra and any(message.fields.get(name) for name in _SAID_BESIDE):
        return True
    if not message.no_loss:
        return bool(message.content.strip())
    edges = [0, *(edge for span in message.no_loss for edge in span), len(message.content)]
    learnt = (message.content[start:end] for start, end in zip(edges[::2], edges[1::2], strict=True))
    return any(part.strip() for part in learnt)


def no_response(messages: Sequence[Message]) -> str:
    """Return why there is nothing to learn from, of a conversation without a response."""
    return why_unlearnt(messages) or "no response to learn from"


def why_unlearnt(messages: Sequence[Message]) -> str | None:
    """Return why there is nothing to learn from where answers are there, and the data says to learn from none."""
    if has_response(messages) or not has_response([replace(each, loss=True, no_loss=()) for each in messages]):
        return None
    return "no response to learn from: the record says of all its answers that they are not to be learnt"


def conversation(messages: Sequence[Message]) -> str:
    """Return who said what, in the Tulu form: for sentence encoders."""
    return "\n".join(f"<|{message.role}|>\n{message.content}" for message in messages)
