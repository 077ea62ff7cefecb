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
_THOUGHT_TAG = re.compile(r"(</?(?:\w+:)?think(?:ing)?>|\[/?THINK\]|<\|(?:START|END)_THINKING\|>)")
_LEADING = re.compile(r"(?:\s+|<[^<>\s]{1,40}>)*")
_TAG = re.compile(r"<[^<>\s]{1,40}>")
# Two planes of characters for private use: nobody's text, but for a few that a text may have, which are no marks then.
_PRIVATE = (*range(0xF0000, 0xFFFFE), *range(0x100000, 0x10FFFE))
# A template that writes a value as JSON or Python has it may write the character's escape.
_SIGN = re.compile(r"[\U000F0000-\U0010FFFD]|\\U00(?:0f|10)[0-9a-f]{4}|\\udb[89a-f][0-9a-f]\\ud[c-f][0-9a-f]{2}")


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
        text: what the template writes without marks; a character that it has marks nothing.
        turns: which turns get marks; -1 stands for the tools.
    """

    def __init__(self, conversation: Conversation, text: str, turns: Collection[int]) -> None:
        taken = {_character(match[0]) for match in _SIGN.finditer(text)}
        self._free = (chr(code) for code in _PRIVATE if chr(code) not in taken)
        self._conversation = conversation
        self._turns = turns
        self._slots: list[Slot] = []
        self._starting: dict[str, int] = {}  # from a character to the slot that it opens
        self._ending: dict[str, int] = {}
        self._counts = Counter[tuple[int, str]]()

    def __call__(self, text: str, turn: int, field: str) -> str:
        """Return a text with marks."""
        if turn not in self._turns:
            return text
        parts, position = [], 0
        for start, end in self._pieces(text, turn, field):
            opening, closing = next(self._free, ""), next(self._free, "")
            if not closing:  # all are used up: the rest of a very long conversation has none
                break
            self._starting[opening] = self._ending[closing] = len(self._slots)
            self._slots.append(Slot(turn, field, self._counts[turn, field], start))
            self._counts[turn, field] += 1
            parts += [text[position:start], opening, text[start:end], closing]
            position = end
        return "".join([*parts, text[position:]])

    def read(self, marked: str) -> Placed:
        """Find the marks in what a template wrote."""
        starts: dict[int, int] = {}
        places: dict[int, Place] = {}
        kept: list[str] = []
        position = written = 0
        for match in _SIGN.finditer(marked):
            character = _character(match[0])
            opened, closed = self._starting.get(character), self._ending.get(character)
            if opened is None and closed is None:  # the text's own
                continue
            kept.append(marked[position : match.start()])
            written += match.start() - position
            position = match.end()
            # What is written again (gpt-oss has the name of a call in its result's header) counts where it is first.
            if opened is not None and opened not in places:
                starts[opened] = written
            elif closed is not None and closed in starts and closed not in places:
                places[closed] = Place(self._slots[closed], starts[closed], written)
        text = "".join([*kept, marked[position:]])
        left_out = [slot for i, slot in enumerate(self._slots) if i not in places]
        return Placed(text, sorted(places.values(), key=lambda place: place[1:]), left_out)

    def _pieces(self, text: str, turn: int, field: str) -> list[Span]:
        """Return where the pieces of a text begin and end."""
        message = self._conversation[turn] if turn >= 0 else None
        if message is None or message.role != "assistant" or field != "content":
            return _inner(text, 0, len(text))
        tags = {match.span() for match in _THOUGHT_TAG.finditer(text)}
        cuts = sorted({0, len(text), *(at for span in [*tags, *message.no_loss] for at in span if at <= len(text))})
        parts = [part for part in pairwise(cuts) if part not in tags]
        return [piece for start, end in parts for piece in _inner(text, start, end)]


def _inner(text: str, start: int, end: int) -> list[Span]:
    """Return the part of a text that is no white space or tag at its edges; all of a text that is tags alone."""
    leading = _LEADING.match(text, start, end)
    first = leading.end() if leading else start
    last = _before_space(text, first, end)
    while (tag := text.rfind("<", first, last)) >= 0 and _TAG.fullmatch(text, tag, last):
        last = _before_space(text, first, tag)
    if first < last:
        return [(first, last)]
    said = text[start:end].strip()
    first = text.find(said, start)
    return [(first, first + len(said))] if said else []


def _before_space(text: str, start: int, end: int) -> int:
    """Return where the white space at the end of a part of a text begins."""
    while end > start and text[end - 1].isspace():
        end -= 1
    return end


def _character(sign: str) -> str:
    """Return the character that a sign is, or is the escape of."""
    if len(sign) == 1:
        return sign
    if sign.startswith("\\U"):
        return chr(int(sign[2:], 16))
    high, low = int(sign[2:6], 16), int(sign[8:], 16)
    return chr(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00))
