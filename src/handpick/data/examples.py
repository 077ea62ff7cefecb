"""What one example is, whatever file it came from."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, SupportsIndex, TypeAlias, overload

Json: TypeAlias = "str | int | float | bool | list[Json] | dict[str, Json] | None"
Role = Literal["system", "developer", "user", "assistant", "tool"]
Span: TypeAlias = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation.

    ``content`` is its text, empty where it has none. ``extra`` is a JSON object of what else the turn carries (tool
    calls, reasoning, a name), as chat templates read it, and empty where there is nothing. ``loss`` is False where the
    data says that the turn is not to be learnt, and ``no_loss`` are the spans of characters of ``content`` of which it
    says so, in order.
    """

    role: Role
    content: str
    extra: str = ""
    loss: bool = True
    no_loss: tuple[Span, ...] = ()

    @property
    def fields(self) -> dict[str, Json]:
        """What the turn carries beside its role and its text."""
        return json.loads(self.extra) if self.extra else {}

    def to_json(self) -> dict[str, Any]:
        """Return the turn as chat templates, judges and rewards take it."""
        return {"role": self.role, "content": self.content, **self.fields}


class Conversation(tuple[Message, ...]):
    """Turns, and what a chat template takes beside them. A part of a conversation keeps that.

    ``tools`` is a JSON list of the functions that may be called, ``template_args`` a JSON object of the record's own
    arguments to the template (``chat_template_kwargs``); both are empty where the record has none. ``document`` says
    that it is no conversation but a text, learnt whole and written without a template: its one turn is the
    assistant's.
    """

    tools: str
    template_args: str
    document: bool

    def __new__(
        cls, turns: Iterable[Message] = (), tools: str = "", template_args: str = "", document: bool = False
    ) -> "Conversation":
        """Make one of turns."""
        self = super().__new__(cls, turns)
        self.tools, self.template_args, self.document = tools, template_args, document
        return self

    def __getnewargs__(self) -> tuple[Any, ...]:
        """Return what pickles."""
        return tuple(self), self.tools, self.template_args, self.document

    @overload
    def __getitem__(self, key: SupportsIndex) -> Message: ...
    @overload
    def __getitem__(self, key: slice) -> "Conversation": ...
    def __getitem__(self, key: SupportsIndex | slice) -> "Message | Conversation":
        """Return a turn, or a part of the conversation."""
        found = super().__getitem__(key)
        return found if isinstance(found, Message) else self.with_turns(found)

    def with_turns(self, turns: Iterable[Message]) -> "Conversation":
        """Return other turns with the same tools and arguments."""
        return Conversation(turns, self.tools, self.template_args, self.document)


def before_answer(conversation: Conversation) -> Conversation:
    """Return the turns before the answer that a conversation ends with; all, where it ends with none."""
    return conversation[:-1] if conversation[-1].role == "assistant" else conversation


@dataclass(frozen=True, slots=True)
class Example:
    """One record of a pool or a query set.

    ``messages`` is the whole conversation; of a preference record, the preferred one. ``rejected`` is
    the whole conversation with the answer that lost, and None for ordinary records. ``raw`` is the
    record as it stood in its file: the very bytes of the line for JSON Lines, compact JSON otherwise.
    ``wanted`` is the label of an answer that was judged by itself (KTO), and None where there is none.
    ``record_rule`` is the newest rule by which the record is read as it is (``handpick.data.version``).
    """

    id: str
    messages: Conversation
    raw: bytes
    rejected: Conversation | None = None
    source: str | None = None
    category: str | None = None
    subtask: str | None = None
    wanted: bool | None = None
    record_rule: int = 1
