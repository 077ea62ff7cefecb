"""The table of the shapes people keep instruction data in, and how a record finds its own.

A shape is known by the fields it has. A new one is a function that turns a record into ``Conversations`` and one line
in ``FORMATS``.
"""

from collections.abc import Callable

from handpick.data.formats.beside import with_label, with_rejected, with_system_prompt, with_tools
from handpick.data.formats.columns import (
    columns,
    completion_alone,
    has_query_and_answer,
    is_conversation,
    prompt_and,
    prompt_only,
    query_and_answer,
)
from handpick.data.formats.mapped import is_mapped, read_mapped, with_nested
from handpick.data.formats.media import refuse_media_columns
from handpick.data.formats.preferences import OPENAI_OUTPUTS, are_answers, openai_preference, preference
from handpick.data.formats.record import Conversations, Format, Record, is_null
from handpick.data.formats.turns import turns_of
from handpick.data.reading import TABLE_ALONE, Reading
from handpick.errors import DataError

OWN_COLUMNS = "columns of your own"  # the format of records that a user's mapping is for


def parse_record(record: Record, reading: Reading = TABLE_ALONE) -> Conversations:
    """Return what a record says, as ``read_record``.

    Raises:
        DataError: as ``read_record``.
    """
    return read_record(record, reading)[1]


def read_record(record: Record, reading: Reading = TABLE_ALONE) -> tuple[str, Conversations]:
    """Read a record in whichever of ``FORMATS`` it has the fields of, or by the user's own mapping of columns.

    A record may end without an assistant turn: a query set may be prompts alone.

    Args:
        record: its fields.
        reading: what is to be read otherwise than the table says.

    Returns:
        The name of the format, and what the record says.

    Raises:
        DataError: no shape fits, a field is missing or no text, a role is unknown, or it is not text alone.
    """
    try:
        refuse_media_columns(record)
        record = with_nested(record, reading)
        if is_mapped(record, reading):
            return OWN_COLUMNS, read_mapped(record, reading)
        found = find_format(record)
        said = with_rejected(record, found.parse(record, reading), reading)
        return found.name, with_label(record, with_tools(record, with_system_prompt(record, said)))
    except RecursionError as error:
        raise DataError("malformed JSON: the record is nested too deep") from error


def find_format(record: Record) -> Format:
    """Return the first shape whose fields are all there.

    Raises:
        DataError: there is none.
    """
    # Tables give every row every column, so a null field is a field of some other row's shape. Only if
    # nothing fits otherwise does it count, so that the message can name it.
    for fmt in FORMATS:
        if fmt.fields and fmt.fields[0] not in record:
            continue
        if all(_is_there(record, field) for field in fmt.fields) and fmt.fits(record):
            return fmt
    for fmt in FORMATS:
        if fmt.fields and all(field in record for field in fmt.fields):
            null = next((field for field in fmt.fields if is_null(record[field])), None)
            if null is None and fmt.fits(record):
                return fmt
            if null is not None:
                raise DataError(f"missing text: `{null}` of a record in the {fmt.name} shape is null")
    _refuse_known(record)
    raise DataError(
        f"no known shape: the record has the fields {', '.join(record) or 'none'}; name its columns with --columns "
        "prompt=…,response=… or messages=…, or rename them: known are messages, conversations, prompt and completion, "
        "instruction and output, question and answer, chosen and rejected, and others"
    )


def _is_there(record: Record, field: str) -> bool:
    """Return whether a field says anything; an empty list of turns is what a table fills in."""
    value = record.get(field)
    return not is_null(value) and not (field in _TURNS and value in ([], ""))


_TURNS = ("messages", "conversations", "conversation")


def _refuse_known(record: Record) -> None:
    """Refuse by name what is known and not read."""
    if not is_null(record.get("input_ids")):
        raise DataError(
            "pre-tokenised: the record holds `input_ids`, tokens of one model's; give the text that they were made from"
        )
    if not is_null(record.get("segments")):
        raise DataError("segments: the record holds axolotl's `segments`, text without turns; write it as `messages`")
    if not is_null(record.get("text")):
        raise DataError(
            "bare text: the record is a `text` without turns; --columns text=text learns all of it, "
            "--columns prompt=…,response=… names a question and its answer"
        )


def _turns(field: str) -> Callable[[Record, Reading], Conversations]:
    return lambda record, reading: Conversations(turns_of(record[field], field, reading))


# The first that fits is taken. A shape stands above those whose fields are part of its own; a conversation above
# columns, which may be metadata of it; of two columns that may be the answer, what was said above the bare result.
FORMATS: tuple[Format, ...] = (
    Format("preference", ("chosen", "rejected"), preference, are_answers),
    Format("OpenAI preference", ("input", *OPENAI_OUTPUTS), openai_preference),
    Format("messages", ("messages",), _turns("messages")),
    Format("ShareGPT", ("conversations",), _turns("conversations")),
    Format("WildChat or LMSYS", ("conversation",), _turns("conversation")),
    columns("Alpaca", "instruction", "output", context="input"),
    Format(
        "Dolly", ("instruction", "context", "response"), columns("", "instruction", "response", context="context").parse
    ),
    columns("GPTeacher", "instruction", "response", context="input"),
    columns("axolotl INSTRUCTION/RESPONSE", "INSTRUCTION", "RESPONSE"),
    Format("prompt/completion", ("prompt", "completion"), prompt_and("completion")),
    Format("prompt/response", ("prompt", "response"), prompt_and("response")),
    Format("prompt/generation", ("prompt", "generation"), prompt_and("generation")),
    columns("MetaMath or ms-swift", "query", "response"),
    columns("OpenOrca", "question", "response"),
    columns("GSM8K", "question", "answer"),
    columns("problem/solution", "problem", "solution"),
    columns("Llama-Nemotron or input/output", "input", "output"),
    columns("firefly", "input", "target"),
    columns("article/summary", "article", "summary"),
    columns("CAMEL", "message_1", "message_2"),
    Format("completion alone", ("completion",), completion_alone, is_conversation),
    Format("a query and an answer of ms-swift's", (), query_and_answer, has_query_and_answer),
    Format("prompt only", ("prompt",), prompt_only),
)
