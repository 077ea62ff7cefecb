"""Perplexity and IFD against plain cross-entropy, one example at a time."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from handpick.data.batching import collate
from handpick.data.examples import Example, Message
from handpick.data.render import IGNORED, Rendered, Renderer
from handpick.gradients import likelihood
from handpick.model import load_tokenizer
from handpick.scorers import model_reader as room
from handpick.scorers import model_scores
from handpick.scorers.model_scores import IFD, AnswerSequences, Perplexity, mean_losses
from tests.conftest import make_model
from tests.gradients.oracle import random_sequences
from tests.gradients.tiny_models import ARCHITECTURES, VOCAB, base_model

MAX_LENGTH = 128


def dtypes(name: str, float32: float) -> list[tuple[torch.dtype, float]]:
    """What an architecture is computed in here, with the error allowed."""
    if name == "mixtral":  # whose experts are not computed in float64
        return [(torch.float32, float32)]
    # Gemma 2's attention has a softmax in float32 whatever the weights are
    return [(torch.float32, float32), (torch.float64, 1e-6 if name == "gemma2" else 1e-12)]


def loss(model: nn.Module, ids: list[int], labels: list[int]) -> float:
    """The mean cross-entropy of the labelled tokens, from the model's own logits in float64."""
    model.eval()
    with torch.no_grad():
        logits_TV = model(input_ids=torch.tensor([ids])).logits[0].double()
    return float(nn.functional.cross_entropy(logits_TV[:-1], torch.tensor(labels[1:]), ignore_index=IGNORED))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_losses_are_those_of_a_loop(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sequences = random_sequences(9, VOCAB, seed=3)
    for dtype, bound in dtypes(name, 1e-5):
        model = base_model(name, dtype=dtype)
        want_B = torch.tensor([loss(model, s.input_ids, s.labels) for s in sequences], dtype=torch.float64)
        model.train()
        got_B = mean_losses(model, collate(sequences, pad_id=0))
        torch.testing.assert_close(got_B, want_B, rtol=bound, atol=bound)
        assert model.training
    monkeypatch.setattr(likelihood, "_CPU_LOGITS", 2 * VOCAB)  # two positions at a time
    torch.testing.assert_close(mean_losses(model, collate(sequences, pad_id=0)), want_B, rtol=bound, atol=bound)


def made(kind: type[Perplexity] | type[IFD], model: Path, **changed: Any) -> Any:
    given: dict[str, Any] = {
        "max_length": MAX_LENGTH, "dtype": "float32", "quantization": "none", "batch_tokens": 200,
    }  # fmt: skip
    return kind(room.Reader(str(model), Renderer(load_tokenizer(str(model))), **(given | changed)))


@pytest.fixture(scope="module")
def examples(pool_records: list[dict[str, Any]]) -> list[Example]:
    """Ten records of the pool, one of them with two answers."""
    turns = [tuple(Message(m["role"], m["content"]) for m in r["messages"]) for r in pool_records]
    short = [t for t in turns if len(t[0].content) < 120][:10]
    short[3] += (Message("user", "Thank you."), Message("assistant", "You are welcome."))
    return [Example(str(i), messages, b"") for i, messages in enumerate(short)]


def two_of(example: Example, tokenizer: Any) -> tuple[list[int], list[int]]:
    """Ids and labels of a conversation in the Tulu form, token by token from its parts.

    The parts meet at a special token or behind a line break, where the tokens of the tiny tokenizer are the same
    whether the text around them is there or not.
    """
    ids: list[int] = []
    labels: list[int] = []
    for message in example.messages:
        head = tokenizer(f"<|{message.role}|>\n", add_special_tokens=False)["input_ids"]
        ids += head
        labels += [IGNORED] * len(head)
        body = tokenizer(message.content, add_special_tokens=False)["input_ids"]
        if message.role == "assistant":
            body += [tokenizer.eos_token_id]
        ids += body
        labels += body if message.role == "assistant" else [IGNORED] * len(body)
        end = tokenizer("\n", add_special_tokens=False)["input_ids"]
        ids += end
        labels += [IGNORED] * len(end)
    return ids[:MAX_LENGTH], labels[:MAX_LENGTH]


@pytest.fixture(scope="module")
def loaded(tiny_model: Path) -> tuple[nn.Module, Any]:
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    return model, AutoTokenizer.from_pretrained(tiny_model)


def test_perplexity(tiny_model: Path, examples: list[Example], loaded: tuple[nn.Module, Any]) -> None:
    model, tokenizer = loaded
    perplexity = made(Perplexity, tiny_model)
    prepared = perplexity.prepare(examples)
    assert prepared.ids == [example.id for example in examples]
    assert any(item.full_length > MAX_LENGTH for item in prepared.items)
    told: list[float] = []
    rows_N1 = perplexity.encode(prepared.items, told.append)
    assert rows_N1.dtype == np.float32
    assert rows_N1.shape == (10, perplexity.dim)
    assert sum(told) == 10
    want = []
    for example, item in zip(examples, prepared.items, strict=True):
        ids, labels = two_of(example, tokenizer)
        assert (item.input_ids, item.labels) == (ids, labels)
        want.append(math.exp(loss(model, ids, labels)))
    np.testing.assert_allclose(rows_N1[:, 0], want, rtol=1e-4)
    assert np.ptp(want) > 1  # the scores tell examples apart


@pytest.mark.parametrize("begins", [True, False])
def test_ifd(examples: list[Example], loaded: tuple[nn.Module, Any], tmp_path: Path, begins: bool) -> None:
    folder = make_model(tmp_path / "model")
    if begins:
        fast = AutoTokenizer.from_pretrained(folder)
        fast.bos_token = "<|user|>"  # any token: the template does not write it
        fast.save_pretrained(folder)
    model, tokenizer = loaded
    ifd = made(IFD, folder)
    prepared = ifd.prepare(examples)
    assert prepared.ids == [example.id for example in examples]
    told: list[float] = []
    rows_N1 = ifd.encode(prepared.items, told.append)
    assert rows_N1.dtype == np.float32
    assert rows_N1.shape == (10, ifd.dim)
    assert sum(told) == 10
    want = []
    for example in examples:
        ids, labels = two_of(example, tokenizer)
        answer = [label for label in labels if label != IGNORED]
        if begins:
            begin = tokenizer.convert_tokens_to_ids("<|user|>")
            want.append(loss(model, ids, labels) / loss(model, [begin, *answer], [IGNORED, *answer]))
        else:  # the first token of the answer counts on neither side
            labels[labels.index(answer[0])] = IGNORED
            want.append(loss(model, ids, labels) / loss(model, answer, answer))
    np.testing.assert_allclose(rows_N1[:, 0], want, rtol=1e-4)
    assert np.ptp(want) > 1e-3


def test_a_score_is_the_same_in_any_company(tiny_model: Path, examples: list[Example]) -> None:
    for kind in (Perplexity, IFD):
        rows = [made(kind, tiny_model, batch_tokens=n).encode(made(kind, tiny_model).prepare(examples).items)
                for n in (1, 150, 5000)]  # fmt: skip
        one = made(kind, tiny_model)
        rows.append(one.encode(one.prepare(examples[::-1]).items)[::-1])
        for other in rows[1:]:
            np.testing.assert_allclose(other, rows[0], rtol=1e-5)
        assert one.encode([]).shape == (0, 1)


def test_what_cannot_be_scored_is_refused_with_the_reason(tiny_model: Path) -> None:
    say = "say nothing but yes " * 40
    examples = [
        Example("no answer", (Message("user", "Hello?"),), b""),
        Example("empty", (Message("user", "Hello?"), Message("assistant", " ")), b""),
        Example("long", (Message("user", say), Message("assistant", "yes")), b""),
        Example("good", (Message("user", "Hello?"), Message("assistant", "yes, hello")), b""),
    ]
    for kind in (Perplexity, IFD):
        prepared = made(kind, tiny_model).prepare(examples)
        assert prepared.ids == ["good"]
        reasons = {example.id: reason for example, reason in prepared.refused}
        assert reasons["no answer"] == reasons["empty"] == "no assistant turn with any text"
        assert "no response token left" in reasons["long"]


def test_an_answer_of_one_token_has_no_ifd_where_nothing_begins_a_sequence(tiny_model: Path) -> None:
    question = (Message("user", "Hello?"), Message("assistant", "a"))
    rendered = Renderer(load_tokenizer(str(tiny_model)))(question, MAX_LENGTH)
    cut = 1 + next(i for i, label in enumerate(rendered.labels) if label != IGNORED)
    example = Example("one", question, b"")
    ((_, reason),) = made(IFD, tiny_model, max_length=cut).prepare([example]).refused
    assert "a single token" in reason
    assert made(IFD, tiny_model, max_length=cut + 1).prepare([example]).ids == ["one"]


def test_a_certain_answer_is_helped_by_no_prompt(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ifd = made(IFD, tiny_model)
    monkeypatch.setattr(model_scores, "mean_losses", lambda model, batch: torch.zeros(len(batch.input_ids_BT)))
    item = Rendered([1, 2, 3], [IGNORED, 2, 3], 3)
    np.testing.assert_array_equal(ifd.encode([AnswerSequences(item, item)]), [[1.0]])


def test_what_must_be_the_same(tiny_model: Path, examples: list[Example], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "load_base", lambda *_: pytest.fail("the model was loaded"))
    perplexity, ifd = made(Perplexity, tiny_model), made(IFD, tiny_model)
    assert perplexity.space() | {"representation": "ifd"} == ifd.space() != perplexity.space()
    assert perplexity.build() == ifd.build() == {"max_length": MAX_LENGTH, "dtype": "float32", "batch_tokens": 200}
