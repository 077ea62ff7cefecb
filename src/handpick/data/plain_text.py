"""A conversation as text, for what reads text and knows no model's template."""

from collections.abc import Sequence

from handpick.data.examples import Message


def contents(messages: Sequence[Message]) -> str:
    """Return what was said, a turn behind the other, and nothing else: for what counts words."""
    return "\n".join(message.content for message in messages)


def has_response(messages: Sequence[Message]) -> bool:
    """Return whether an assistant says anything: without it there is nothing to learn from."""
    return any(message.role == "assistant" and message.content.strip() for message in messages)


def conversation(messages: Sequence[Message]) -> str:
    """Return who said what, in the Tulu form: for sentence encoders."""
    return "\n".join(f"<|{message.role}|>\n{message.content}" for message in messages)
