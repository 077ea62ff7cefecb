"""The length of a response against the tokenizer's own count."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handpick.data.examples import Example, Message
from handpick.data.render import Renderer
from handpick.model import load_tokenizer
from handpick.scorers.response_length import ResponseLength


@pytest.fixture(scope="module")
def renderer(tiny_model: Path) -> Renderer:
    return Renderer(load_tokenizer(str(tiny_model)))


def example(number: int, *turns: tuple[Any, str]) -> Example:
    return Example(str(number), tuple(Message(role, content) for role, content in turns), b"")


def test_every_response_counts_with_its_end_of_turn(renderer: Renderer) -> None:
    examples = [
        example(0, ("user", "2 + 2?"), ("assistant", "It is four.")),
        example(1, ("user", "Go on"), ("assistant", "One two three"), ("user", "and?"), ("assistant", "four")),
        example(2, ("user", "a much longer question " * 40), ("assistant", "yes")),
        example(3, ("user", "Say a lot."), ("assistant", "and on and on " * 2000)),
    ]
    by_length = ResponseLength(renderer)
    prepared = by_length.prepare(examples)
    lengths_N1 = by_length.encode(prepared.items)
    assert (lengths_N1.dtype, lengths_N1.shape) == (np.float32, (4, by_length.dim)) == (np.float32, (4, 1))

    def n_tokens(text: str) -> int:
        return len(renderer.tokenizer(text, add_special_tokens=False)["input_ids"])

    for (length,), each in zip(lengths_N1, examples, strict=True):
        answers = [message.content for message in each.messages if message.role == "assistant"]
        assert length == sum(n_tokens(answer) + 1 for answer in answers)  # the end of turn is one token


def test_what_has_no_response_is_refused(renderer: Renderer) -> None:
    by_length = ResponseLength(renderer)
    prepared = by_length.prepare([example(0, ("user", "2 + 2?")), example(1, ("user", "x"), ("assistant", "y"))])
    assert prepared.ids == ["1"]
    assert [(each.id, reason) for each, reason in prepared.refused] == [("0", "no assistant turn with any text")]
    told: list[float] = []
    assert by_length.encode(prepared.items, told.append).shape == (1, 1)
    assert told == [1]
    assert by_length.encode([]).shape == (0, 1)


def test_the_tokenizer_decides_and_no_limit(renderer: Renderer) -> None:
    by_length = ResponseLength(renderer)
    assert by_length.space()["representation"] == "length"
    assert "tokenizer" in by_length.space()
    assert by_length.build() == {}
