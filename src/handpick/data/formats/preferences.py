"""Pairs of a chosen and a rejected answer, with or without a prompt of their own."""

import re

from handpick.data.examples import Conversation, Json, Message, Role
from handpick.data.formats.beside import with_tools
from handpick.data.formats.columns import history_of, question, refuse_unread, side, whole
from handpick.data.formats.record import Conversations, Record, is_blank
from handpick.data.formats.turns import turns_of
from handpick.data.reading import Reading
from handpick.errors import DataError

# where the prompt stands, and beside it what it is asked about
_PROMPTS: tuple[tuple[str, str | None], ...] = (
    ("prompt", None),
    ("messages", None),
    ("conversations", None),
    ("conversation", None),
    ("question", None),
    ("instruction", "input"),
    ("query", None),
    ("problem", None),
    ("input", None),
)
OPENAI_OUTPUTS = ("preferred_output", "non_preferred_output")
_OPENING = ("system", "developer", "user")


def are_answers(record: Record) -> bool:
    """Return whether ``chosen`` and ``rejected`` are answers, and no scores or marks."""
    return all(isinstance(record[field], str | dict | list) for field in ("chosen", "rejected"))


def preference(record: Record, reading: Reading) -> Conversations:
    """Read two answers, each a text, a turn, turns, or the whole conversation over again.

    Raises:
        DataError: there is no prompt, or something is not to be understood.
    """
    found = next(((field, beside) for field, beside in _PROMPTS if not is_blank(record.get(field))), None)
    if found is None:
        return Conversations(_without_prompt(record, "chosen", reading), _without_prompt(record, "rejected", reading))
    return preference_after(prompt_of(record, *found, reading), record["chosen"], record["rejected"], reading)


def openai_preference(record: Record, reading: Reading) -> Conversations:
    """Read OpenAI's pairs: what was asked stands in ``input``, with its tools, and each output is turns.

    Raises:
        DataError: something is not to be understood.
    """
    asked = record["input"]
    given = asked if isinstance(asked, dict) and "messages" in asked else {"messages": asked}
    prompt = side(given["messages"], "input", "user", reading)
    won, lost = (side(record[name], name, "assistant", reading) for name in OPENAI_OUTPUTS)
    return with_tools(given, Conversations(whole(prompt, won), whole(prompt, lost)))


def prompt_of(record: Record, field: str, beside: str | None, reading: Reading) -> Conversation:
    """Return what was said before either answer."""
    value = record[field]
    turns_here = field in ("messages", "conversations", "conversation")
    if beside is None and not turns_here:
        refuse_unread(record, field)
    if isinstance(value, str) and not turns_here:
        text = question(record, field, beside)
        asked = side(text, field, "user", reading)
    else:
        asked = side(value, field, "user", reading) if not isinstance(value, str) else turns_of(value, field, reading)
    return Conversation((*history_of(record, reading), *asked))


def preference_after(prompt: Conversation, chosen: Json, rejected: Json, reading: Reading) -> Conversations:
    """Return both conversations of a prompt. One that ends with the chosen answer itself does not say it twice."""
    won, lost = (side(_first(v), f, "assistant", reading) for v, f in ((chosen, "chosen"), (rejected, "rejected")))
    if prompt and prompt[-1].role == "assistant" and len(won) == 1 and prompt[-1].content == won[0].content:
        prompt = prompt[:-1]
    return Conversations(whole(prompt, won), whole(prompt, lost))


def _first(value: Json) -> Json:
    return value[0] if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str) else value


def _without_prompt(record: Record, field: str, reading: Reading) -> Conversation:
    """Read a whole conversation: TRL's implicit prompt as turns, HH-RLHF's marked-up text."""
    value = record[field]
    if isinstance(value, str):
        turns = side(value, field, "assistant", reading)
        return turns if turns[0].role in _OPENING else _hh_turns(value, field)
    found = turns_of([value] if isinstance(value, dict) else value, field, reading)
    if found[0].role not in _OPENING:
        raise DataError(_no_prompt(f"`{field}` begins with what the {found[0].role} says"))
    return found


def _no_prompt(found: str) -> str:
    fields = ", ".join(f"`{field}`" for field, _ in _PROMPTS)
    return f"preference without a prompt: {found}, and there is none of {fields}; or name its column with --columns"


def _hh_turns(text: str, field: str) -> Conversation:
    before, *rest = re.split(r"\n\n(Human|Assistant):", text)
    if before.strip() or not rest:
        raise DataError(_no_prompt(f"`{field}` is a text that does not open with a turn of its own ('\\n\\nHuman:')"))
    speakers, contents = rest[::2], rest[1::2]
    roles: dict[str, Role] = {"Human": "user", "Assistant": "assistant"}
    return Conversation(Message(roles[who], said.strip()) for who, said in zip(speakers, contents, strict=True))
