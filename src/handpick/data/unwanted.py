"""Answers that were judged by themselves, wanted or not (KTO): what becomes of them in a pool."""

from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from handpick.data.examples import Conversation

Unwanted = Literal["aside", "pair", "keep"]

UNWANTED = "unwanted answer: its label is false (KTO), and what is chosen is learnt as it stands"


@dataclass(frozen=True, slots=True)
class Judged:
    """Rows that are left out: ``partner`` has the unwanted answer of a wanted one, ``set_aside`` why of the others."""

    partner: dict[int, int] = field(default_factory=dict)
    set_aside: dict[int, str] = field(default_factory=dict)


def pair_answers(answers: Iterable[tuple[int, bool, Conversation]]) -> Judged:
    """Pair the wanted and the unwanted answers of one prompt, in the order they come: the first with the first.

    Args:
        answers: row, label and conversation of each.
    """
    waiting: dict[object, tuple[deque[int], deque[int]]] = defaultdict(lambda: (deque(), deque()))
    judged = Judged()
    for row, wanted, messages in answers:
        own, others = waiting[_prompt(messages)][:: 1 if wanted else -1]
        if not others:
            own.append(row)
            continue
        other = others.popleft()
        judged.partner[row if wanted else other] = other if wanted else row
    for wanted_rows, unwanted_rows in waiting.values():
        judged.set_aside.update((row, _alone("wanted", "unwanted")) for row in wanted_rows)
        judged.set_aside.update((row, _alone("unwanted", "wanted")) for row in unwanted_rows)
    return judged


def _prompt(messages: Conversation) -> object:
    """Return what was said before the answer, with what a template reads of it."""
    asked = max((i for i, turn in enumerate(messages, 1) if turn.role == "user"), default=0)
    said = tuple((turn.role, turn.content, turn.extra) for turn in messages[:asked])
    return said, messages.tools, messages.template_args


def _alone(what: str, lacking: str) -> str:
    return f"unpaired answer: a {what} one (KTO) whose prompt has no further {lacking} one to stand against it"
