"""The turns of a conversation: who speaks, what is said, what else the turn carries, and whether it is learnt."""

from dataclasses import replace

from handpick.data.examples import Conversation, Json, Message
from handpick.data.formats.blocks import split_blocks
from handpick.data.formats.loss import DETAIL, WEIGHTS, is_learnt, untrained_spans
from handpick.data.formats.media import refuse_media_columns
from handpick.data.formats.record import is_blank, is_null, parse_json, to_json, without_nulls
from handpick.data.formats.roles import CALLING, ROLES, role_name
from handpick.data.formats.text import Text, content_of, text_of
from handpick.data.formats.tool_calls import calls_in_text, legacy_call, openai_calls
from handpick.data.reading import Reading
from handpick.errors import DataError

_ROLE_FIELDS, _CONTENT_FIELDS = ("role", "from"), ("content", "value")
_REASONING = ("reasoning_content", "reasoning", "thinking")
# beside these a turn may be without a text
_CARRIED = ("tool_calls", "function_call", "function_calls", "functions", *_REASONING)
# ms-swift's pairs: a turn of two speakers, named by their fields
_ASKING, _ANSWERING = ("user", "human", "tool"), ("assistant", "gpt", "bot")


def turns_of(value: Json, field: str, reading: Reading) -> Conversation:
    """Read a list of turns, or the JSON text of one.

    Raises:
        DataError: it is none, or a turn is not to be understood.
    """
    if isinstance(value, str) and value.lstrip().startswith("["):
        value = parse_json(value, f"`{field}`", "not a conversation")
    if not isinstance(value, list) or not value:
        raise DataError(f"not a conversation: `{field}` is no list of turns, or an empty one")
    names: dict[str, str] = {}
    turns: list[Message] = []
    for i, raw in enumerate(value, start=1):
        if (plain := _plain_turn(raw)) is not None:
            turns.append(plain)
            continue
        where = f"turn {i} of `{field}`"
        for turn in (each for said in _speakers(raw, where) for each in split_blocks(*said, names, where)):
            message, calls_alone = _message(turn, where, reading)
            if calls_alone and turns and turns[-1].role == "assistant" and turns[-1].loss == message.loss:
                turns[-1] = _join_calls(turns[-1], message)
            else:
                turns.append(message)
    return Conversation(turns)


def _plain_turn(turn: Json) -> Message | None:
    """Return a turn that is a role and a text, as most turns of most files are; None for any other."""
    if not isinstance(turn, dict) or len(turn) != 2:
        return None
    role, content = (turn.get("role"), turn.get("content")) if "role" in turn else (turn.get("from"), turn.get("value"))
    if isinstance(role, str) and isinstance(content, str) and role in ROLES:
        return Message(ROLES[role], content)
    return None


def one_turn(value: dict[str, Json], field: str, reading: Reading) -> Conversation:
    """Read a field that is one turn."""
    return turns_of([value], field, reading)


def are_turns(value: Json) -> bool:
    """Return whether a value is a list of turns, and no list of anything else."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(turn, dict) and not is_null(turn.get(_role_field(turn))) for turn in value)
    )


def _speakers(turn: Json, where: str) -> list[tuple[dict[str, Json], str]]:
    """Return a turn with the name of its content's field; a pair of a question and its answer as two turns."""
    if isinstance(turn, str) and turn.lstrip().startswith("{"):  # a list of JSON texts
        turn = parse_json(turn, where, "not a turn")
    if not isinstance(turn, dict):
        raise DataError(f"not a turn: {where} is {type(turn).__name__}, not an object with a role and a content")
    if not any(field in turn for field in (*_ROLE_FIELDS, *_CONTENT_FIELDS)):
        sides = [
            [each for each in names if not is_null(turn.get(each))] for names in (("system",), _ASKING, _ANSWERING)
        ]
        if pair := [side[0] for side in sides if side]:
            return [(each, "content") for each in _turns_of_pair(turn, pair)]
    return [(turn, _content_field(turn))]


def _turns_of_pair(turn: dict[str, Json], speakers: list[str]) -> list[dict[str, Json]]:
    """Return a turn for each speaker of a pair; what else the pair says is said of the last, the answer."""
    turns: list[dict[str, Json]] = [{"role": speaker, "content": turn[speaker]} for speaker in speakers]
    beside = {name: value for name, value in turn.items() if name not in speakers}
    return [*turns[:-1], turns[-1] | beside]


def _role_field(turn: dict[str, Json]) -> str:
    return "from" if is_null(turn.get("role")) and "from" in turn else "role"


def _content_field(turn: dict[str, Json]) -> str:
    """Return the name of a turn's content; of a turn without one that of its fellow: ``from`` goes with ``value``."""
    found = next((field for field in _CONTENT_FIELDS if not is_null(turn.get(field))), None)
    return found or ("value" if _role_field(turn) == "from" else "content")


def _message(turn: dict[str, Json], where: str, reading: Reading) -> tuple[Message, bool]:
    """Return a turn, and whether it is one of calls alone (ms-swift's and LLaMA-Factory's), which are joined."""
    role_field = _role_field(turn)
    if is_null(turn.get(role_field)):
        fields = ", ".join(map(str, turn)) or "none"  # of a list that came as text, a key need not be text
        raise DataError(
            f"unknown role: {where} has no `{role_field}`, and its fields are {fields}; write turns with `role` and "
            "`content`, or `from` and `value`"
        )
    name = role_name(turn.get(role_field), role_field, where)
    refuse_media_columns(turn, where)
    content_field = _content_field(turn)
    extra = _extra(turn, {role_field, content_field}, where, reading)
    if name in CALLING:
        text = _calls_of(turn.get(content_field), extra, f"`{content_field}` of {where}", where)
    else:
        text = _content(turn.get(content_field), f"`{content_field}` of {where}", extra, reading)
    learnt = is_learnt(turn, WEIGHTS, where, reading)
    spans = text.no_loss
    if not is_null(turn.get(DETAIL)):
        if not is_blank(turn[DETAIL]):
            spans = untrained_spans(turn[DETAIL], text.text, where)
        elif is_null(turn.get("train")):  # axolotl: a turn with no stretch to train on
            learnt = False
    role = "assistant" if name in CALLING else ROLES[name]
    if role != "assistant" and not is_null(turn.get("train")) and is_learnt(turn, ("train",), where, reading):
        raise DataError(
            f"turn weight: `train` of {where} asks to learn what the {role} says, and answers alone are learnt; leave "
            "it out there"
        )
    return Message(role, text.text, to_json(extra) if extra else "", learnt, spans), name in CALLING


def _calls_of(value: Json, extra: dict[str, Json], field: str, where: str) -> Text:
    """Put the calls that are a turn's text into its fields, and return the text before them.

    Where text should be there may be the object already, or a list of them.
    """
    several = value if isinstance(value, list) else [value]
    are_calls = all(isinstance(each, dict) and ("name" in each or "function" in each) for each in several)
    said = calls_in_text(to_json(value) if are_calls else text_of(value, field), where)
    extra["tool_calls"] = said.calls
    return Text(said.content)


def _extra(turn: dict[str, Json], own: set[str], where: str, reading: Reading) -> dict[str, Json]:
    """Return what a turn carries beside role and content, as chat templates read it."""
    extra: dict[str, Json] = {}
    for name, value in turn.items():
        if name in own or is_null(value) or name in WEIGHTS or name == DETAIL:
            continue
        if name in ("tool_calls", "function_call"):
            calls = openai_calls(value, where) if name == "tool_calls" else legacy_call(value, where)
            if calls:
                extra["tool_calls"] = calls
        elif name in _REASONING and isinstance(value, list):
            thought = content_of(value, f"`{name}` of {where}", reading)
            if thought.no_loss:
                raise DataError(
                    f"turn weight: a part of `{name}` of {where} is not to be learnt, and the turn's text is"
                )
            extra[name] = thought.text
        else:
            extra[name] = without_nulls(value)
    return extra


def _content(value: Json, field: str, extra: dict[str, Json], reading: Reading) -> Text:
    if is_null(value) and any(not is_blank(extra.get(name)) for name in _CARRIED):
        return Text("")
    return content_of(value, field, reading)


def _join_calls(before: Message, calls: Message) -> Message:
    """Return one turn of two: calls in a row are one turn's, and what was said before them is its text (ms-swift)."""
    fields = {**before.fields, **calls.fields}
    fields["tool_calls"] = [*_calls(before), *_calls(calls)]
    return replace(before, content=before.content + calls.content, extra=to_json(fields))


def _calls(message: Message) -> list[Json]:
    calls = message.fields.get("tool_calls")
    return calls if isinstance(calls, list) else []
