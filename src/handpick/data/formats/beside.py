"""What stands beside the conversation of a record: tools, arguments of the template, a system prompt, a label."""

from handpick.data.examples import Conversation, Json, Message
from handpick.data.formats.record import (
    Conversations,
    Record,
    is_blank,
    is_null,
    parse_json,
    to_json,
    truth_of,
    without_nulls,
)
from handpick.data.formats.text import text_of
from handpick.data.formats.tool_calls import tools_of
from handpick.data.formats.turns import are_turns, turns_of
from handpick.data.reading import Reading
from handpick.errors import DataError

_LOST = ("rejected_response", "rejected")
_SYSTEM = ("system", "system_prompt")
_TEMPLATE_ARGS = "chat_template_kwargs"
# most records have none of these, and nothing more is looked for in them
_OF_TOOLS = frozenset({"tools", "functions", _TEMPLATE_ARGS})
_OF_REJECTED = frozenset({*_LOST, "rejected_messages"})


def with_tools(record: Record, said: Conversations) -> Conversations:
    """Add the record's tools and its own arguments of the chat template to both conversations.

    OpenAI's older ``functions`` are tools where they are a list of objects; on a turn they stay as they are.

    Raises:
        DataError: either is not to be understood.
    """
    if record.keys().isdisjoint(_OF_TOOLS):
        return said
    tools = tools_of(record.get("tools"), "tools")
    functions = record.get("functions")
    if not tools and isinstance(functions, list) and functions and all(isinstance(each, dict) for each in functions):
        tools = tools_of(functions, "functions")
    args = _template_args(record.get(_TEMPLATE_ARGS))
    if not tools and not args:
        return said
    beside = to_json(list(tools)) if tools else "", to_json(args) if args else ""

    def carry(turns: Conversation) -> Conversation:
        return Conversation(turns, *beside, document=turns.document)

    return said._replace(
        messages=carry(said.messages), rejected=None if said.rejected is None else carry(said.rejected)
    )


def _template_args(value: Json) -> dict[str, Json]:
    if isinstance(value, str) and value.strip():
        value = parse_json(value, f"`{_TEMPLATE_ARGS}`", "template arguments")
    if is_blank(value):
        return {}
    args = without_nulls(value)
    if not isinstance(args, dict):
        raise DataError(f"template arguments: `{_TEMPLATE_ARGS}` is {type(value).__name__}, not an object")
    return args


def with_system_prompt(record: Record, said: Conversations, fields: tuple[str, ...] = _SYSTEM) -> Conversations:
    """Prepend the system prompt that stands in a field of its own; a conversation that opens with one keeps its own.

    Raises:
        DataError: it is no text.
    """
    field = next((field for field in fields if not is_blank(record.get(field))), None)
    if field is None:
        return said
    told = Message("system", text_of(record[field], f"`{field}`"))

    def prepend(turns: Conversation) -> Conversation:
        return turns if turns[0].role == "system" else turns.with_turns((told, *turns))

    return said._replace(
        messages=prepend(said.messages), rejected=None if said.rejected is None else prepend(said.rejected)
    )


def with_rejected(record: Record, said: Conversations, reading: Reading) -> Conversations:
    """Add the answer that lost, as ms-swift has it beside the conversation with the one that won.

    ``rejected_response``, or a ``rejected`` that no ``chosen`` stands beside, is a text, a turn or turns, in place of
    the last answer; ``rejected_messages`` is the whole conversation over again.

    Raises:
        DataError: it is not to be understood.
    """
    if said.rejected is not None or record.keys().isdisjoint(_OF_REJECTED):
        return said
    if not is_blank(record.get("rejected_messages")):
        whole = turns_of(record["rejected_messages"], "rejected_messages", reading)
        return said._replace(rejected=said.messages.with_turns(whole))
    field = next((each for each in _LOST if isinstance(record.get(each), str | list | dict)), None)
    value = record[field] if field else None
    if field is None or is_blank(value) or (field == "rejected" and not is_null(record.get("chosen"))):
        return said
    if isinstance(value, dict) or are_turns(value):
        turns = turns_of([value] if isinstance(value, dict) else value, field, reading)
        if turns[0].role in ("system", "user"):
            return said._replace(rejected=said.messages.with_turns(turns))
        asked = max((i for i, turn in enumerate(said.messages, 1) if turn.role == "user"), default=0)
        return said._replace(rejected=said.messages.with_turns((*said.messages[:asked], *turns)))
    if said.messages[-1].role != "assistant":
        raise DataError(f"missing text: there is a `{field}`, and no answer that it lost to")
    if isinstance(value, list) and value and isinstance(value[0], str):
        value = value[0]
    lost = Message("assistant", text_of(value, f"`{field}`"))
    return said._replace(rejected=said.messages.with_turns((*said.messages[:-1], lost)))


def with_label(record: Record, said: Conversations) -> Conversations:
    """Add whether the answer is wanted: KTO's ``label`` or ``kto_tag``, of a conversation that ends with an answer.

    A ``label`` is KTO's where it is a truth value; a number or a word is the class of something else. Data frames and
    CSV files write truth values as numbers and words too: those of ``kto_tag`` are read, whose name says what it is,
    those of ``label`` beside TRL's ``completion``, and the words beside turns.

    Raises:
        DataError: there is a ``kto_tag``, and it is no truth value.
    """
    no_label = "label" not in record and "kto_tag" not in record
    if no_label or said.rejected is not None or said.messages[-1].role != "assistant":
        return said
    label, tag = record.get("label"), record.get("kto_tag")
    if not is_blank(tag):
        return said._replace(wanted=label_of(tag, "kto_tag"))
    of_trl = not is_null(record.get("completion"))
    of_turns = any(not is_null(record.get(field)) for field in ("messages", "conversations", "conversation"))
    is_word = isinstance(label, str) and label.strip().lower() in ("true", "false")
    if isinstance(label, bool) or of_trl or (of_turns and is_word):
        return said._replace(wanted=truth_of(label))
    return said


def label_of(value: Json, field: str) -> bool:
    """Return the label that a field holds, which says of itself that it is one.

    Raises:
        DataError: it is no truth value.
    """
    truth = truth_of(value)
    if truth is None:
        raise DataError(f"no label: `{field}` is {value!r}, neither true nor false")
    return truth
