"""Content blocks that are no text but belong to a turn: Anthropic's tool use and results, and thoughts."""

from handpick.data.examples import Json
from handpick.data.formats.record import is_null
from handpick.data.formats.text import THINKING_KINDS, text_of

Turn = dict[str, Json]

_KINDS = ("tool_use", "tool_result", *THINKING_KINDS)


def split_blocks(turn: Turn, content_field: str, names: dict[str, str], where: str) -> list[Turn]:
    """Return a turn as the turns it is in OpenAI's form: results of tools are turns of their own.

    Args:
        turn: as it came.
        content_field: the name of its content.
        names: of the tools by the ids of their calls; those of this turn are added.
        where: it stands.

    Raises:
        DataError: a block is not text where text should be.
    """
    content = turn.get(content_field)
    if not isinstance(content, list) or not any(_kind(part) in _KINDS for part in content):
        return [turn]
    turns: list[Turn] = []
    said = {name: value for name, value in turn.items() if name != content_field}  # goes with the first of the turns
    spoken: Turn | None = None
    for part in content:
        if isinstance(part, dict) and _kind(part) == "tool_result":
            turns.append(_result(part, names, where))
            spoken = None
            continue
        if spoken is None:
            spoken = {**said, content_field: []}
            said = {name: value for name, value in said.items() if name in ("role", "from")}
            turns.append(spoken)
        _add_block(spoken, part, content_field, names, where)
    return turns


def _kind(part: Json) -> Json:
    return part.get("type") if isinstance(part, dict) else None


def _add_block(turn: Turn, part: Json, content_field: str, names: dict[str, str], where: str) -> None:
    kind = _kind(part)
    if kind == "tool_use" and isinstance(part, dict):
        if isinstance(part.get("id"), str) and isinstance(part.get("name"), str):
            names[str(part["id"])] = str(part["name"])
        function: Json = {"name": part.get("name"), "arguments": {} if is_null(part.get("input")) else part["input"]}
        calls = turn.setdefault("tool_calls", [])
        if isinstance(calls, list):
            calls.append({"id": part.get("id"), "type": "function", "function": function})
    elif kind in THINKING_KINDS and isinstance(part, dict):
        thought = next((part[name] for name in (str(kind), "thinking", "text") if not is_null(part.get(name))), None)
        turn["reasoning_content"] = str(turn.get("reasoning_content") or "") + text_of(
            thought, f"the thought of {where}"
        )
    else:
        parts = turn[content_field]
        if isinstance(parts, list):
            parts.append(part)


def _result(part: Turn, names: dict[str, str], where: str) -> Turn:
    call, content = part.get("tool_use_id"), part.get("content")
    turn: Turn = {"role": "tool", "tool_call_id": call, "name": names.get(str(call))}
    if part.get("is_error"):
        turn["is_error"] = True
    return turn | {"content": "" if is_null(content) else text_of(content, f"a tool's result in {where}")}
