"""Training texts of Meta's families and of Mistral's, written by hand."""

from collections.abc import Iterator

from tests.data.chat_shapes import Message
from tests.data.chat_templates.pieces import (
    PREAMBLE,
    Piece,
    Refused,
    Tools,
    calls,
    compact,
    given,
    left_out,
    must_alternate,
    past_system,
    said,
)


def llama3(messages: list[Message], tools: Tools) -> Iterator[Piece]:
    """Write roles and contents without blanks around them."""
    yield given("<|begin_of_text|>")
    for message in messages:
        yield given(f"<|start_header_id|>{message['role']}<|end_header_id|>\n\n")
        content = message["content"].strip()
        if message["role"] != "assistant":
            yield given(content + "<|eot_id|>")
            continue
        if calls(message):
            yield left_out("the call")
        yield said(message, content + "<|eot_id|>")


def llama3_1(messages: list[Message], tools: Tools) -> Iterator[Piece]:
    """Write a call as one JSON object, without the text beside it; tools go into the first user's turn."""
    yield PREAMBLE
    turns = past_system(messages)
    for message in turns[1:] if tools else turns:
        if message["role"] == "tool":
            yield given(f"<|start_header_id|>ipython<|end_header_id|>\n\n{compact(message['content'])}<|eot_id|>")
            continue
        yield given(f"<|start_header_id|>{message['role']}<|end_header_id|>\n\n")
        if len(calls(message)) > 1:
            raise Refused("a turn may make one call")
        if calls(message):
            call = calls(message)[0]
            if message["content"]:
                yield left_out("the text beside the call")
            yield said(message, f'{{"name": "{call["name"]}", "parameters": {compact(call["arguments"])}}}<|eot_id|>')
        elif message["role"] == "assistant":
            yield said(message, message["content"].strip() + "<|eot_id|>")
        else:
            yield given(message["content"].strip() + "<|eot_id|>")


def llama4(messages: list[Message], tools: Tools) -> Iterator[Piece]:
    """Write the text beside a call between Python marks, and contents with their blanks."""
    yield PREAMBLE
    turns = past_system(messages)
    for message in turns[1:] if tools else turns:
        if message["role"] == "tool":
            yield given(f"<|header_start|>ipython<|header_end|>\n\n{compact(message['content'])}<|eot|>")
            continue
        yield given(f"<|header_start|>{message['role']}<|header_end|>\n\n")
        if calls(message):
            written = "".join(
                f'{{"name": "{call["name"]}", "parameters": {compact(call["arguments"])}}}' for call in calls(message)
            )
            yield said(message, f"<|python_start|>{message['content']}<|python_end|>{written}<|eot|>")
        elif message["role"] == "assistant":
            yield said(message, message["content"] + "<|eot|>")
        else:
            yield given(message["content"] + "<|eot|>")


def mistral_v1(messages: list[Message], tools: Tools) -> Iterator[Piece]:
    """Write the blank in front of an answer as the answer's."""
    turns = past_system(messages)
    must_alternate(turns)
    yield given("<s>")
    for place, message in enumerate(turns):
        if message["role"] == "user":
            system = messages[0]["content"] + "\n\n" if turns is not messages and place == 0 else ""
            yield given(f" [INST] {system}{message['content']} [/INST]")
        else:
            if calls(message):
                yield left_out("the call")
            yield said(message, f" {message['content']}</s>")


def alternating_but_for_tools(messages: list[Message]) -> list[Message]:
    """Return the turns behind the system's, refused where those without tools do not alternate."""
    turns = past_system(messages)
    must_alternate([m for m in turns if m["role"] != "tool" and not calls(m)])
    return turns


def is_last_question(turns: list[Message], message: Message) -> bool:
    """Return whether a turn is the last of the user's, or equal to it."""
    return message == [m for m in turns if m["role"] == "user"][-1]


def available_tools(tools: Tools, blank: str) -> str:
    """Return the tools as Mistral's templates up to Nemo write them."""
    return f"[AVAILABLE_TOOLS]{blank}{compact(tools)}[/AVAILABLE_TOOLS]" if tools else ""


def mistral_v3(messages: list[Message], tools: Tools) -> Iterator[Piece]:
    """Write v2 and v3 of the sentencepiece kind, with blanks behind marks."""
    yield from _before_v7(messages, tools, " ")


def mistral_v3_tekken(messages: list[Message], tools: Tools) -> Iterator[Piece]:
    """Write Nemo's, without blanks behind marks."""
    yield from _before_v7(messages, tools, "")


def _before_v7(messages: list[Message], tools: Tools, blank: str) -> Iterator[Piece]:
    turns = alternating_but_for_tools(messages)
    yield given("<s>")
    for message in turns:
        if message["role"] == "user":
            if is_last_question(turns, message):
                yield given(available_tools(tools, blank))
            yield given(f"[INST]{blank}{message['content']}[/INST]")
        elif calls(message):
            if message["content"]:
                yield left_out("the text beside the call")
            written = [f'{compact(call["function"])[:-1]}, "id": "{call["id"]}"}}' for call in message["tool_calls"]]
            yield said(message, f"[TOOL_CALLS]{blank}[{', '.join(written)}]</s>")
        elif message["role"] == "assistant":
            yield said(message, f"{blank}{message['content'].strip() if blank else message['content']}</s>")
        elif message["role"] == "tool":
            body = f'{{"content": {message["content"]}, "call_id": "{message["tool_call_id"]}"}}'
            yield given(f"[TOOL_RESULTS]{blank}{body}[/TOOL_RESULTS]")


def mistral_small_3(messages: list[Message], tools: Tools) -> Iterator[Piece]:
    """Write system turns anywhere, no tools, roles in any order."""
    yield PREAMBLE
    for message in past_system(messages):
        if message["role"] == "user":
            yield given(f"[INST]{message['content']}[/INST]")
        elif message["role"] == "system":
            yield given(f"[SYSTEM_PROMPT]{message['content']}[/SYSTEM_PROMPT]")
        elif message["role"] == "assistant":
            if calls(message):
                yield left_out("the call")
            yield said(message, message["content"] + "</s>")
        else:
            raise Refused(f"no turn may be {message['role']}'s")


def mistral_small_3_2(messages: list[Message], tools: Tools) -> Iterator[Piece]:
    """Write tools in front of the last question."""
    turns = alternating_but_for_tools(messages)
    yield PREAMBLE
    for message in turns:
        if message["role"] == "user":
            if is_last_question(turns, message):
                yield given(available_tools(tools, ""))
            yield given(f"[INST]{message['content']}[/INST]")
        elif calls(message):
            if message["content"]:
                yield left_out("the text beside the call")
            written = "".join(
                f"[TOOL_CALLS]{call['function']['name']}[CALL_ID]{call['id']}"
                f"[ARGS]{compact(call['function']['arguments'])}"
                for call in message["tool_calls"]
            )
            yield said(message, written + "</s>")
        elif message["role"] == "assistant":
            yield said(message, message["content"] + "</s>")
        else:
            yield given(f"[TOOL_RESULTS]{message['tool_call_id']}[TOOL_CONTENT]{message['content']}[/TOOL_RESULTS]")
