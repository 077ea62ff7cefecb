"""Where turns begin and end under templates of kinds that are met in the wild, small ones of each kind."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from handpick.data.examples import Conversation, Message
from handpick.data.render import IGNORED, Renderer
from tests.data import templates

LONG = 10_000
TOKENS = ("<|user|>", "<|assistant|>", "<|tool|>", "<|end|>", "<|reply|>", "<|call|>", "<|open|>", "<|system|>")
TOKENIZERS = {
    "byte-level": templates.byte_level(),
    "trim_offsets": templates.byte_level(trim_offsets=True),
    "metaspace": templates.metaspace(),
}
for _tokenizer in TOKENIZERS.values():
    _tokenizer.add_special_tokens(list(TOKENS))

# Calls and thoughts as most templates write them.
CALLING = (
    "{% for m in messages %}{{ '<|' + m.role + '|>' }}"
    "{% if m.reasoning_content %}{{ '<think>\n' + m.reasoning_content + '\n</think>\n\n' }}{% endif %}"
    "{{ m.content }}"
    "{% for c in m.tool_calls or [] %}{{ '\n<tool_call>\n' + c.function | tojson + '\n</tool_call>' }}{% endfor %}"
    "{{ '<|end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
ASKING = "{% if m.role == 'user' %}{{ '<|user|>' + m.content + '<|end|>' }}"


def wrap(template: str, tokenizer: Tokenizer = TOKENIZERS["byte-level"]) -> PreTrainedTokenizerFast:
    return templates.wrap(tokenizer, template, "<s>", "</s>")


def user(text: str) -> Message:
    return Message("user", text)


def answer(text: str, **fields: Any) -> Message:
    return Message("assistant", text, json.dumps(fields, ensure_ascii=False) if fields else "")


def call(arguments: Any, text: str = "") -> Message:
    return answer(text, tool_calls=[{"type": "function", "function": {"name": "f", "arguments": arguments}}])


def learnt(renderer: Renderer, *turns: Message) -> list[str]:
    text, spans = renderer.spans(turns)
    return [text[start:end] for start, end in spans]


EXCHANGE = (user("Hi"), answer("Hello"), user("Why?"), answer("So."))


@pytest.mark.parametrize(
    "written", ["c | tojson(ensure_ascii=True)", "c"], ids=["escapes of JSON", "a value as Python writes it"]
)
def test_a_mark_that_the_template_escapes(written: str) -> None:
    template = (
        f"{{% for m in messages %}}{ASKING}{{% else %}}{{{{ '<|assistant|>' + m.content }}}}"
        f"{{% for c in m.tool_calls or [] %}}{{{{ {written} }}}}{{% endfor %}}{{{{ '<|end|>' }}}}"
        "{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
    )
    (found,) = learnt(Renderer(wrap(template)), user("Hi"), call({"city": {"name": "Zürich"}}))
    assert json.dumps("Zürich")[1:-1] in found or "Zürich" in found
    assert found.endswith("<|end|>")


@pytest.mark.parametrize(
    "text", ["\U000f0000", "\U000f0000\U00100000", "\\U000f0000", "\\udb80\\udc00", "\ue000\ue001"]
)
def test_a_text_may_hold_the_characters_of_marks_and_their_escapes(text: str) -> None:
    turns = user(f"Q {text}"), answer(f"A {text} {text}B", reasoning_content=f"T {text}")
    assert learnt(Renderer(wrap(CALLING)), *turns) == [f"<think>\nT {text}\n</think>\n\nA {text} {text}B<|end|>"]


@pytest.mark.parametrize("text", ["<NONE>", "<b></b>", " <br>\n"])
def test_an_answer_may_be_tags_alone(text: str) -> None:
    assert learnt(Renderer(wrap(CALLING)), user("<x>"), answer(text, name="Ada")) == [f"{text}<|end|>"]


def test_a_template_that_asks_for_an_answer_at_every_end() -> None:
    template = (
        "{% for m in messages %}" + ASKING + "{% else %}{{ '<|assistant|><|reply|>' + m.content + '<|end|>' }}"
        "{% endif %}{% endfor %}{{ '<|user|><|assistant|>' }}{% if add_generation_prompt %}{{ '<|reply|>' }}{% endif %}"
    ).replace("'<|assistant|><|reply|>'", "'<|user|><|assistant|><|reply|>'")
    assert learnt(Renderer(wrap(template)), *EXCHANGE) == ["Hello<|end|>", "So.<|end|>"]


def test_two_tokens_may_end_every_turn() -> None:
    template = (
        "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content + '<|end|><|reply|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
    )
    assert learnt(Renderer(wrap(template)), *EXCHANGE) == ["Hello<|end|><|reply|>", "So.<|end|><|reply|>"]


UNENDED = (
    "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content }}"
    "{% if m.role == 'assistant' and not loop.last %}{{ '\n<|end|>' }}{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>Let me think.' }}{% endif %}"
)


def test_an_end_behind_white_space_that_the_last_answer_lacks() -> None:
    renderer = Renderer(wrap(UNENDED))
    assert learnt(renderer, *EXCHANGE) == ["Hello\n<|end|>", "So.\n<|end|>"]
    assert "<|end|>" in renderer.tokenizer.convert_ids_to_tokens(renderer.end_ids)


def test_an_answer_ends_as_it_is_trained_to_where_the_next_turn_ends_it() -> None:
    template = (
        "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
    )
    renderer = Renderer(wrap(template))
    assert learnt(renderer, *EXCHANGE) == ["Hello<|user|>", "So.<|user|>"]
    assert renderer.tokenizer.convert_ids_to_tokens(renderer.end_ids) == ["</s>", "<|user|>"]


def test_a_template_for_tools_alone_has_the_end_of_sequence() -> None:
    renderer = Renderer(wrap("{% for t in tools %}{{ t.name }}{% endfor %}" + CALLING))
    assert renderer.end_ids == [renderer.tokenizer.eos_token_id]


def test_a_turn_that_goes_on_otherwise_than_its_prompt() -> None:
    template = (
        "{% for m in messages %}" + ASKING + "{% elif m.tool_calls %}"
        "{{ '<|assistant|><|call|>' + m.tool_calls[0].function.arguments.x + '<|end|>' }}"
        "{% else %}{{ '<|assistant|><|reply|>' + m.content + '<|end|>' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|><|reply|>' }}{% endif %}"
    )
    renderer = Renderer(wrap(template))
    assert learnt(renderer, user("Hi"), call({"x": "Oslo"}), user("So?"), answer("Yes")) == [
        "<|call|>Oslo<|end|>",
        "Yes<|end|>",
    ]


def test_a_turn_without_a_header() -> None:
    template = (
        "{% for m in messages %}" + ASKING + "{% elif m.role == 'tool' %}{{ '[' + m.content + ']' }}"
        "{% elif m.tool_calls %}{{ '<|call|>' + m.tool_calls[0].function.arguments.x }}"
        "{% else %}{{ '<|assistant|>' + m.content + '<|end|>' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
    )
    turns = (user("Hi"), call({"x": "Oslo"}), Message("tool", "rain"), call({"x": "Bern"}), Message("tool", "sun"))
    found = learnt(Renderer(wrap(template)), *turns, answer("Both."))
    assert found == ["<|call|>Oslo", "<|call|>Bern", "Both.<|end|>"]


MARKED = (
    "{% macro say(m) %}{% generation %}{{ m.content + '<|end|>' }}{% endgeneration %}{% endmacro %}"
    "{% for m in messages %}{{ '<|' + m.role + '|>' }}{% if m.role == 'assistant' %}"
    "{% for part in m.parts or [] %}{% generation %}{{ '<|call|>' + part }}{% endgeneration %}{{ '\n' }}{% endfor %}"
    "{% generation %}{{ m.content + '<|end|>' }}{% endgeneration %}"
    "{% else %}{{ m.content }}{% endif %}{{ '\n' }}{% endfor %}"
)


def test_generation_marks_are_those_of_transformers() -> None:
    tokenizer = wrap(MARKED)
    turns = (*EXCHANGE[:3], answer("So.", parts=["a", "b"]), user("<|call|>"), answer("x"))
    told: Any = tokenizer.apply_chat_template(
        [turn.to_json() for turn in turns], tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    rendered = Renderer(tokenizer)(turns, LONG)
    assert rendered.input_ids == told["input_ids"]
    assert [label != IGNORED for label in rendered.labels] == [bool(mask) for mask in told["assistant_masks"]]


def test_turns_that_are_not_to_be_learnt_under_generation_marks() -> None:
    renderer = Renderer(wrap(MARKED))
    off = Message("assistant", "Wrong", '{"parts":["a"]}', loss=False)
    part = Message("assistant", "Right. Not this. Yes.", no_loss=((7, 17),))
    assert learnt(renderer, user("Hi"), off, user("Why?"), part) == ["Right. ", "Yes.<|end|>"]


def test_an_argument_that_a_template_does_not_know_changes_no_prompt() -> None:
    template = CALLING.replace("{{ m.content }}", "{{ '<think></think>' if m.role == 'assistant' }}{{ m.content }}")
    plain = Renderer(wrap(template)).prompt_text([user("Hi")])
    assert plain.endswith("<|assistant|><think></think>")
    assert Renderer(wrap(template), {"enable_thinking": True}).prompt_text([user("Hi")]) == plain
    knowing = template.replace("{% if add_generation_prompt %}", "{% if add_generation_prompt or deep %}")
    assert Renderer(wrap(knowing), {"deep": False}).prompt_text([user("Hi")]).endswith("<|assistant|>")


def test_no_prompt_that_answers_are_not_trained_behind() -> None:
    opening = CALLING.replace("{{ '<|assistant|>' }}", "{{ '<|assistant|>' + ('<think>' if deep) }}")
    prompt = Renderer(wrap(opening), {"deep": True}).prompt_text([user("Hi")])
    assert prompt.endswith("<|assistant|>")


said = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@settings(max_examples=60, deadline=None)
@given(
    question=said,
    thought=said.filter(str.strip),
    argument=said,
    result=said,
    reply=said.filter(str.strip),
    name=st.sampled_from(sorted(TOKENIZERS)),
)
def test_labelled_tokens_are_the_learnt_text(
    question: str, thought: str, argument: str, result: str, reply: str, name: str
) -> None:
    renderer = Renderer(wrap(CALLING, TOKENIZERS[name]))
    calling = Message("assistant", "", json.dumps(call({"x": argument}).fields | {"reasoning_content": thought}))
    turns = Conversation([user(question), calling, Message("tool", result), answer(reply)])
    text, spans = renderer.spans(turns)
    assert [text[start:end] for start, end in spans] == [
        f"<think>\n{thought}\n</think>\n\n\n<tool_call>\n"
        f"{json.dumps({'name': 'f', 'arguments': {'x': argument}}, ensure_ascii=False)}\n</tool_call><|end|>",
        f"{reply}<|end|>",
    ]
    rendered = renderer(turns, LONG)
    pairs = zip(rendered.input_ids, rendered.labels, strict=True)
    decoded = renderer.tokenizer.decode(
        [i for i, label in pairs if label != IGNORED], clean_up_tokenization_spaces=False
    )
    expected = "".join(text[start:end] for start, end in spans)
    # A header is a token of its own, so that no token straddles the edges; "▁" is a space to a metaspace tokenizer.
    assert decoded.replace(" ", "").replace("▁", "") == expected.replace(" ", "").replace("▁", "")


def test_a_prompt_that_says_more_than_a_header() -> None:
    template = (
        "{% for m in messages %}{{ '<|' + m.role + '|>assistant\n' + m.content }}"
        "{% if not loop.last %}{{ '\n<|end|>' }}{% endif %}{{ '\n' }}{% endfor %}"
        "{% if add_generation_prompt and messages[-1].role != 'assistant' %}"
        "{{ '<|assistant|>assistant\nLet me think.\n' }}{% endif %}"
    )
    renderer = Renderer(wrap(template))
    assert learnt(renderer, user("Hi"), answer("Less"), answer("Hello", name="Ada")) == [
        "Less\n<|end|>",
        "Hello\n<|end|>",
    ]
