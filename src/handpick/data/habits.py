"""What a chat template does around a question and its answer, whatever they say: found once a template."""

import re
from functools import cached_property

from handpick.data.chat_template import ChatTemplate, Form
from handpick.data.examples import Conversation, Message
from handpick.errors import DataError

_QUESTION, _ANSWER = "\ue000", "\ue001"  # private-use characters: nobody's text

_A_TOOL = (
    '[{"type": "function", "function": {"name": "f", "description": "",'
    ' "parameters": {"type": "object", "properties": {}, "required": []}}}]'
)


def common_start(a: str, b: str) -> str:
    """Return what two texts begin with both."""
    return a[: next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))]


class Habits:
    """Texts that a template writes around plain turns; each is empty where it writes none, or refuses such turns.

    Args:
        template: the tokenizer's.
        special: matches one special token that may end a turn.
    """

    def __init__(self, template: ChatTemplate, special: re.Pattern[str]) -> None:
        self._template = template
        self._special = special

    @cached_property
    def header(self) -> str:
        """What it adds to a question to ask for an answer, in place of what ends a conversation with the question."""
        shared = common_start(self._alone, self._asked)
        if shared == self._alone:
            return self._asked[len(shared) :]
        ends = [shared.find(_QUESTION) + 1, *(match.end() for match in self._special.finditer(shared))]
        return self._asked[max(ends) :]

    @cached_property
    def implied_header(self) -> str:
        """What stands ahead of an answer alone, in a template that ends no prompt for it (old ones)."""
        prompt, ahead = (
            self._asked.partition(_QUESTION)[2],
            self._answered.partition(_ANSWER)[0].partition(_QUESTION)[2],
        )
        is_asking = self._asked != self._alone or not ahead.startswith(prompt)
        return "" if is_asking or ahead.strip() == prompt.strip() else ahead.removeprefix(prompt)

    @cached_property
    def ending(self) -> str:
        """What stands behind an answer at the end of a conversation, without white space behind that."""
        return self._answered.partition(_ANSWER)[2].rstrip().removesuffix(self.trailing_prompt)

    @cached_property
    def trailing_prompt(self) -> str:
        """What ends every conversation, of a template that asks for an answer where none is wanted (Command R7B)."""
        alone, answered = self._alone.rstrip(), self._answered.partition(_ANSWER)[2].rstrip()
        if not self._asked.startswith(alone) or self._before_next_question.startswith(answered):
            return ""
        shared = common_start(alone.partition(_QUESTION)[2][::-1], answered[::-1])[::-1]
        end_of_turn = self._special.search(shared)
        rest = shared[end_of_turn.end() :] if end_of_turn else ""
        return rest if self._special.search(rest) else ""

    @cached_property
    def unwritten_end(self) -> str:
        """The special token that ends an answer, of a template that writes none at the end of a conversation.

        It stands behind an answer that a question follows: GLM's is ``<|user|>``, with which the question opens. White
        space in front of it is the end's (Apriel 1.6).
        """
        followed = self._before_next_question
        found = None if self.ending else self._special.search(followed)
        return followed[: found.end()].rstrip() if found and not followed[: found.start()].strip() else ""

    @cached_property
    def _before_next_question(self) -> str:
        return self._write("user", "assistant", "user").partition(_ANSWER)[2].partition(_QUESTION)[0]

    @cached_property
    def _alone(self) -> str:
        return self._write("user")

    @cached_property
    def _asked(self) -> str:
        return self._write("user", ask=True)

    @cached_property
    def _answered(self) -> str:
        return self._write("user", "assistant")

    def _write(self, *roles: str, ask: bool = False) -> str:
        turns = (Message("user", _QUESTION) if role == "user" else Message("assistant", _ANSWER) for role in roles)
        conversation = Conversation(turns)
        for tools in ("", _A_TOOL):  # a template may be for conversations with tools alone (Hermes, Command R+)
            try:
                some = Conversation(conversation, tools)
                return self._template.write(some, Form(), add_generation_prompt=ask).text
            except DataError:
                continue
        return ""
