"""Shapes whose fields are a question and its answer, under whatever names."""

import re
from collections.abc import Callable

from handpick.data.examples import Conversation, Json, Message, Role
from handpick.data.formats.record import Conversations, Format, Record, is_blank, is_null, parse_json
from handpick.data.formats.text import text_of
from handpick.data.formats.turns import are_turns, one_turn, turns_of
from handpick.data.json_rules import WrittenNumber
from handpick.data.reading import Reading
from handpick.errors import DataError

# ms-swift's names, in its order
QUERY_FIELDS = ("query", "prompt", "input", "instruction", "question", "problem")
# beside these a number is not what was said, but which of them
_CHOICES = re.compile(
    r"choices|options|candidates|endings|(option|choice|ending|sol|answer)[ _]?[a-e0-9]|op[a-e]|[a-e]", re.IGNORECASE
)
_PARTS_OF_A_QUESTION = ("instruction", "context")
ANSWER_FIELDS = (
    "response", "answer", "output", "targets", "target", "answer_key", "answers", "solution", "text", "completion",
    "content",
)  # fmt: skip


def side(value: Json, field: str, role: Role, reading: Reading) -> Conversation:
    """Read a field that is a text (said by ``role``), one turn, or turns, which may stand as JSON text.

    Raises:
        DataError: it is something else.
    """
    if isinstance(value, str):
        listed = _listed_turns(value, field)
        return Conversation([Message(role, value)]) if listed is None else turns_of(listed, field, reading)
    if isinstance(value, dict):
        return one_turn(value, field, reading)
    return turns_of(value, field, reading)


def _listed_turns(text: str, field: str) -> Json:
    """Return the turns that stand as JSON text in a column, as CSV files have them; None where a text is a text."""
    if not text.lstrip().startswith("[{") or not text.rstrip().endswith("}]"):
        return None
    try:
        value: Json = parse_json(text, f"`{field}`", "not a conversation")
    except DataError:
        return None
    return value if are_turns(value) else None


def whole(prompt: Conversation, answer: Conversation) -> Conversation:
    """Return the conversation of a prompt and its answer, which may be the whole conversation over again."""
    if answer[0].role not in ("system", "developer", "user"):
        return Conversation((*prompt, *answer))
    told = prompt[:1] if prompt and prompt[0].role == "system" and answer[0].role != "system" else ()
    return Conversation((*told, *answer))


def question(record: Record, field: str, context: str | None) -> str:
    """Return a question, and below it, after one line break as the trainers have it, what it is asked about.

    Raises:
        DataError: either is no text.
    """
    parts = [text_of(record[field], f"`{field}`")]
    if context is not None and not is_null(record.get(context)):
        parts.append(text_of(record[context], f"`{context}`"))
    return "\n".join(part for part in parts if part)


def answer_of(value: Json, field: str) -> str:
    """Return an answer; of several that are right, the first.

    Raises:
        DataError: it is no text.
    """
    if isinstance(value, list) and value and all(isinstance(each, str) for each in value):
        value = value[0]
    return text_of(value, f"`{field}`")


def answer_in(record: Record, field: str) -> Json:
    """Return what a record has for an answer; a number as the text that it is written as.

    Raises:
        DataError: it is a number of which readers make another text, or that may be the place of a choice.
    """
    value = record[field]
    if not isinstance(value, int | float) or isinstance(value, bool) or is_null(value):
        return value
    if isinstance(value, WrittenNumber):
        raise DataError(
            f"missing text: `{field}` is a number, written {value.text}, of which readers make {value!r}: write "
            f'it as text, "{value.text}"'
        )
    others = (name for name in record if name != field and not is_blank(record[name]))
    if choices := next(filter(_CHOICES.fullmatch, others), None):
        raise DataError(
            f"missing text: `{field}` is a number, {value!r}, and beside `{choices}` it may be the place of one: "
            "write the answer as text, or leave the column out"
        )
    return repr(value)


def answer_side(value: Json, field: str, reading: Reading) -> Conversation:
    """Read an answer: a text, of several that are right the first, one turn, or turns.

    Raises:
        DataError: it is something else.
    """
    if isinstance(value, dict) and are_turns([value]):
        return one_turn(value, field, reading)
    if are_turns(value) or (isinstance(value, str) and _listed_turns(value, field) is not None):
        return side(value, field, "assistant", reading)
    return Conversation([Message("assistant", answer_of(value, field))])


def _instruction_of(record: Record, asked: str, context: str | None) -> tuple[str, str | None]:
    """Return the field of the question and of what stands below it.

    An `input` beside an `instruction` is what that is asked about, whatever the answer is called; an instruction may
    have its `context` where others have the input.
    """
    if asked == "input" and not is_blank(record.get("instruction")):
        return "instruction", "input"
    if asked == "instruction" and (context is None or is_blank(record.get(context))):
        texts = (name for name in ("input", "context") if isinstance(record.get(name), str))
        return asked, next((name for name in texts if not is_blank(record[name])), context)
    return asked, context


def refuse_unread(record: Record, asked: str) -> None:
    """Refuse a record with a part of its question in a column that its shape does not read.

    Raises:
        DataError: there is one.
    """
    for name in (each for each in _PARTS_OF_A_QUESTION if each != asked):
        part, value = record.get(name), record[asked]
        if isinstance(part, str) and part.strip() and not (isinstance(value, str) and part.strip() in value):
            raise DataError(
                f"unread part of a question: `{name}` stands beside `{asked}`, and which comes first is unknown; name "
                f"both with --columns prompt=…,context=…,response=…, or leave `{name}` out with "
                f"--columns prompt={asked},response=…"
            )


def columns(name: str, asked: str, answered: str, context: str | None = None) -> Format:
    """Make the format of two columns, whose question may be turns and have a context and a history.

    Args:
        name: of the format.
        asked: the question's column.
        answered: the answer's.
        context: the column of what the question is asked about, if any.
    """

    def parse(record: Record, reading: Reading) -> Conversations:
        field, beside = _instruction_of(record, asked, context)
        if beside is None:
            refuse_unread(record, asked)
            prompt = side(record[asked], asked, "user", reading)
        else:
            prompt = Conversation([Message("user", question(record, field, beside))])
        answer = answer_side(answer_in(record, answered), answered, reading)
        return Conversations(Conversation((*history_of(record, reading), *whole(prompt, answer))))

    return Format(name, (asked, answered), parse)


def history_of(record: Record, reading: Reading) -> Conversation:
    """Read earlier turns: pairs of a prompt and its answer, or turns.

    Raises:
        DataError: they are something else.
    """
    pairs = record.get("history")
    if isinstance(pairs, str) and pairs.strip():
        pairs = parse_json(pairs, "`history`", "not a conversation")
    if is_blank(pairs):
        return Conversation()
    if are_turns(pairs):
        return turns_of(pairs, "history", reading)
    turns: list[Message] = []
    for i, pair in enumerate(pairs if isinstance(pairs, list) else [pairs], start=1):
        said = list(pair.values()) if isinstance(pair, dict) else pair
        if not isinstance(said, list) or len(said) != 2:
            raise DataError("not a conversation: `history` is no list of pairs of a prompt and its answer")
        prompt, answer = (text_of(each, f"`history`, pair {i},") for each in said)
        turns += [Message("user", prompt), Message("assistant", answer)]
    return Conversation(turns)


def prompt_and(answered: str) -> Callable[[Record, Reading], Conversations]:
    """Make a reader of a prompt and its answer, each of which may be a text or turns."""

    def parse(record: Record, reading: Reading) -> Conversations:
        refuse_unread(record, "prompt")
        prompt = side(record["prompt"], "prompt", "user", reading)
        value = answer_in(record, answered)
        if isinstance(value, list) and value and all(isinstance(each, str) for each in value):
            value = value[0]
        answer = side(value, answered, "assistant", reading)
        if isinstance(value, str) and len(answer) == 1:  # of OpenAI's first fine-tuning service each answer ends so
            answer = Conversation([Message("assistant", answer[0].content.removesuffix("<|endoftext|>"))])
        return Conversations(Conversation((*history_of(record, reading), *whole(prompt, answer))))

    return parse


def completion_alone(record: Record, reading: Reading) -> Conversations:
    """Read a conversation that stands where TRL has the completion."""
    return Conversations(turns_of(record["completion"], "completion", reading))


def is_conversation(record: Record) -> bool:
    """Return whether a completion is the whole conversation."""
    value = record["completion"]
    return are_turns(value) and is_null(record.get("prompt"))


def prompt_only(record: Record, reading: Reading) -> Conversations:
    """Read a prompt that waits for its answer.

    Raises:
        DataError: half of another shape is there, whose other half is missing.
    """
    answers = [field for field in ("completion", "response", "generation", "chosen", "rejected") if field in record]
    if answers:
        raise DataError(f"missing text: `{'` and `'.join(answers)}` beside `prompt` is null or not all there")
    return Conversations(side(record["prompt"], "prompt", "user", reading))


def _query_and_answer_fields(record: Record) -> tuple[str, str] | None:
    """Return the first field with a question in it, and the first with an answer: a text, or a list of texts."""

    def is_answer(field: str) -> bool:
        value = record.get(field)
        several = value if isinstance(value, list) else [value]
        return bool(several) and all(isinstance(each, str) and each for each in several)

    asked = next((field for field in QUERY_FIELDS if not is_blank(record.get(field))), None)
    # beside a prompt, `answers` are what a reward compares with: what is answered is another's to say
    references = ("answers",) if asked == "prompt" else ()
    answered = next((field for field in ANSWER_FIELDS if field not in references and is_answer(field)), None)
    return None if asked is None or answered is None else (asked, answered)


def has_query_and_answer(record: Record) -> bool:
    """Return whether any of ms-swift's names of a question and any of an answer are there."""
    return _query_and_answer_fields(record) is not None


def query_and_answer(record: Record, reading: Reading) -> Conversations:
    """Read the first of ms-swift's names of a question with the first of its names of an answer.

    Raises:
        DataError: either is no text.
    """
    found = _query_and_answer_fields(record)
    if found is None:
        raise DataError("missing text: there is no question, or no answer")
    return columns("", *found).parse(record, reading)
