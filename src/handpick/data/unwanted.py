"""Answers that were judged by themselves, wanted or not (KTO): what becomes of them in a pool."""

from collections import Counter, defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from handpick.data.examples import Conversation

Unwanted = Literal["aside", "pair", "keep"]

UNWANTED = "answer labelled unwanted: its label is false (KTO), and what is chosen is learnt as it stands"


@dataclass(frozen=True, slots=True)
class JudgedAnswers:
    """Rows that are left out: ``partner`` has the unwanted answer of a wanted one, ``set_aside`` why of the others."""

    partner: dict[int, int] = field(default_factory=dict)
    set_aside: dict[int, str] = field(default_factory=dict)

    def sentences(self) -> list[str]:
        """Return what is to be said of them."""
        kinds = Counter(reason.partition(":")[0] for reason in self.set_aside.values())
        said = [f"{n:,} set aside, each an {kind} (KTO)" for kind, n in kinds.items()]
        if self.partner:
            n = len(self.partner)
            pairs = "pair" if n == 1 else "pairs"
            said.append(f"{n:,} {pairs} of answers labelled wanted and unwanted, of one prompt each, in their order")
        return said


def pair_answers(answers: Iterable[tuple[int, bool, Conversation]]) -> JudgedAnswers:
    """Pair the wanted and the unwanted answers of one prompt, in the order they come: the first with the first.

    Args:
        answers: row, label and conversation of each.
    """
    waiting: dict[object, tuple[deque[int], deque[int]]] = defaultdict(lambda: (deque(), deque()))
    judged = JudgedAnswers()
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
    return f"unpaired answer: {what} (KTO), and its prompt has no further {lacking} one to stand against it"
