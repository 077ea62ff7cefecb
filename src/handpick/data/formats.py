"""From one raw record to conversations: the table of the shapes people keep instruction data in.

A shape is known by the fields it has. A new one is a function that turns a record into a
``Conversations`` and one line in ``FORMATS``.
"""

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

from handpick.data.examples import Conversation, Json, Message, Role
from handpick.errors import DataError

Record: TypeAlias = Mapping[str, Json]

ROLES: dict[str, Role] = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "tool": "tool",
}


class Conversations(NamedTuple):
    """What a record says: the conversation and, of a preference record, the one that lost; the label of KTO's."""

    messages: Conversation
    rejected: Conversation | None = None
    wanted: bool | None = None


class Format(NamedTuple):
    """A shape of record: its name, the fields that mark it, and how it is read."""

    name: str
    fields: tuple[str, ...]
    parse: Callable[[Record], Conversations]


def parse_record(record: Record) -> Conversations:
    """Read a record in whichever of ``FORMATS`` it has the fields of.

    A record may end without an assistant turn: a query set may be prompts alone.

    What a field ``system`` or ``system_prompt`` says stands before a conversation that opens with no system turn.

    Raises:
        DataError: no shape fits, a field is missing or no text, or a role is unknown.
    """
    return read_record(record)[1]


def read_record(record: Record) -> tuple[str, Conversations]:
    """Read a record as ``parse_record`` does, and say the name of the format that it was read as.

    Raises:
        DataError: as ``parse_record``.
    """
    # Tables give every row every column, so a null field is a field of some other row's shape. Only if
    # nothing fits otherwise does it count, so that the message can name it.
    for fmt in FORMATS:
        if all(record.get(field) is not None for field in fmt.fields):
            return fmt.name, _with_system_prompt(record, fmt.parse(record))
    for fmt in FORMATS:
        if all(field in record for field in fmt.fields):
            null = next(field for field in fmt.fields if record[field] is None)
            raise DataError(f"missing text: `{null}` of a record in the {fmt.name} shape is null")
    known = "; ".join(f"{fmt.name} ({', '.join(fmt.fields)})" for fmt in FORMATS)
    raise DataError(f"no known shape: the record has the fields {', '.join(record) or 'none'}; known are {known}")


def _with_system_prompt(record: Record, said: Conversations) -> Conversations:
    """Prepend the system prompt that stands in a field of its own, in files made for LLaMA-Factory or as Orca's."""
    field = next((field for field in _SYSTEM if record.get(field)), None)
    if field is None:
        return said
    told = Message("system", _text(record[field], f"`{field}`"))

    def prepend(turns: Conversation) -> Conversation:
        return turns if turns[0].role == "system" else turns.with_turns((told, *turns))

    return Conversations(prepend(said.messages), None if said.rejected is None else prepend(said.rejected))


_SYSTEM = ("system", "system_prompt")


def _text(value: Json, field: str) -> str:
    """Return a string, or the text parts of an OpenAI content list."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(_text_of_part(part, field) for part in value)
    raise DataError(f"missing text: {field} is {'null' if value is None else type(value).__name__}, not text")


def _text_of_part(part: Json, field: str) -> str:
    if isinstance(part, dict) and part.get("type") == "text":
        return _text(part.get("text"), f"the text part of {field}")
    kind = part.get("type") if isinstance(part, dict) else type(part).__name__
    raise DataError(f"not text: {field} holds a part of type {kind}, and handpick reads text only")


def _turn(turn: Json, where: str) -> Message:
    """Read one turn, as ``role`` and ``content`` or as ShareGPT's ``from`` and ``value``."""
    if not isinstance(turn, dict):
        raise DataError(f"not a turn: {where} is {type(turn).__name__}, not an object with a role and a content")
    role_field, content_field = ("from", "value") if "from" in turn else ("role", "content")
    name = turn.get(role_field)
    if not isinstance(name, str) or name not in ROLES:
        raise DataError(f"unknown role: `{role_field}` of {where} is {name!r}; known are {', '.join(ROLES)}")
    return Message(ROLES[name], _text(turn.get(content_field), f"`{content_field}` of {where}"))


def _turns(value: Json, field: str) -> Conversation:
    if not isinstance(value, list) or not value:
        raise DataError(f"not a conversation: `{field}` is no list of turns, or an empty one")
    return Conversation(_turn(turn, f"turn {i} of `{field}`") for i, turn in enumerate(value, start=1))


def _side(record: Record, field: str, role: Role) -> Conversation:
    """Read a field that is a text (said by ``role``), one turn, or a list of turns."""
    value = record[field]
    if isinstance(value, str):
        return Conversation([Message(role, value)])
    return _turns([value] if isinstance(value, dict) else value, field)


def _conversation(field: str) -> Callable[[Record], Conversations]:
    return lambda record: Conversations(_turns(record[field], field))


def _instruction(response: str, context: str) -> Callable[[Record], Conversations]:
    """Make a reader of an instruction, a context if any, the response, and earlier turns (LLaMA-Factory's Alpaca)."""

    def parse(record: Record) -> Conversations:
        prompt = _text(record["instruction"], "`instruction`")
        if record.get(context):
            prompt += "\n\n" + _text(record[context], f"`{context}`")
        answer = _text(record[response], f"`{response}`")
        turns = (*_history(record), Message("user", prompt), Message("assistant", answer))
        return Conversations(Conversation(turns))

    return parse


def _history(record: Record) -> Conversation:
    """Read pairs of a prompt and its answer."""
    pairs = record.get("history") or []
    turns: list[Message] = []
    for i, pair in enumerate(pairs if isinstance(pairs, list) else [pairs], start=1):
        if not isinstance(pair, list) or len(pair) != 2:
            raise DataError("not a conversation: `history` is no list of pairs of a prompt and its answer")
        prompt, answer = (_text(said, f"`history`, pair {i},") for said in pair)
        turns += [Message("user", prompt), Message("assistant", answer)]
    return Conversation(turns)


def _prompt_and(response: str) -> Callable[[Record], Conversations]:
    def parse(record: Record) -> Conversations:
        prompt, answer = _side(record, "prompt", "user"), _side(record, response, "assistant")
        if isinstance(record[response], str):  # files made for OpenAI's first fine-tuning service end each answer so
            answer = Conversation([Message("assistant", answer[0].content.removesuffix("<|endoftext|>"))])
        return Conversations(Conversation((*prompt, *answer)))

    return parse


def _prompt_only(record: Record) -> Conversations:
    answers = [field for field in ("completion", "response", "chosen", "rejected") if field in record]
    if answers:  # half of another shape: the half that is missing must not go unnoticed
        raise DataError(f"missing text: `{'` and `'.join(answers)}` beside `prompt` is null or not all there")
    return Conversations(_side(record, "prompt", "user"))


def _preference(prompt_field: str) -> Callable[[Record], Conversations]:
    """Make a reader of a prompt and two answers, each of which may also be the whole conversation over again."""

    def parse(record: Record) -> Conversations:
        prompt = _side(record, prompt_field, "user")

        def whole(field: str) -> Conversation:
            answer = _side(record, field, "assistant")
            return answer if answer[0].role in ("system", "user") else Conversation((*prompt, *answer))

        return Conversations(whole("chosen"), whole("rejected"))

    return parse


def _preference_without_prompt(record: Record) -> Conversations:
    """Read two whole conversations: TRL's implicit prompt as lists of turns, HH-RLHF as marked-up text."""

    def whole(field: str) -> Conversation:
        value = record[field]
        return _hh_turns(value, field) if isinstance(value, str) else _turns(value, field)

    return Conversations(whole("chosen"), whole("rejected"))


def _hh_turns(text: str, field: str) -> Conversation:
    before, *rest = re.split(r"\n\n(Human|Assistant):", text)
    if before.strip() or not rest:
        raise DataError(f"no known shape: `{field}` is text, but does not open with '\\n\\nHuman:' as HH-RLHF does")
    speakers, contents = rest[::2], rest[1::2]
    roles: dict[str, Role] = {"Human": "user", "Assistant": "assistant"}
    return Conversation(Message(roles[who], said.strip()) for who, said in zip(speakers, contents, strict=True))


# The first that fits is taken: a shape stands above those whose fields are part of its own.
FORMATS: tuple[Format, ...] = (
    Format("TRL preference", ("prompt", "chosen", "rejected"), _preference("prompt")),
    Format("ShareGPT preference", ("conversations", "chosen", "rejected"), _preference("conversations")),
    Format("HH-RLHF or implicit-prompt preference", ("chosen", "rejected"), _preference_without_prompt),
    Format("messages", ("messages",), _conversation("messages")),
    Format("ShareGPT", ("conversations",), _conversation("conversations")),
    Format("Alpaca", ("instruction", "output"), _instruction("output", context="input")),
    Format("Dolly", ("instruction", "context", "response"), _instruction("response", context="context")),
    Format("GPTeacher", ("instruction", "response"), _instruction("response", context="input")),
    Format("prompt/completion", ("prompt", "completion"), _prompt_and("completion")),
    Format("prompt/response", ("prompt", "response"), _prompt_and("response")),
    Format("prompt only", ("prompt",), _prompt_only),
)
