"""Training texts of the families that share no other's marks, written by hand."""

from collections.abc import Iterator

from tests.data.chat_shapes import Message
from tests.data.chat_templates.pieces import (
    PREAMBLE,
    Kind,
    Piece,
    Refused,
    Tools,
    appended,
    calls,
    compact,
    free,
    given,
    is_first_result,
    is_last_result,
    last_user,
    left_out,
    must_alternate,
    past_system,
    said,
    thought_apart,
)


def gpt_oss(messages: list[Message], tools: Tools) -> Iterator[Piece]:
    """Write the header as learnt, as TRL marks it; the last turn ends otherwise than the ones before."""
    yield PREAMBLE
    turns = messages[1:] if messages[0]["role"] in ("developer", "system") else messages
    called = None
    for place, message in enumerate(turns):
        if message["role"] == "assistant":
            last = place + 1 == len(turns)
            answered_later = any(m["role"] == "assistant" and not calls(m) for m in turns[place + 1 :])
            thought = message.get("reasoning_content")
            if thought and (last or (calls(message) and not answered_later)):
                yield said(message, f"<|start|>assistant<|channel|>analysis<|message|>{thought}<|end|>")
            if calls(message):
                called = calls(message)[0]
                if len(calls(message)) > 1:
                    yield left_out("calls behind the first")
                if message["content"] and not answered_later:
                    yield said(message, f"<|start|>assistant<|channel|>analysis<|message|>{message['content']}<|end|>")
                elif message["content"]:
                    yield left_out("the text beside the call")
                yield said(
                    message,
                    f"<|start|>assistant to=functions.{called['name']}<|channel|>commentary json<|message|>"
                    f"{compact(called['arguments'])}<|call|>",
                )
            else:
                ending = "<|return|>" if last else "<|end|>"
                yield said(message, f"<|start|>assistant<|channel|>final<|message|>{message['content']}{ending}")
        elif message["role"] == "tool":
            assert called
            yield given(
                f"<|start|>functions.{called['name']} to=assistant<|channel|>commentary<|message|>"
                f"{compact(message['content'])}<|end|>"
            )
        elif message["role"] == "user":
            yield given(f"<|start|>user<|message|>{message['content']}<|end|>")


def gemma2(messages: list[Message], tools: Tools) -> Iterator[Piece]:
    """Write no system turn and no tools."""
    if messages[0]["role"] == "system":
        raise Refused("no turn may be the system's")
    yield from _gemma(messages, "")


def gemma3(messages: list[Message], tools: Tools) -> Iterator[Piece]:
    """Write a system turn in front of the first question."""
    turns = past_system(messages)
    yield from _gemma(turns, messages[0]["content"] + "\n\n" if turns is not messages else "")


def _gemma(turns: list[Message], prefix: str) -> Iterator[Piece]:
    must_alternate(turns)
    yield given("<bos>")
    for place, message in enumerate(turns):
        content = message["content"].strip()
        if message["role"] == "assistant":
            yield given("<start_of_turn>model\n")
            if calls(message):
                yield left_out("the call")
            yield said(message, content + "<end_of_turn>")
            yield free("\n")
        else:
            yield given(f"<start_of_turn>user\n{'' if place else prefix}{content}<end_of_turn>\n")


def gemma4(messages: list[Message], tools: Tools) -> Iterator[Piece]:
    """Write answers that follow each other as one turn; the mark that opens a result ends a call too, so it is free."""
    yield PREAMBLE
    turns = messages[1:] if messages[0]["role"] in ("system", "developer") else messages
    before = None
    for place, message in enumerate(turns):
        if message["role"] == "tool":
            continue  # written with the call
        content = message["content"].strip()
        if message["role"] != "assistant":
            yield given(f"<|turn>{message['role']}\n{content}<turn|>\n")
            before = message["role"]
            continue
        if before != "assistant":
            yield given("<|turn>model\n")
        before = "assistant"
        if message.get("reasoning_content") and place > last_user(turns):
            yield said(message, f"<|channel>thought\n{message['reasoning_content']}\n<channel|>")
        results = _results_behind(turns, place) if calls(message) else []
        for call in calls(message):
            arguments = ",".join(f"{name}:{_gemma4_value(value)}" for name, value in sorted(call["arguments"].items()))
            yield said(message, f"<|tool_call>call:{call['name']}{{{arguments}}}<tool_call|>")
        for tool in results:
            yield free("<|tool_response>")
            yield given(f"response:{tool['name']}{{value:{_gemma4_value(tool['content'])}}}<tool_response|>")
        yield said(message, content)
        following = [m["role"] for m in turns[place + 1 :] if m["role"] != "tool"]
        if calls(message) and not results:
            yield free("<|tool_response>")
        elif not (following and following[0] == "assistant"):
            yield said(message, "<turn|>")
            yield free("\n")


def _results_behind(turns: list[Message], place: int) -> list[Message]:
    results = []
    for message in turns[place + 1 :]:
        if message["role"] != "tool":
            break
        results.append(message)
    return results


def _gemma4_value(value: object) -> str:
    return f'<|"|>{value}<|"|>' if isinstance(value, str) else str(value)


def deepseek_v3(messages: list[Message], tools: Tools) -> Iterator[Piece]:
    """Write the header, and the end of results in front of an answer, as learnt: TRL marks them so."""
    system = "\n\n".join(m["content"] for m in messages if m["role"] == "system")
    yield given("<｜begin▁of▁sentence｜>" + system)
    behind_result = False
    for place, message in enumerate(messages):
        if message["role"] == "user":
            behind_result = False
            yield given("<｜User｜>" + message["content"])
        elif calls(message):
            behind_result = False
            if any(calls(earlier) for earlier in messages[:place]):  # the template's fault: no header and no text
                yield left_out("the header of calls that are not the first")
                yield said(message, "\n")
            else:
                yield said(message, "<｜Assistant｜>" + message["content"] + "<｜tool▁calls▁begin｜>")
            yield said(message, "\n".join(_deepseek_call(call) for call in calls(message)))
            yield said(message, "<｜tool▁calls▁end｜><｜end▁of▁sentence｜>")
        elif message["role"] == "assistant":
            yield _deepseek_answer(message, behind_result)
            behind_result = False
        elif message["role"] == "tool":
            behind_result = True
            opening = "" if any(m["role"] == "tool" for m in messages[:place]) else "<｜tool▁outputs▁begin｜>"
            yield given(opening + f"<｜tool▁output▁begin｜>{message['content']}<｜tool▁output▁end｜>")


def _deepseek_call(call: dict[str, object]) -> str:
    return (
        f"<｜tool▁call▁begin｜>function<｜tool▁sep｜>{call['name']}\n```json\n{compact(call['arguments'])}\n```"
        "<｜tool▁call▁end｜>"
    )


def _deepseek_answer(message: Message, behind_result: bool) -> Piece:
    if behind_result:
        return said(message, f"<｜tool▁outputs▁end｜>{message['content']}<｜end▁of▁sentence｜>")
    return said(message, f"<｜Assistant｜>{message['content'].split('</think>')[-1]}<｜end▁of▁sentence｜>")


def deepseek_r1_distill(messages: list[Message], tools: Tools) -> Iterator[Piece]:
    """Write no call of a turn that has content, and content is never null here."""
    systems = [m["content"] for m in messages if m["role"] == "system"]
    yield given("<｜begin▁of▁sentence｜>" + (systems[-1] if systems else ""))
    behind_result = False
    for place, message in enumerate(messages):
        if message["role"] == "user":
            behind_result = False
            yield given("<｜User｜>" + message["content"])
        elif message["role"] == "assistant":
            if calls(message):
                yield left_out("the call")
            yield _deepseek_answer(message, behind_result)
            behind_result = False
        elif message["role"] == "tool":
            behind_result = True
            opening = "\n" if any(m["role"] == "tool" for m in messages[:place]) else "<｜tool▁outputs▁begin｜>"
            yield given(opening + f"<｜tool▁output▁begin｜>{message['content']}<｜tool▁output▁end｜>")


def deepseek_v3_1(messages: list[Message], tools: Tools) -> Iterator[Piece]:
    """Write the header and an empty think block behind a question alone."""
    system = "\n\n".join(m["content"] for m in messages if m["role"] == "system")
    yield given("<｜begin▁of▁sentence｜>" + system)
    behind_question = behind_result = False
    for message in messages:
        if message["role"] == "user":
            behind_question, behind_result = True, False
            yield given("<｜User｜>" + message["content"])
        elif message["role"] == "assistant":
            if behind_question:
                yield given("<｜Assistant｜>")
                yield said(message, "<think></think>")
            content = message["content"]
            if "</think>" in content and not behind_result and not calls(message):
                content = content.split("</think>", 1)[1]
            yield said(message, content)
            if calls(message):
                written = "".join(
                    f"<｜tool▁call▁begin｜>{call['name']}<｜tool▁sep｜>{compact(call['arguments'])}<｜tool▁call▁end｜>"
                    for call in calls(message)
                )
                yield said(message, f"<｜tool▁calls▁begin｜>{written}<｜tool▁calls▁end｜>")
            yield said(message, "<｜end▁of▁sentence｜>")
            behind_question = behind_result = False
        elif message["role"] == "tool":
            behind_question, behind_result = False, True
            yield given(f"<｜tool▁output▁begin｜>{message['content']}<｜tool▁output▁end｜>")


def glm4(messages: list[Message], tools: Tools) -> Iterator[Piece]:
    """Write what opens the next turn as the end of an answer, as TRL does; behind the last answer it is appended."""
    yield PREAMBLE
    answer: Message | None = None  # whose end the next header is
    for place, message in enumerate(messages):
        role = message["role"]
        if role == "tool":
            if is_first_result(messages, place):
                yield said(answer, "<|observation|>") if answer else given("<|observation|>")
            yield given(f"\n<tool_response>\n{message['content']}\n</tool_response>")
            answer = None
        elif role == "assistant":
            answer = message
            yield given("<|assistant|>")
            yield said(message, _glm4_answer(message, is_behind_question=place > last_user(messages)))
        elif role in ("user", "system"):
            yield said(answer, f"<|{role}|>") if answer else given(f"<|{role}|>")
            yield given("\n" + message["content"])
            answer = None
    if answer:
        yield appended(answer, "<|observation|>" if calls(answer) else "<|user|>")


def _glm4_answer(message: Message, is_behind_question: bool) -> str:
    thought, answer = thought_apart(message)
    written = f"\n<think>{thought.strip() if is_behind_question else ''}</think>"
    if answer.strip():
        written += "\n" + answer.strip()
    for call in calls(message):
        written += f"\n<tool_call>{call['name']}\n"
        for name, value in call["arguments"].items():
            text = value if isinstance(value, str) else compact(value)
            written += f"<arg_key>{name}</arg_key>\n<arg_value>{text}</arg_value>\n"
        written += "</tool_call>"
    return written


def phi3(messages: list[Message], tools: Tools) -> Iterator[Piece]:
    """Write the end of the text as learnt behind an answer, as TRL does."""
    for message in messages:
        if message["role"] in ("system", "user"):
            yield given(f"<|{message['role']}|>\n{message['content']}<|end|>\n")
        elif message["role"] == "assistant":
            yield given("<|assistant|>\n")
            if calls(message):
                yield left_out("the call")
            yield said(message, message["content"] + "<|end|>")
            yield free("\n")
    yield said(messages[-1], "<|endoftext|>")


def phi4(messages: list[Message], tools: Tools) -> Iterator[Piece]:
    """Write users' and assistants' turns alone."""
    yield PREAMBLE
    for message in past_system(messages):
        if message["role"] == "user":
            yield given(f"<|im_start|>user<|im_sep|>{message['content']}<|im_end|>")
        elif message["role"] == "assistant":
            yield given("<|im_start|>assistant<|im_sep|>")
            if calls(message):
                yield left_out("the call")
            yield said(message, message["content"] + "<|im_end|>")


def granite_3_3(messages: list[Message], tools: Tools) -> Iterator[Piece]:
    """Write roles and contents; no calls."""
    yield PREAMBLE
    for message in past_system(messages):
        yield given(f"<|start_of_role|>{message['role']}<|end_of_role|>")
        if message["role"] != "assistant":
            yield given(message["content"] + "<|end_of_text|>\n")
            continue
        if calls(message):
            yield left_out("the call")
        yield said(message, message["content"] + "<|end_of_text|>")
        yield free("\n")


def granite_4(messages: list[Message], tools: Tools) -> Iterator[Piece]:
    """Write calls as Hermes does, results as a user's turn."""
    yield PREAMBLE
    for place, message in enumerate(messages):
        role, content = message["role"], message["content"]
        if role == "user" or (role == "system" and place):
            yield given(f"<|start_of_role|>{role}<|end_of_role|>{content}<|end_of_text|>\n")
        elif role == "assistant":
            yield given("<|start_of_role|>assistant<|end_of_role|>")
            written = [
                f'<tool_call>\n{{"name": "{call["name"]}", "arguments": {compact(call["arguments"])}}}\n</tool_call>'
                for call in calls(message)
            ]
            yield said(message, "\n".join(([content] if content else []) + written) + "<|end_of_text|>")
            yield free("\n")
        elif role == "tool":
            opening = "<|start_of_role|>user<|end_of_role|>" if is_first_result(messages, place) else ""
            closing = "<|end_of_text|>\n" if is_last_result(messages, place) else ""
            yield given(f"{opening}\n<tool_response>\n{content}\n</tool_response>{closing}")


def cohere(messages: list[Message], tools: Tools) -> Iterator[Piece]:
    """Write Aya's and the first Command's: roles that alternate."""
    turns = past_system(messages)
    must_alternate(turns)
    yield PREAMBLE
    for message in turns:
        content = message["content"].strip()
        if message["role"] == "user":
            yield given(f"<|START_OF_TURN_TOKEN|><|USER_TOKEN|>{content}<|END_OF_TURN_TOKEN|>")
        else:
            yield given("<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>")
            if calls(message):
                yield left_out("the call")
            yield said(message, content + "<|END_OF_TURN_TOKEN|>")


def cohere2(messages: list[Message], tools: Tools) -> Iterator[Piece]:
    """Write the mark that opens a response as given, as TRL does; no turn of a tool."""
    yield PREAMBLE
    systems = [m["content"] for m in messages if m["role"] == "system"]
    wants_question = True
    for message in messages:
        role, content = message["role"], message["content"]
        if role == "system" and content == systems[0]:
            continue
        if role in ("user", "assistant"):
            if (role == "user") != wants_question:
                raise Refused("roles must alternate")
            wants_question = role != "user"
        if role == "assistant":
            yield given("<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|><|START_RESPONSE|>")
            if calls(message):
                yield left_out("the call")
            yield said(message, content + "<|END_RESPONSE|><|END_OF_TURN_TOKEN|>")
        else:
            mark = f"<|{role.upper()}_TOKEN|>{content}" if role in ("user", "system") else ""
            yield given(f"<|START_OF_TURN_TOKEN|>{mark}<|END_OF_TURN_TOKEN|>")


def command_r7b(messages: list[Message], tools: Tools) -> Iterator[Piece]:
    """Write a generation prompt behind every text, which is not learnt."""
    yield PREAMBLE
    number = 0
    for place, message in enumerate(messages):
        role, content = message["role"], message["content"]
        if role == "user" or (role == "system" and place):
            yield given(f"<|START_OF_TURN_TOKEN|><|{role.upper()}_TOKEN|>{content}<|END_OF_TURN_TOKEN|>")
        elif role == "assistant" and calls(message):
            yield given("<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>")
            yield said(message, f"<|START_THINKING|>{message.get('reasoning_content', '')}<|END_THINKING|>")
            yield said(message, "<|START_ACTION|>[\n")
            for call in calls(message):
                last = call is calls(message)[-1]
                body = f'"tool_name": "{call["name"]}", "parameters": {compact(call["arguments"])}'
                yield said(message, f'    {{"tool_call_id": "{number}", {body}}}{"" if last else ","}\n')
                number += 1
            yield said(message, "]<|END_ACTION|><|END_OF_TURN_TOKEN|>")
        elif role == "assistant":
            yield given("<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>")
            yield said(message, f"<|START_RESPONSE|>{content}<|END_RESPONSE|><|END_OF_TURN_TOKEN|>")
        elif role == "tool":
            opening = "<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|><|START_TOOL_RESULT|>[\n"
            closing = "]<|END_TOOL_RESULT|><|END_OF_TURN_TOKEN|>"
            answered = [call["id"] for m in messages for call in m.get("tool_calls", [])].index(message["tool_call_id"])
            yield given(
                (opening if is_first_result(messages, place) else "")
                + f'    {{\n        "tool_call_id": "{answered}",\n        "results": {{\n'
                + f'            "0": {compact(content)}\n        }},\n        "is_error": null\n    }}'
                + ("\n" + closing if is_last_result(messages, place) else ",\n")
            )
    yield given("<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|><|START_THINKING|><|END_THINKING|>")


def apertus(messages: list[Message], tools: Tools) -> Iterator[Piece]:
    """Write answers and results that follow each other as one turn, which a user's turn ends."""
    yield PREAMBLE
    open_turn: Message | None = None
    in_results = False
    for message in past_system(messages):
        role, content = message["role"], message["content"]
        if role == "user":
            yield given("]" if in_results else "")
            in_results = False
            if open_turn:
                yield said(open_turn, "<|assistant_end|>")
                open_turn = None
            yield given(f"<|user_start|>{content}<|user_end|>")
        elif role == "assistant":
            if not open_turn:
                yield given("<|assistant_start|>")
            open_turn = message
            yield given("]" if in_results else "")
            in_results = False
            yield said(message, content)
            if calls(message):
                written = [f'{{"{call["name"]}": {compact(call["arguments"])}}}' for call in calls(message)]
                yield said(message, f"<|tools_prefix|>[{', '.join(written)}]<|tools_suffix|>")
        elif role == "tool":
            yield given((", " if in_results else "[") + content)
            in_results = True
        else:
            raise Refused(f"no turn may be {role}'s" + (", but the first" if role == "system" else ""))
    yield given("]" if in_results else "")
    if open_turn and calls(open_turn):
        yield Piece("<|assistant_end|>", Kind.MAY_BE_APPENDED)
    elif open_turn:
        yield appended(open_turn, "<|assistant_end|>")


def exaone4(messages: list[Message], tools: Tools) -> Iterator[Piece]:
    """Write an empty think block in front of every answer that has text or a call."""
    if any(message["role"] == "developer" for message in messages):
        raise Refused("no turn may be developer's")
    yield PREAMBLE
    for place, message in enumerate(messages):
        role, content = message["role"], message["content"]
        if role == "assistant":
            yield given("[|assistant|]\n")
            if "</think>" in content:
                content = content.split("</think>")[-1].strip()
            written = [
                f'<tool_call>{{"name": "{call["name"]}", "arguments": {compact(call["arguments"])}}}</tool_call>'
                for call in calls(message)
            ]
            block = "<think>\n\n</think>\n\n" if message["content"] or written else ""
            parts = ([content] if message["content"] else []) + written
            yield said(message, block + "\n".join(parts) + "[|endofturn|]")
            yield free("\n")
        elif role == "tool":
            opening = "[|tool|]\n" if is_first_result(messages, place) else ""
            closing = "[|endofturn|]\n" if is_last_result(messages, place) else "\n"
            yield given(f'{opening}<tool_result>{{"result": {compact(content)}}}</tool_result>{closing}')
        elif place or role != "system":
            yield given(f"[|{role}|]\n{content}[|endofturn|]\n")


def kimi_k2(messages: list[Message], tools: Tools) -> Iterator[Piece]:
    """Write no mark of a developer's turn, only its text."""
    yield PREAMBLE
    headers = {
        "system": "<|im_system|>system<|im_middle|>",
        "user": "<|im_user|>user<|im_middle|>",
        "assistant": "<|im_assistant|>assistant<|im_middle|>",
        "tool": "<|im_system|>tool<|im_middle|>",
    }
    for message in messages:
        role, content = message["role"], message["content"]
        yield given(headers.get(role, ""))
        if role != "assistant":
            opening = f"## Return of {message['tool_call_id']}\\n" if role == "tool" else ""
            yield given(opening + content + "<|im_end|>")
            continue
        yield said(message, content)
        if calls(message):
            written = "".join(
                f"<|tool_call_begin|>functions.{call['name']}:{number}"
                f"<|tool_call_argument_begin|>{compact(call['arguments'])}<|tool_call_end|>"
                for number, call in enumerate(calls(message))
            )
            yield said(message, f"<|tool_calls_section_begin|>{written}<|tool_calls_section_end|>")
        yield said(message, "<|im_end|>")
