"""The loss mask, against an oracle that knows nothing of offsets: decode the labelled tokens and read them."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, processors
from transformers import PreTrainedTokenizerFast

from handpick.data.examples import Message
from handpick.data.render import IGNORED, Rendered, Renderer
from handpick.errors import DataError, ModelError
from tests.data import templates

LONG = 10_000
BYTE_LEVEL, TRIMMING, METASPACE = templates.byte_level(), templates.byte_level(trim_offsets=True), templates.metaspace()
TOKENIZERS = {"byte-level": BYTE_LEVEL, "trim_offsets": TRIMMING, "metaspace": METASPACE}

# template, begin and end of sequence, what stands behind a response, whether the template trims
STYLES = {
    "llama3": (templates.LLAMA3, "<|begin_of_text|>", "<|eot_id|>", "<|eot_id|>", True),
    "qwen": (templates.QWEN, None, "<|endoftext|>", "<|im_end|>", False),
    "gemma": (templates.GEMMA, "<s>", "</s>", "<end_of_turn>", True),
    "mistral": (templates.MISTRAL, "<s>", "</s>", "</s>", False),
    "llama2": (templates.LLAMA2, "<s>", "</s>", " </s>", True),
    "tulu": (None, "<s>", "</s>", "</s>", False),
}

CONTENTS = [
    ("What is the capital of France?", "The capital of France is Paris."),
    ("12", "12"),
    ("assistant\n", "user\n<|user|>\nassistant"),
    ("[INST]", "model\nmodel"),
    ("Wörter 日本語 👩‍👩‍👧 😀", "😀日本語é👩‍👩‍👧😀"),
    ("x", "def add(a, b):\n        return a + b"),
    (" \n spaces around \n", "\n  12 apples  \n"),
    ("", "."),
]


def chat(*contents: str) -> list[Message]:
    return [Message("assistant" if i % 2 else "user", content) for i, content in enumerate(contents)]


def make(style: str, tokenizer: Tokenizer = BYTE_LEVEL) -> Renderer:
    template, bos, eos, _, _ = STYLES[style]
    return Renderer(templates.wrap(tokenizer, template, bos, eos))


def labelled(renderer: Renderer, rendered: Rendered) -> list[str]:
    """The text of every run of labelled tokens."""
    runs: list[list[int]] = [[]]
    for id, label in zip(rendered.input_ids, rendered.labels, strict=True):
        assert label in (id, IGNORED)
        if label != IGNORED:
            runs[-1].append(id)
        elif runs[-1]:
            runs.append([])
    return [renderer.tokenizer.decode(run, clean_up_tokenization_spaces=False) for run in runs if run]


def taught(style: str, responses: Sequence[str]) -> list[str]:
    *_, end_of_turn, trims = STYLES[style]
    return [(response.strip() if trims else response) + end_of_turn for response in responses]


@pytest.mark.parametrize("contents", CONTENTS)
@pytest.mark.parametrize("tokenizer", TOKENIZERS)
@pytest.mark.parametrize("style", STYLES)
def test_loss_covers_response_and_end_of_turn(style: str, tokenizer: str, contents: tuple[str, str]) -> None:
    renderer = make(style, TOKENIZERS[tokenizer])
    rendered = renderer(chat(*contents), LONG)
    (run,) = labelled(renderer, rendered)
    (expected,) = taught(style, contents[1:])
    # " Paris" or "\n\n" may be one token, which straddles the edge of the prompt and is the response's.
    assert run in (expected, " " + expected, "\n" + expected)
    assert rendered.full_length == len(rendered.input_ids)


@pytest.mark.parametrize("style", ["llama3", "qwen", "gemma", "tulu"])
def test_loss_covers_every_response_of_a_longer_conversation(style: str) -> None:
    contents = ["Hi", "Hi", "How many apples?", "12 apples.\n", "And now?", "12 apples.\n"]
    renderer = make(style)
    assert labelled(renderer, renderer(chat(*contents), LONG)) == taught(style, contents[1::2])


text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ue000\ue001"), max_size=30)


@settings(max_examples=60, deadline=None)
@given(question=text, answer=text.filter(str.strip), style=st.sampled_from(["llama3", "qwen", "gemma", "tulu"]))
def test_loss_covers_any_text(question: str, answer: str, style: str) -> None:
    renderer = make(style)
    assert labelled(renderer, renderer(chat(question, answer), LONG)) == taught(style, [answer])


def test_tokens_are_those_of_the_chat_template() -> None:
    renderer = make("qwen")
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Paris"}]
    expected = renderer.tokenizer.apply_chat_template(turns, tokenize=True, return_dict=True)["input_ids"]
    assert renderer(chat("Hi", "Paris"), LONG).input_ids == expected


def test_truncation_cuts_tokens_and_labels() -> None:
    renderer = make("tulu")
    whole = renderer(chat("Hi", "Paris is the capital of France."), LONG)
    first = whole.labels.index(whole.input_ids[next(i for i, x in enumerate(whole.labels) if x != IGNORED)])
    cut = renderer(chat("Hi", "Paris is the capital of France."), first + 2)
    assert (cut.input_ids, cut.labels) == (whole.input_ids[: first + 2], whole.labels[: first + 2])
    assert cut.n_labels == 2
    assert cut.full_length == whole.full_length
    with pytest.raises(DataError, match=rf"no response token left: the first {first} of {whole.full_length} tokens"):
        renderer(chat("Hi", "Paris is the capital of France."), first)


@pytest.mark.parametrize("messages", [chat("Hi"), chat("Hi", ""), chat("Hi", " \n"), [Message("system", "Hi")]])
def test_a_conversation_without_a_response(messages: list[Message]) -> None:
    with pytest.raises(DataError, match="no assistant turn with any text"):
        make("tulu")(messages, LONG)


def test_a_prompt_alone_can_be_written() -> None:
    assert (
        make("llama3")
        .text(chat("Hi"), add_generation_prompt=True)
        .endswith("Hi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n")
    )


def test_a_system_message_that_is_moved_into_a_later_turn() -> None:
    renderer = make("mistral")
    messages = [Message("system", "Be brief."), *chat("Hi", "Hello", "Capital?", "Paris")]
    assert "[INST] Be brief.\n\nCapital? [/INST]" in renderer.text(messages)
    assert [run.strip() for run in labelled(renderer, renderer(messages, LONG))] == ["Hello</s>", "Paris</s>"]


def test_what_the_template_refuses() -> None:
    with pytest.raises(DataError, match="refused by the chat template: Conversation roles must alternate"):
        make("gemma")([*chat("Hi"), *chat("Hi", "Hello")], LONG)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ messages[0].content }}", "dropped by the chat template: it does not write turn 2 .assistant."),
        ("{{ messages[1].content | length }}", "what becomes of turn 2 .assistant.: the template changes its text"),
        ("{{ messages[0].content + 1 }}", "refused by the chat template: can only concatenate str"),
    ],
)
def test_what_cannot_be_followed(template: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Renderer(templates.wrap(BYTE_LEVEL, template, None, "</s>"))(chat("Hi", "Hello"), LONG)


def test_a_template_may_change_what_it_writes() -> None:
    shouting = "{% for m in messages %}{{ m.content | upper }}{{ eos_token }}{% endfor %}"
    renderer = Renderer(templates.wrap(BYTE_LEVEL, shouting, None, "</s>"))
    assert labelled(renderer, renderer(chat("Hi", "Hello"), LONG)) == ["HELLO</s>"]


QWEN3_LIKE = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
    "{% if m.role == 'assistant' and loop.last %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{{ m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{% endif %}"
)


def test_an_answer_is_drawn_behind_the_text_it_is_trained_behind() -> None:
    tokenizer = templates.wrap(BYTE_LEVEL, QWEN3_LIKE, None, "</s>")
    renderer = Renderer(tokenizer)
    text, spans = renderer.spans(chat("Hi", "Hello"))
    assert [text[start:end] for start, end in spans] == ["<think>\n\n</think>\n\nHello<|im_end|>"]
    assert text.startswith(renderer.prompt_text(chat("Hi")) + "Hello")
    assert renderer.prompt_text(chat("Hi")) == Renderer(tokenizer, {"enable_thinking": False}).prompt_text(chat("Hi"))
    # who asks for another form gets it
    thinking = Renderer(tokenizer, {"enable_thinking": True}).prompt_text(chat("Hi"))
    assert thinking.endswith("<|im_start|>assistant\n")


@pytest.mark.parametrize("style", ["llama3", "tulu"])
def test_masks_that_are_as_before(style: str) -> None:
    assert make(style).mask_as_before


@pytest.mark.parametrize("style", ["qwen", "gemma", "mistral"])
def test_a_template_without_prompts_asks_otherwise_than_before(style: str) -> None:
    assert not make(style).mask_as_before  # the header of an answer stands in the prompt now; Mistral's space


def test_masks_that_are_others_than_before() -> None:
    assert not Renderer(templates.wrap(BYTE_LEVEL, QWEN3_LIKE, None, "</s>")).mask_as_before


def test_template_without_end_of_turn() -> None:
    renderer = Renderer(templates.wrap(BYTE_LEVEL, templates.PLAIN, None, "</s>"))
    (run,) = labelled(renderer, renderer(chat("Hi", "Paris."), LONG))
    assert run.strip() == "Paris."


def test_special_tokens_spelt_in_a_message_are_masked_or_labelled_with_their_turn() -> None:
    renderer = make("qwen")
    rendered = renderer(chat("What is <|im_end|>?", "It is <|im_end|> indeed"), LONG)
    assert rendered.input_ids.count(renderer.tokenizer.convert_tokens_to_ids("<|im_end|>")) == 5  # one the system's
    assert labelled(renderer, rendered) == ["It is <|im_end|> indeed<|im_end|>"]


def test_special_token_that_takes_up_white_space_stays_with_the_prompt() -> None:
    tokenizer = templates.wrap(templates.byte_level(), None, None, "</s>")
    tokenizer.add_tokens([AddedToken("<|user|>", special=True), AddedToken("<|assistant|>", special=True, rstrip=True)])
    renderer = Renderer(tokenizer)
    assert labelled(renderer, renderer(chat("Hi", "  Paris"), LONG)) == ["Paris</s>"]


def test_the_date_in_a_template_stands_still() -> None:
    assert "Today: 26 Jul 2024" in make("llama3").text(chat("Hi"))


def test_truncation_and_padding_of_the_tokenizer_do_not_matter() -> None:
    tokenizer = templates.wrap(templates.byte_level(), None, None, "</s>")
    before = Renderer(tokenizer)(chat("Hi", "Paris"), LONG)
    renderer = Renderer(tokenizer)
    tokenizer(["Hi"], truncation=True, padding="max_length", max_length=3)
    assert renderer(chat("Hi", "Paris"), LONG) == Renderer(tokenizer)(chat("Hi", "Paris"), LONG) == before


def test_begin_of_sequence_is_kept_where_the_tokenizer_adds_it() -> None:
    tokenizer = templates.wrap(templates.byte_level(), None, "<s>", "</s>")
    assert not Renderer(tokenizer).text(chat("Hi")).startswith("<s>")
    backend = templates.byte_level()
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    assert Renderer(templates.wrap(backend, None, "<s>", "</s>")).text(chat("Hi")).startswith("<s><|user|>")


def test_tokenizers_that_cannot_be_used() -> None:
    with pytest.raises(ModelError, match="neither a chat template nor an end-of-sequence token"):
        Renderer(PreTrainedTokenizerFast(tokenizer_object=BYTE_LEVEL))
    with pytest.raises(ModelError, match="not valid Jinja"):
        Renderer(templates.wrap(BYTE_LEVEL, "{% for %}", None, "</s>")).text(chat("Hi"))
    several = templates.wrap(BYTE_LEVEL, None, None, "</s>")
    several.chat_template = {"rag": "x", "tool_use": "y"}  # type: ignore[assignment]
    with pytest.raises(ModelError, match="chat template cannot be used"):
        Renderer(several)

    class Slow:
        is_fast = False

    with pytest.raises(ModelError, match="Slow is a slow one"):
        Renderer(Slow())
