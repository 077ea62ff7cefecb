"""Marks in the texts of a conversation, which show where a chat template writes them.

A template gets the conversation with private characters in its texts. What it writes, less the marks, must be what it
writes without them; then the marks' places are known, whatever the template moved, cut, split or left out. A mark
stands close to what is said, behind leading white space and tags, so that trimming and splitting go on as before:

    "<think>\nTwo.\n</think>\n\nFour. "  ->  "<think>\n(Two.)\n</think>\n\n(Four.) "
"""

import re
from collections import Counter
from collections.abc import Collection
from itertools import pairwise
from typing import NamedTuple

from handpick.data.examples import Conversation, Span

# Where an assistant's thought begins and ends, as models write it in their text.
_THOUGHT_TAG = re.compile(r"(</?think>|</?thinking>|</?seed:think>|\[/?THINK\]|<\|(?:START|END)_THINKING\|>)")
_LEADING = re.compile(r"(?:\s+|<[^<>\s]{1,40}>)*")
_TRAILING_TAG = re.compile(r"<[^<>\s]{1,40}>\Z")
_PLANES = (0xF0000, 0x100000)  # private use, 65,000 characters each: nobody's text


class Slot(NamedTuple):
    """A piece of text that has a mark at either end: the ``number``-th of a turn's field.

    ``turn`` is -1 for what stands beside the turns. ``start`` is where the piece begins in its own text.
    """

    turn: int
    field: str
    number: int
    start: int


class Place(NamedTuple):
    """Where a piece stands in what the template wrote, and which it is."""

    slot: Slot
    start: int
    end: int


class Placed(NamedTuple):
    """What a template wrote, where the pieces stand in it, in order, and the pieces that it left out."""

    text: str
    places: list[Place]
    left_out: list[Slot]


class Marks:
    """The pieces of a conversation's texts, and the characters that mark them.

    Args:
        conversation: whose texts they are.
        text: what the template writes, which has none of the characters in it.
        turns: which turns get marks; -1 stands for the tools.
    """

    def __init__(self, conversation: Conversation, text: str, turns: Collection[int]) -> None:
        self._plane = next((p for p in _PLANES if not _in_plane(p).search(text)), _PLANES[0])
        self._conversation = conversation
        self._turns = turns
        self.slots: list[Slot] = []
        self._counts = Counter[tuple[int, str]]()

    def __call__(self, text: str, turn: int, field: str) -> str:
        """Return a text with marks."""
        if turn not in self._turns:
            return text
        pieces = self._pieces(text, turn, field)
        if len(self.slots) + len(pieces) > 0x7FFE:  # a plane is full: the rest of a very long conversation has none
            return text
        parts, position = [], 0
        for start, end in pieces:
            number = 2 * len(self.slots)
            self.slots.append(Slot(turn, field, self._counts[turn, field], start))
            self._counts[turn, field] += 1
            parts += [text[position:start], self._sign(number), text[start:end], self._sign(number + 1)]
            position = end
        return "".join([*parts, text[position:]])

    def read(self, marked: str) -> Placed:
        """Find the marks in what a template wrote."""
        starts: dict[int, int] = {}
        places: list[Place] = []
        seen = set[int]()
        kept: list[str] = []
        position = written = 0
        for match in _in_plane(self._plane).finditer(marked):
            kept.append(marked[position : match.start()])
            written += match.start() - position
            position = match.end()
            slot, is_end = divmod(ord(match[0]) - self._plane, 2)
            if not is_end and slot not in seen:
                starts[slot] = written
            # What is written again (gpt-oss has the name of a call in its result's header) counts where it is first.
            if is_end and slot in starts and slot not in seen:
                places.append(Place(self.slots[slot], starts[slot], written))
                seen.add(slot)
        text = "".join([*kept, marked[position:]])
        return Placed(text, sorted(places, key=lambda p: p[1:]), [s for i, s in enumerate(self.slots) if i not in seen])

    def _sign(self, number: int) -> str:
        return chr(self._plane + number)

    def _pieces(self, text: str, turn: int, field: str) -> list[Span]:
        """Return where the pieces of a text begin and end."""
        message = self._conversation[turn] if turn >= 0 else None
        if message is None or message.role != "assistant" or field != "content":
            return _inner(text, 0, len(text))
        tags = [match.span() for match in _THOUGHT_TAG.finditer(text)]
        cuts = sorted({0, len(text), *(at for span in [*tags, *message.no_loss] for at in span if at <= len(text))})
        parts = [part for part in pairwise(cuts) if part not in tags]
        return [piece for start, end in parts for piece in _inner(text, start, end)]


def _inner(text: str, start: int, end: int) -> list[Span]:
    """Return the part of a text that is no white space or tag at its edges, if there is any."""
    leading = _LEADING.match(text, start, end)
    first = leading.end() if leading else start
    rest = text[first:end].rstrip()
    while tag := _TRAILING_TAG.search(rest):
        rest = rest[: tag.start()].rstrip()
    return [(first, first + len(rest))] if rest else []


def _in_plane(plane: int) -> re.Pattern[str]:
    return re.compile(f"[{chr(plane)}-{chr(plane + 0xFFFD)}]")
