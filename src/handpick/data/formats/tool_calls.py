"""Calls of tools, however a record writes them, as templates take them: ``{type, function: {name, arguments}}``."""

import re
from typing import NamedTuple

from handpick.data.examples import Json
from handpick.data.formats.record import check_argument_text, is_blank, is_null, parse_json, without_nulls
from handpick.errors import DataError

_THOUGHT = re.compile(r"\s*<think>.*?</think>\s*", re.DOTALL)


class CallsInText(NamedTuple):
    """What a turn of LLaMA-Factory's or ms-swift's calls: the text before the JSON (a thought), and the calls."""

    content: str
    calls: list[Json]


def calls_in_text(text: str, where: str) -> CallsInText:
    """Read a turn whose text is the JSON of one call or of several.

    Raises:
        DataError: it is no JSON, or a call has no name.
    """
    thought = _THOUGHT.match(text)
    before = thought[0] if thought else ""
    value = parse_json(text[len(before) :], f"the text of {where}", "malformed tool call")
    calls = value if isinstance(value, list) else [value]
    if not calls:
        raise DataError(f"malformed tool call: {where} is an empty list of calls")
    return CallsInText(before, [_wrap_call(without_nulls(call), where) for call in calls])


def _wrap_call(call: Json, where: str) -> Json:
    """Put a bare ``{name, arguments}`` into OpenAI's form; arguments stay an object or a text, as they are."""
    if isinstance(call, dict) and isinstance(function := call.get("function"), dict):
        check_argument_text(function.get("arguments"), where)
        return call
    name = call.get("name") if isinstance(call, dict) else None
    if not isinstance(call, dict) or not isinstance(name, str):
        raise DataError(
            f"malformed tool call: {where} holds {str(call)[:60]!r}, not an object with a name and arguments"
        )
    arguments = next((call[field] for field in ("arguments", "parameters") if not is_null(call.get(field))), {})
    check_argument_text(arguments, where)
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


def openai_calls(value: Json, where: str) -> list[Json]:
    """Return a turn's ``tool_calls``: a list, one call, or the JSON text of either; an empty one is none.

    Raises:
        DataError: it is something else.
    """
    if isinstance(value, str) and value.strip():
        value = parse_json(value, f"`tool_calls` of {where}", "malformed tool call")
    if is_blank(value):
        return []
    listed = value if isinstance(value, list) else [value]
    return [_openai_call(call, f"`tool_calls` of {where}") for call in listed if not is_null(call)]


def _openai_call(value: Json, field: str) -> Json:
    """Return one call; arguments that are null or missing are none."""
    if isinstance(value, str):  # a list of JSON texts
        value = parse_json(value, field, "malformed tool call")
    call = without_nulls(value)
    if not isinstance(call, dict) or not call:
        raise DataError(f"malformed tool call: {field} is no list of objects, or one of them is empty")
    function = call.get("function")
    check_argument_text((function if isinstance(function, dict) else call).get("arguments"), field)
    if "function" not in call and isinstance(call.get("name"), str):
        return call if "parameters" in call else call | {"arguments": call.get("arguments", {})}
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        return call
    return call | {"function": {**function, "arguments": function.get("arguments", {})}}


def legacy_call(value: Json, where: str) -> list[Json]:
    """Return OpenAI's older ``function_call`` of a turn as the one call it is.

    Raises:
        DataError: it has no name.
    """
    if isinstance(value, str) and value.strip():
        value = parse_json(value, f"`function_call` of {where}", "malformed tool call")
    return [] if is_blank(value) else [_wrap_call(without_nulls(value), f"`function_call` of {where}")]


def tools_of(value: Json, field: str) -> list[Json]:
    """Return the tools of a record: a list, one tool, or the JSON text of either; empty, null and NaN are none.

    Bare descriptions, as LLaMA-Factory, ms-swift and Anthropic have them, are wrapped as templates take them.

    Raises:
        DataError: it is something else.
    """
    if isinstance(value, str) and value.strip():
        value = parse_json(value, f"`{field}`", "tools")
    if is_blank(value):
        return []
    tools = value if isinstance(value, list) else [value]
    return [_wrap_tool(_tool(tool, field)) for tool in tools]


def _tool(value: Json, field: str) -> dict[str, Json]:
    if isinstance(value, str):  # a list of JSON texts
        value = parse_json(value, f"`{field}`", "tools")
    tool = without_nulls(value)
    if not isinstance(tool, dict):
        raise DataError(f"tools: `{field}` holds {type(value).__name__}, not objects that describe tools")
    return tool


def _wrap_tool(tool: dict[str, Json]) -> Json:
    if "function" in tool or "type" in tool or not isinstance(tool.get("name"), str):
        return tool
    function = {("parameters" if name == "input_schema" else name): said for name, said in tool.items()}
    return {"type": "function", "function": function}
