"""Which characters of a rendered conversation the model is taught.

What is learnt of an assistant's turn is what the model has to write for it: all behind the header that asks for the
answer, the scaffolding of thoughts and calls with it, up to and with the end of the turn. As TRL marks it in its
training templates.

A template that says itself what is generated (``{% generation %}``) is believed. Else the turn is found from marks in
the texts (``marks.py``): its header is how the template ends a prompt, its end is how it ends a conversation there.
"""

import re
from collections.abc import Collection
from typing import NamedTuple

from handpick.data.chat_template import ChatTemplate, Form
from handpick.data.examples import Conversation, Span
from handpick.data.habits import Habits, common_start
from handpick.data.marks import Marks, Place, Placed
from handpick.errors import DataError

# What some templates write ahead of an answer for the model and is learnt with it, as TRL's training templates have it:
# the opening of a thought, and the headers of DeepSeek V3, gpt-oss and Muse.
_THOUGHT = (
    r"(?:<(?:\w+:)?think(?:ing)?>|\[THINK\]|<\|START_THINKING\|>|<\|channel>thought)\s*"
    r"(?:(?:</(?:\w+:)?think(?:ing)?>|\[/THINK\]|<\|END_THINKING\|>|<channel\|>)\s*)?"
)
_LEARNT_AHEAD = re.compile(rf"{_THOUGHT}\Z")
_SCAFFOLD_OF_THOUGHT = re.compile(rf"{_THOUGHT}|</think>")
_LEARNT_HEADER = re.compile(r"(?:<｜tool▁outputs▁end｜>|<｜Assistant｜>|<\|start\|>assistant)\Z")
# What a template writes behind a call for the one who answers it.
_NOT_LEARNT_BEHIND = re.compile(r"<\|tool_response>\Z")

_SPACE = re.compile(r"\s*")


class TurnSpan(NamedTuple):
    """A turn of the assistant's, and where what the model writes for it stands; whether any of its text is in it."""

    turn: int
    start: int
    end: int
    has_text: bool = True


class TurnSpans:
    """Finds the assistant's turns in what a template writes.

    Args:
        template: the tokenizer's.
        special: matches one special token that may end a turn.
    """

    def __init__(self, template: ChatTemplate, special: re.Pattern[str]) -> None:
        self._template = template
        self.special = special
        self.habits = Habits(template, special)

    def find(self, conversation: Conversation, form: Form, text: str, generated: tuple[Span, ...]) -> list[TurnSpan]:
        """Return the spans of the assistant's turns that are written, in order.

        Args:
            conversation: the turns.
            form: how they are put to the template.
            text: what it writes.
            generated: what it says to be generated, where it says so.

        Raises:
            DataError: the template writes the conversation so that they cannot be told; the turn is named.
        """
        answers = [i for i, message in enumerate(conversation) if message.role == "assistant"]
        marked = self._template.marks_generation(conversation)
        try:
            placed = self._place(conversation, form, text, answers)
        except DataError:
            if marked and len(generated) == len(answers):
                return [TurnSpan(turn, *span) for turn, span in zip(answers, generated, strict=True)]
            raise
        if marked:
            return _blocks(placed, generated, answers)
        search = _Search(self, conversation, form, placed)
        return sorted((span for turn in answers for span in search.spans(turn)), key=lambda span: span.start)

    def write(self, conversation: Conversation, form: Form, turns: Collection[int], *, ask: bool, text: str) -> Placed:
        """Write a conversation with marks in some turns; ``ask`` ends it where an answer begins."""
        marks = Marks(conversation, text, turns)
        written = self._template.write(conversation, form, mark=marks, add_generation_prompt=ask)
        return marks.read(written.text)

    def _place(self, conversation: Conversation, form: Form, text: str, answers: list[int]) -> Placed:
        """Return where the texts stand: of all, or if the template rewrites some, of the turns or the assistant's."""
        for turns in (range(-1, len(conversation)), range(len(conversation)), answers):
            try:
                placed = self.write(conversation, form, turns, ask=False, text=text)
            except DataError:  # it looks at what a text says
                continue
            if placed.text == text:
                return placed
        raise DataError(f"rewritten by the chat template: {self._name_rewritten(conversation, form, text, answers)}")

    def _name_rewritten(self, conversation: Conversation, form: Form, text: str, answers: list[int]) -> str:
        for turn in answers:
            try:
                followed = self.write(conversation, form, [turn], ask=False, text=text).text == text
            except DataError:
                followed = False
            if not followed:
                return (
                    f"handpick cannot follow what becomes of turn {turn + 1} (assistant): the template changes its "
                    "text, so its loss mask is unknown"
                )
        return "handpick cannot follow what becomes of the assistant's turns, so their loss mask is unknown"

    def closing(self, between: str, ending: str) -> int:
        """Return how many characters behind a turn's text are its end.

        Args:
            between: what stands behind it, up to the next turn's text.
            ending: what the template writes behind it where the conversation ends there.
        """
        if between.startswith(ending):
            return len(ending)
        first = self.special.search(between)
        if not self.special.search(ending):
            return len(between[: first.start()].rstrip()) if first else 0
        # A conversation's last turn may end otherwise than those before (gpt-oss, Phi-3).
        whole = [match.end() for match in self.special.finditer(common_start(between, ending))]
        return whole[-1] if whole else first.end() if first else 0

    def ended_by_next(self, text: str, end: int, ending: str) -> int:
        """Return where a turn ends to which the template writes no end: behind the token that opens the next (GLM)."""
        opening = self.special.match(text, past_space(text, end))
        return opening.end() if opening and not self.special.search(ending) else end


class _Search:
    """One conversation's turns, looked for one by one."""

    def __init__(self, spans: TurnSpans, conversation: Conversation, form: Form, placed: Placed) -> None:
        self._spans, self._conversation, self._form, self._placed = spans, conversation, form, placed
        self._marked = {place.slot.turn for place in placed.places} | {slot.turn for slot in placed.left_out}

    def spans(self, turn: int) -> list[TurnSpan]:
        """Return the spans of a turn, several where the template writes another turn inside it; none if not written."""
        runs = self._runs(turn)
        before = self._before(turn, runs[0] if runs else [])
        asked = self._beginning(turn, before, ask=True)  # how a prompt ends that asks for this turn
        start = self._start(turn, before, runs[0][0].start if runs else None, asked)
        if start is None:
            return []
        if not runs:
            ending = self._ending_without_text(turn, before, asked)
            return [self._span(turn, start, start, ending)] if ending else []
        starts = [start, *(run[0].start for run in runs[1:])]
        found = [
            self._span(turn, begin, run[-1].end, self._ending(turn, run))
            for begin, run in zip(starts, runs, strict=True)
        ]
        return [span._replace(has_text=True) for span in found]

    def _runs(self, turn: int) -> list[list[Place]]:
        """Return the pieces of a turn, apart where another turn stands between (Gemma 4)."""
        runs: list[list[Place]] = []
        previous = None
        for place in self._placed.places:
            if place.slot.turn == turn:
                if previous != turn:
                    runs.append([])
                runs[-1].append(place)
            previous = place.slot.turn
        return runs

    def _span(self, turn: int, start: int, last: int, ending: str) -> TurnSpan:
        """Return a span that begins at the end of a header, whose text ends at ``last``."""
        text = self._placed.text
        following = self._following(last, turn)
        end = last + self._spans.closing(text[last : following.start if following else None], ending)
        unwritten = self._spans.habits.unwritten_end
        is_ended = bool(unwritten) and text.startswith(unwritten, end)
        if following is not None and (is_ended or self._role(following.slot.turn) != "assistant"):
            end = self._spans.ended_by_next(text, end, ending)
        learnt = _LEARNT_HEADER.search(text, 0, start)
        if learnt and not _SCAFFOLD_OF_THOUGHT.match(text, start):
            start = learnt.start()
        return TurnSpan(turn, start, end, has_text=False)

    def _following(self, position: int, turn: int) -> Place | None:
        """Return the first piece of another turn from a position on."""
        others = (p for p in self._placed.places if p.start >= position and p.slot.turn != turn)
        return min(others, key=lambda p: p.start, default=None)

    def _role(self, turn: int) -> str:
        return self._conversation[turn].role if turn >= 0 else "system"

    def _before(self, turn: int, own: list[Place]) -> Place | None:
        """Return the last piece that stands ahead of a turn."""
        others = (p for p in self._placed.places if p.slot.turn != turn)
        ahead = [p for p in others if (p.end <= own[0].start if own else p.slot.turn < turn)]
        return max(ahead, key=lambda p: p.end, default=None)

    def _beginning(self, n_turns: int, before: Place | None, *, ask: bool) -> str | None:
        """Return what is written of the first turns, behind a piece of them."""
        some = self._conversation[:n_turns]
        try:
            placed = self._spans.write(some, self._form, self._marked, ask=ask, text=self._placed.text)
        except DataError:
            return None
        if before is None:
            return placed.text
        return next((placed.text[p.end :] for p in placed.places if p.slot == before.slot), None)

    def _start(self, turn: int, before: Place | None, first: int | None, asked: str | None) -> int | None:
        """Return where the header of a turn ends; ``first`` is where its own text begins."""
        base = before.end if before else 0
        following = self._following(base, turn) if first is None else None
        ahead = self._placed.text[base : following.start if following else first]
        usual = self._header(self._spans.habits.header)
        if asked is not None:
            at = self._asked_header(self._header(asked), usual, ahead, has_text=first is not None)
            if at is not None:
                return base + at
        usual = usual.lstrip()
        at = ahead.rfind(usual) if first is not None else ahead.find(usual)  # without text the next one's is near
        if usual and at >= 0:
            return base + at + len(usual)
        if first is None:
            return None
        if (begun := self._begun_header(usual, ahead)) is not None:
            return base + begun
        if before is not None and self._goes_on(before.slot.turn, turn):
            return base
        shared = self._shared_header(turn, before, self._header(asked or ""), ahead)
        if shared is not None:
            return base + shared
        if not usual:  # a template without headers (Mistral)
            return first
        raise DataError(
            f"rewritten by the chat template: where turn {turn + 1} (assistant) begins is unknown, since its prompt "
            "ends otherwise than the conversation goes on"
        )

    def _asked_header(self, header: str, usual: str, ahead: str, *, has_text: bool) -> int | None:
        """Return where a header ends that is as a prompt has it which asks for this very turn; None if it is not.

        Args:
            header: what that prompt writes behind the turn before.
            usual: the header of other turns, which may stand behind it once more.
            ahead: what the conversation writes there, up to the turn's own text.
            has_text: whether the turn has any that is written.
        """
        for way in (header, header.rstrip()):  # a template may trim what it ends a prompt with
            if ahead.startswith(way):
                again = ahead.rfind(usual, len(way)) if usual.strip() and has_text else -1
                if again >= 0:
                    return again + len(usual)
                begun = self._begun_header(usual.lstrip(), ahead) if has_text and not way.strip() else None
                return len(way) if begun is None else begun
        # A turn that goes on has no header (Apertus).
        return len(ahead) if has_text and header.startswith(ahead) else None

    def _begun_header(self, usual: str, ahead: str) -> int | None:
        """Return where a header ends that lacks what a prompt says behind its last special token (Apriel's)."""
        ends = [match.end() for match in self._spans.special.finditer(usual)]
        at = ahead.rfind(usual[: ends[-1]]) if ends else -1
        if at < 0:
            return None
        behind = common_start(ahead[at + ends[-1] :], usual[ends[-1] :])
        whole_words = behind.rstrip() if ahead.endswith(behind) else behind.rpartition("\n")[0]
        return at + ends[-1] + past_space(behind, len(whole_words))

    def _shared_header(self, turn: int, before: Place | None, header: str, ahead: str) -> int | None:
        """Return where a turn begins that goes on otherwise than the prompt that asks for it; None if that is unknown.

        Args:
            turn: which it is.
            before: the last piece ahead of it.
            header: what the prompt writes behind that piece.
            ahead: what the conversation writes there, up to the turn's own text.
        """
        special = self._spans.special
        shared = common_start(header, ahead)
        if ends := [match.end() for match in special.finditer(shared)]:
            # Command A opens a response in its prompts and writes calls in another block; Apriel opens a thought there.
            end = past_space(shared, ends[-1])
            return end if end == len(shared) or special.match(header, end) else None
        # A call of Apertus's, or of DeepSeek V3's behind its first, has no header.
        written = self._beginning(turn, before, ask=False)
        return len(written) if written is not None and ahead.startswith(written) else None

    def _goes_on(self, earlier: int, turn: int) -> bool:
        """Return whether an answer goes on where another ends, as two of them do under Gemma 4."""
        placed = {place.slot.turn for place in self._placed.places}
        return self._role(earlier) == "assistant" and placed.issuperset(range(earlier, turn))

    def _header(self, asked: str) -> str:
        """Return the part of a prompt's end that is not learnt with the answer behind it."""
        return _LEARNT_AHEAD.sub("", asked) + self._spans.habits.implied_header

    def _ending(self, turn: int, own: list[Place]) -> str:
        """Return what is written behind some pieces of a turn where the conversation ends with it."""
        habits = self._spans.habits
        if turn == len(self._conversation) - 1:
            ending: str | None = self._placed.text[own[-1].end :]
        else:
            ending = self._beginning(turn + 1, own[-1], ask=False)
        if ending is None:
            return habits.ending
        return _NOT_LEARNT_BEHIND.sub("", ending.rstrip().removesuffix(habits.trailing_prompt))

    def _ending_without_text(self, turn: int, before: Place | None, asked: str | None) -> str:
        """Return what is written of a turn that has no text, behind its header."""
        written = self._beginning(turn + 1, before, ask=False)
        header = self._header(asked) if asked else None
        if not written or not header or not written.startswith(header):
            return ""
        return written[len(header) :].rstrip().removesuffix(self._spans.habits.trailing_prompt)


def past_space(text: str, position: int) -> int:
    """Return where the white space at a position of a text ends."""
    found = _SPACE.match(text, position)
    return found.end() if found else position


def _blocks(placed: Placed, generated: tuple[Span, ...], answers: list[int]) -> list[TurnSpan]:
    """Return the turns of the blocks that a template says to be generated: those of the texts in them."""
    spans: list[TurnSpan] = []
    for start, end in generated:
        inside = [p.slot.turn for p in placed.places if start <= p.start and p.end <= end and p.slot.turn in answers]
        earlier = [span.turn for span in spans]
        following = (turn for turn in answers if turn > max(earlier, default=-1))
        turn = inside[0] if inside else next(following, earlier[-1] if earlier else answers[0])
        spans.append(TurnSpan(turn, start, end, bool(inside)))
    return spans
