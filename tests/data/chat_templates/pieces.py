"""The words that a family's training text is written down in: a string, and whether the model learns it."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

from tests.data.chat_shapes import Message, is_learnt

Tools = list[dict[str, Any]] | None


class Kind(Enum):
    """What a piece of training text is to the loss."""

    GIVEN = "given"  # never learnt
    LEARNT = "learnt"
    FREE = "free"  # white space and the like, which trainers mark either way
    PREAMBLE = "preamble"  # any text up to here, none of it learnt
    LEFT_OUT = "left out"  # no text: the template leaves what was to be learnt here out, so a refusal is right too
    APPENDED = "appended"  # learnt, and no part of the template's text: the end of the last turn
    MAY_BE_APPENDED = "may be appended"


@dataclass(frozen=True)
class Piece:
    """A part of a training text."""

    text: str
    kind: Kind


Writer = Callable[[list[Message], Tools], Iterator[Piece]]


class Refused(Exception):
    """The template raises; the message says why."""


def given(text: str) -> Piece:
    """Return what the model reads."""
    return Piece(text, Kind.GIVEN)


def free(text: str) -> Piece:
    """Return what may be learnt or not."""
    return Piece(text, Kind.FREE)


def said(message: Message, text: str) -> Piece:
    """Return what the model writes in a turn, learnt where the data lets the turn be learnt."""
    return Piece(text, Kind.LEARNT if is_learnt(message) else Kind.GIVEN)


def left_out(what: str) -> Piece:
    """Return the place of what the template does not write."""
    assert what
    return Piece("", Kind.LEFT_OUT)


def appended(message: Message, text: str) -> Piece:
    """Return the end of the last turn, which the template does not write."""
    return Piece(text if is_learnt(message) else "", Kind.APPENDED)


PREAMBLE = Piece("", Kind.PREAMBLE)


def compact(value: Any) -> str:
    """Return JSON as transformers' ``tojson`` writes it."""
    return json.dumps(value, ensure_ascii=False)


def calls(message: Message) -> list[dict[str, Any]]:
    """Return a turn's calls, each with its name and its arguments."""
    return [call["function"] for call in message.get("tool_calls", [])]


def must_alternate(messages: list[Message]) -> None:
    """Refuse roles that do not alternate from a user's turn on."""
    for place, message in enumerate(messages):
        if (message["role"] == "user") != (place % 2 == 0):
            raise Refused(f"roles must alternate, and turn {place + 1} is {message['role']}'s")


def past_system(messages: list[Message]) -> list[Message]:
    """Return the turns behind a system turn that comes first."""
    return messages[1:] if messages[0]["role"] == "system" else messages


def last_user(messages: list[Message]) -> int:
    """Return the place of the last user's turn, -1 where there is none."""
    return max((place for place, message in enumerate(messages) if message["role"] == "user"), default=-1)


def thought_apart(message: Message) -> tuple[str, str]:
    """Return a turn's reasoning and its answer as Qwen's and GLM's templates tell them apart."""
    content = message["content"]
    if isinstance(message.get("reasoning_content"), str):
        return message["reasoning_content"], content
    if "</think>" in content:
        before = content.split("</think>")[0].rstrip("\n").split("<think>")[-1].lstrip("\n")
        return before, content.split("</think>")[-1].lstrip("\n")
    return "", content


def is_first_result(messages: list[Message], place: int) -> bool:
    """Return whether a run of tool turns begins here."""
    return place == 0 or messages[place - 1]["role"] != "tool"


def is_last_result(messages: list[Message], place: int) -> bool:
    """Return whether a run of tool turns ends here."""
    return place + 1 == len(messages) or messages[place + 1]["role"] != "tool"
