"""Records of a user's own columns: ``--columns prompt=question,response=answer``."""

from handpick.data.examples import Conversation, Json, Message
from handpick.data.formats.beside import label_of, with_label, with_rejected, with_system_prompt, with_tools
from handpick.data.formats.columns import answer_in, answer_of, history_of, question, side, whole
from handpick.data.formats.preferences import preference_after
from handpick.data.formats.record import Conversations, Record, is_blank, is_null, label_text
from handpick.data.formats.text import text_of
from handpick.data.formats.turns import are_turns, turns_of
from handpick.data.reading import ColumnRole, Reading
from handpick.errors import DataError

_OPTIONAL: tuple[ColumnRole, ...] = ("system", "context", "label", "tools", "id", "source")


def with_nested(record: Record, reading: Reading) -> Record:
    """Return a record with the columns that are fields of objects in it, as ``metadata.source``, under these names.

    A column whose own name is so is meant first.
    """
    named = [column for _, column in reading.columns if "." in column and column not in record]
    nested = {column: value for column in named if (value := _field_inside(record, column)) is not None}
    return {**record, **nested} if nested else record


def _field_inside(record: Record, column: str) -> Json:
    value: Json = dict(record)
    for name in column.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def source_of(record: Record, reading: Reading) -> str | None:
    """Return where a record says that it comes from: in the column that a user has for it, else in its own `source`.

    Raises:
        DataError: the column holds neither a text nor a whole number.
    """
    column = reading.column("source")
    if column is None:
        return label_text(record.get("source"))
    value = with_nested(record, reading).get(column)
    if is_blank(value):
        return label_text(record.get("source"))
    if (source := label_text(value)) is None:
        raise DataError(
            f"no source: `{column}` is {type(value).__name__}, and sources are counted by a text or a whole number; "
            "name another column as --columns source=…"
        )
    return source


def is_mapped(record: Record, reading: Reading) -> bool:
    """Return whether a record has any of the columns that hold what is said: others are read by the table."""
    return any(not is_null(record.get(column)) for role, column in reading.columns if role not in _OPTIONAL)


def read_mapped(record: Record, reading: Reading) -> Conversations:
    """Read a record by the mapping, and by nothing else but fields that mean the same in every shape.

    Raises:
        DataError: a column is missing, or is not what its role takes.
    """
    for role, column in reading.columns:
        if role not in _OPTIONAL and is_null(record.get(column)):
            raise DataError(f"missing text: the {role}'s column `{column}` is null or missing")
    text = reading.column("text")
    if text is not None:
        return _document(record, text)
    said = with_rejected(record, _conversations(record, reading), reading)
    system = reading.column("system")
    said = with_system_prompt(record, said, (system,)) if system else with_system_prompt(record, said)
    own = {role: record.get(column) for role, column in reading.columns}
    said = _with_own_label(record, said, reading.column("label"))
    return with_tools({**record, **_as_field("tools", own)}, said)


def _as_field(name: ColumnRole, own: dict[str, Json]) -> dict[str, Json]:
    return {name: own[name]} if name in own else {}


def _with_own_label(record: Record, said: Conversations, column: str | None) -> Conversations:
    """Add the label, whose values may be numbers and words: the user says that it is one."""
    if column is None:
        return with_label(record, said)
    if is_null(record.get(column)) or said.rejected is not None or said.messages[-1].role != "assistant":
        return said
    return said._replace(wanted=label_of(record[column], column))


def _document(record: Record, column: str) -> Conversations:
    text = Message("assistant", text_of(record[column], f"`{column}`"))
    return Conversations(Conversation([text], document=True))


def _conversations(record: Record, reading: Reading) -> Conversations:
    prompt = _prompt(record, reading)
    chosen, rejected = reading.column("chosen"), reading.column("rejected")
    if chosen and rejected:
        return preference_after(prompt, record[chosen], record[rejected], reading)
    answered = reading.column("response")
    if answered is None:
        return Conversations(prompt)
    value = answer_in(record, answered)
    if isinstance(value, dict) or are_turns(value):
        return Conversations(Conversation(whole(prompt, side(value, answered, "assistant", reading))))
    return Conversations(Conversation((*prompt, Message("assistant", answer_of(value, answered)))))


def _prompt(record: Record, reading: Reading) -> Conversation:
    listed = reading.column("messages")
    if listed is not None:
        return turns_of(record[listed], listed, reading)
    asked, context = reading.column("prompt"), reading.column("context")
    if asked is None:
        return Conversation()
    if isinstance(record[asked], str) and context is not None and not is_blank(record.get(context)):
        prompt = Conversation([Message("user", question(record, asked, context))])
    else:
        prompt = side(record[asked], asked, "user", reading)
    return Conversation((*history_of(record, reading), *prompt))
