"""Training texts of families whose turns stand between <|im_start|> and <|im_end|>, written by hand."""

from collections.abc import Iterator

from tests.data.chat_shapes import Message
from tests.data.chat_templates.pieces import (
    PREAMBLE,
    Piece,
    Refused,
    Tools,
    calls,
    compact,
    free,
    given,
    is_first_result,
    is_last_result,
    last_user,
    left_out,
    past_system,
    said,
    thought_apart,
)


def turn(message: Message) -> Piece:
    """Return a turn that the model reads."""
    return given(f"<|im_start|>{message['role']}\n{message['content']}<|im_end|>\n")


def end(message: Message) -> Iterator[Piece]:
    """End an answer; the line break behind the end is free."""
    yield said(message, "<|im_end|>")
    yield free("\n")


def json_call(call: dict[str, object]) -> str:
    """Return a call in Hermes' manner."""
    return f'<tool_call>\n{{"name": "{call["name"]}", "arguments": {compact(call["arguments"])}}}\n</tool_call>'


def xml_call(call: dict[str, dict[str, object]]) -> str:
    """Return a call as Qwen3.5 and Nemotron write it."""
    arguments = "".join(f"<parameter={name}>\n{value}\n</parameter>\n" for name, value in call["arguments"].items())
    return f"<tool_call>\n<function={call['name']}>\n{arguments}</function>\n</tool_call>"


def result(messages: list[Message], place: int) -> Piece:
    """Return a tool's turn as a user's: results that follow each other share one."""
    opening = "<|im_start|>user" if is_first_result(messages, place) else ""
    closing = "<|im_end|>\n" if is_last_result(messages, place) else ""
    return given(f"{opening}\n<tool_response>\n{messages[place]['content']}\n</tool_response>{closing}")


def qwen2_5(messages: list[Message], tools: Tools) -> Iterator[Piece]:
    """Write the line break behind the header free, as TRL's block begins in front of it."""
    yield PREAMBLE
    for place, message in enumerate(messages):
        if message["role"] == "user" or (message["role"] == "system" and place):
            yield turn(message)
        elif message["role"] == "assistant":
            yield given("<|im_start|>assistant")
            yield free("\n")
            parts = [message["content"]] if message["content"] or not calls(message) else []
            yield said(message, "\n".join(parts + [json_call(call) for call in calls(message)]))
            yield from end(message)
        elif message["role"] == "tool":
            yield result(messages, place)


def qwen3(messages: list[Message], tools: Tools) -> Iterator[Piece]:
    """Write thoughts only behind the last question, and an empty block where the last turn has none."""
    yield PREAMBLE
    for place, message in enumerate(messages):
        if message["role"] == "user" or (message["role"] == "system" and place):
            yield turn(message)
        elif message["role"] == "assistant":
            thought, answer = thought_apart(message)
            yield given("<|im_start|>assistant\n")
            if place > last_user(messages) and (thought or place + 1 == len(messages)):
                yield said(message, "<think>\n" + thought.strip("\n") + "\n</think>\n\n" + answer.lstrip("\n"))
            else:
                yield said(message, answer)
            if calls(message):
                yield said(message, ("\n" if answer else "") + "\n".join(json_call(call) for call in calls(message)))
            yield from end(message)
        elif message["role"] == "tool":
            yield result(messages, place)


def qwen3_5(messages: list[Message], tools: Tools) -> Iterator[Piece]:
    """Write a think block in every turn behind the last question, and answers without blanks around them."""
    yield PREAMBLE
    for place, message in enumerate(messages):
        content = message["content"].strip()
        if message["role"] == "system" and place:
            raise Refused("a system turn may only come first")
        if message["role"] == "user":
            yield given(f"<|im_start|>user\n{content}<|im_end|>\n")
        elif message["role"] == "assistant":
            thought, answer = thought_apart({**message, "content": content})
            yield given("<|im_start|>assistant\n")
            if place > last_user(messages):
                yield said(message, f"<think>\n{thought.strip()}\n</think>\n\n")
            yield said(message, answer)
            if calls(message):
                yield said(message, "\n\n" if answer.strip() else "")
                yield said(message, "\n".join(xml_call(call) for call in calls(message)))
            yield from end(message)
        elif message["role"] == "tool":
            yield result(messages, place)
        elif message["role"] != "system":
            raise Refused(f"no turn may be {message['role']}'s")


def chatml(messages: list[Message], tools: Tools) -> Iterator[Piece]:
    """Write roles and contents, and nothing else."""
    for message in messages:
        if message["role"] != "assistant":
            yield turn(message)
            continue
        yield given("<|im_start|>assistant\n")
        if calls(message):
            yield left_out("the call")
        yield said(message, message["content"])
        yield from end(message)


def falcon_h1(messages: list[Message], tools: Tools) -> Iterator[Piece]:
    """Write what ChatML does, system turns only where they come first."""
    yield PREAMBLE
    yield from chatml([message for message in messages if message["role"] != "system"], tools)


def smollm3(messages: list[Message], tools: Tools) -> Iterator[Piece]:
    """Write no system turn but the first, no calls, and no line breaks in front of an answer."""
    yield PREAMBLE
    for message in messages:
        if message["role"] in ("user", "tool"):
            yield given(f"<|im_start|>user\n{message['content']}<|im_end|>\n")
        elif message["role"] == "assistant":
            yield given("<|im_start|>assistant\n")
            if calls(message):
                yield left_out("the call")
            yield said(message, message["content"].lstrip("\n"))
            yield from end(message)


def hermes(messages: list[Message], tools: Tools) -> Iterator[Piece]:
    """Write a call without the text beside it; tool turns have a role of their own."""
    if not tools:
        raise Refused("the template for tool use takes no conversation without tools")
    yield PREAMBLE
    for place, message in enumerate(messages):
        if message["role"] in ("user", "system"):
            yield turn(message)
        elif message["role"] == "assistant" and calls(message):
            yield given("<|im_start|>assistant")
            yield free("\n")
            if message["content"]:
                yield left_out("the text beside the call")
            yield said(message, "\n".join(json_call(call) for call in calls(message)))
            yield from end(message)
        elif message["role"] == "assistant":
            yield given("<|im_start|>assistant\n")
            yield said(message, message["content"])
            yield from end(message)
        elif message["role"] == "tool":
            opening = "<|im_start|>tool\n" if is_first_result(messages, place) else ""
            last_of_all = "" if place + 1 == len(messages) else "\n"
            closing = "<|im_end|>" if is_last_result(messages, place) else ""
            yield given(f"{opening}<tool_response>\n{message['content']}\n</tool_response>{last_of_all}{closing}")


def nemotron_3(messages: list[Message], tools: Tools) -> Iterator[Piece]:
    """Write thoughts of earlier turns as empty blocks, and an empty block in turns that have none."""
    yield PREAMBLE
    turns = past_system(messages)
    for place, message in enumerate(turns):
        if message["role"] == "assistant":
            yield given("<|im_start|>assistant\n")
            yield said(message, nemotron_answer(message, is_earlier=place < last_user(turns)))
            yield from end(message)
        elif message["role"] == "tool":
            opening = "<|im_start|>user\n" if is_first_result(turns, place) else ""
            closing = "<|im_end|>\n" if is_last_result(turns, place) else ""
            yield given(f"{opening}<tool_response>\n{message['content']}\n</tool_response>\n{closing}")
        else:
            yield turn(message)


def nemotron_answer(message: Message, is_earlier: bool) -> str:
    """Return all that the model writes in a turn."""
    content = message["content"]
    if message.get("reasoning_content", "").strip():
        content = f"<think>\n{message['reasoning_content']}\n</think>\n{content}"
    elif "<think>" not in content and "</think>" not in content:
        content = "<think></think>" + content
    if is_earlier and "</think>" in content:
        content = "<think></think>" + content.split("</think>")[-1]
    if not calls(message):
        return content.strip()
    return content.strip() + "\n" + "".join(xml_call(call) + "\n" for call in calls(message))


def lfm2_5(messages: list[Message], tools: Tools) -> Iterator[Piece]:
    """Write calls as Python's, thoughts behind the last question alone."""
    yield PREAMBLE
    turns = past_system(messages)
    for place, message in enumerate(turns):
        if message["role"] != "assistant":
            yield turn(message)
            continue
        yield given("<|im_start|>assistant\n")
        content = message["content"]
        if place > last_user(turns):
            thought = message.get("reasoning_content")
            yield said(message, f"<think>{thought}</think>" if thought else "")
        elif "</think>" in content:
            content = content.split("</think>")[-1].strip()
        yield said(message, content)
        if calls(message):
            written = [
                f"{call['name']}({', '.join(f'{name}={value!r}' for name, value in call['arguments'].items())})"
                for call in calls(message)
            ]
            yield said(message, f"<|tool_call_start|>[{', '.join(written)}]<|tool_call_end|>")
        yield from end(message)
