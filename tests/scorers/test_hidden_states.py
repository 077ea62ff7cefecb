"""RDS+ rows against a loop of one example at a time and a mean in plain Python."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from handpick.data.batching import collate
from handpick.data.examples import Example, Message
from handpick.data.render import IGNORED, Rendered, Renderer
from handpick.errors import ModelError
from handpick.model import load_tokenizer
from handpick.scorers import model_reader as room
from handpick.scorers.hidden_states import HiddenStates, weighted_states
from tests.conftest import make_model
from tests.gradients.oracle import random_sequences, relative_error
from tests.gradients.tiny_models import ARCHITECTURES, COMMON, VOCAB, base_model

MAX_LENGTH = 48


def dtypes(name: str, float32: float) -> list[tuple[torch.dtype, float]]:
    """What an architecture is computed in here, with the error allowed."""
    if name == "mixtral":  # whose experts are not computed in float64
        return [(torch.float32, float32)]
    # Gemma 2's attention has a softmax in float32 whatever the weights are
    return [(torch.float32, float32), (torch.float64, 1e-6 if name == "gemma2" else 1e-12)]


def one_at_a_time(model: nn.Module, sequences: list[Rendered]) -> torch.Tensor:
    """Each row by the paper's formula: no batch, no padding, a Python sum in float64."""
    model.eval()
    rows = []
    for sequence in sequences:
        with torch.no_grad():
            output = model(input_ids=torch.tensor([sequence.input_ids]), output_hidden_states=True)
        states_TH = output.hidden_states[-1][0].double()
        total = sum(range(1, len(states_TH) + 1))
        rows.append(sum((i / total) * state_H for i, state_H in enumerate(states_TH, start=1)))
    return torch.stack([torch.as_tensor(row) for row in rows])


def opt_with_a_projection() -> nn.Module:
    """Its head reads fewer numbers than its blocks write."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "opt", **COMMON, hidden_size=32, word_embed_proj_dim=16, ffn_dim=48, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=128, do_layer_norm_before=False,
    )  # fmt: skip
    return AutoModelForCausalLM.from_config(config)


@pytest.mark.parametrize("name", [*ARCHITECTURES, "opt"])
def test_rows_are_the_papers_formula(name: str) -> None:
    sequences = random_sequences(7, VOCAB, seed=2)
    batch = collate(sequences, pad_id=0)
    assert not bool(batch.attention_mask_BT.all())
    for dtype, bound in dtypes(name, 2e-6):
        model = (opt_with_a_projection() if name == "opt" else base_model(name)).to(dtype)
        want_BH = one_at_a_time(model, sequences)
        model.train()
        got_BH = weighted_states(model, batch)
        assert got_BH.dtype == dtype
        assert relative_error(got_BH, want_BH) < bound
        assert model.training


def test_half_precision_is_summed_in_float32() -> None:
    sequences = random_sequences(5, VOCAB, seed=4)
    model = base_model("llama", dtype=torch.bfloat16)
    got_BH = weighted_states(model, collate(sequences, pad_id=0))
    assert got_BH.dtype == torch.float32
    assert relative_error(got_BH, one_at_a_time(model, sequences)) < 2e-2  # padding moves bfloat16's last bits


LLAMA = base_model("llama", dtype=torch.float64)
IDS = st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=12)


@settings(max_examples=25, deadline=None)
@given(st.lists(IDS, min_size=1, max_size=5), st.integers(0, VOCAB - 1))
def test_padding_says_nothing(many: list[list[int]], pad_id: int) -> None:
    sequences = [Rendered(ids, [IGNORED] * len(ids), len(ids)) for ids in many]
    together_BH = weighted_states(LLAMA, collate(sequences, pad_id))
    alone_BH = torch.cat([weighted_states(LLAMA, collate([sequence], 0)) for sequence in sequences])
    torch.testing.assert_close(together_BH, alone_BH, rtol=1e-10, atol=1e-12)


def made(model: Path, **changed: Any) -> HiddenStates:
    given_: dict[str, Any] = {
        "max_length": MAX_LENGTH, "dtype": "float32", "quantization": "none", "batch_tokens": 100,
    }  # fmt: skip
    return HiddenStates(room.Reader(str(model), Renderer(load_tokenizer(str(model))), **(given_ | changed)))


@pytest.fixture(scope="module")
def examples(pool_records: list[dict[str, Any]]) -> list[Example]:
    """Nine records of the pool, a prompt alone, and one without any text."""
    turns = [tuple(Message(m["role"], m["content"]) for m in record["messages"]) for record in pool_records[:9]]
    turns += [(Message("user", "What is 2 + 2?"),), (Message("user", " "), Message("assistant", ""))]
    return [Example(str(i), messages, b"") for i, messages in enumerate(turns)]


def test_from_records_to_rows(tiny_model: Path, examples: list[Example]) -> None:
    rds = made(tiny_model)
    prepared = rds.prepare(examples)
    assert prepared.ids == [str(i) for i in range(10)]
    assert [(example.id, reason) for example, reason in prepared.refused] == [("10", "no turn with any text")]

    told: list[float] = []
    rows_NH = rds.encode(prepared.items, told.append)
    assert rows_NH.dtype == np.float32
    assert rows_NH.shape == (10, rds.dim)
    assert sum(told) == 10

    tokenizer: Any = AutoTokenizer.from_pretrained(tiny_model)
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    sequences = []
    for example in examples[:10]:
        text = "".join(
            f"<|{m.role}|>\n{m.content}{'<|end|>' if m.role == 'assistant' else ''}\n" for m in example.messages
        )
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        sequences.append(Rendered(ids[:MAX_LENGTH], [], len(ids)))
    assert any(s.full_length > MAX_LENGTH for s in sequences)
    assert [item.full_length for item in prepared.items] == [s.full_length for s in sequences]
    assert relative_error(torch.from_numpy(rows_NH), one_at_a_time(model, sequences)) < 2e-6


@pytest.mark.parametrize("batch_tokens", [1, 60, 4096])
def test_a_row_is_the_same_in_any_company(tiny_model: Path, examples: list[Example], batch_tokens: int) -> None:
    rds = made(tiny_model, batch_tokens=batch_tokens)
    items = rds.prepare(examples).items
    rows_NH = rds.encode(items)
    np.testing.assert_allclose(rds.encode(items[3:5]), rows_NH[3:5], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(rds.encode(items[::-1])[::-1], rows_NH, rtol=1e-4, atol=1e-5)
    assert rds.encode([]).shape == (0, rds.dim)


def test_what_must_be_the_same_and_what_need_not(tiny_model: Path, tmp_path: Path) -> None:
    same = made(tiny_model).space()
    assert same["representation"] == "rds+"
    assert made(tiny_model, max_length=9, batch_tokens=7).space() == same
    assert made(tiny_model, quantization="4bit").space() != same
    assert made(make_model(tmp_path / "other", seed=1)).space() != same
    assert str(tiny_model) not in str(same)
    assert made(tiny_model).build() == {"max_length": MAX_LENGTH, "dtype": "float32", "batch_tokens": 100}


def test_nothing_is_loaded_before_the_first_row(
    tiny_model: Path, examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "load_base", lambda *_: pytest.fail("the model was loaded"))
    rds = made(tiny_model)
    rds.space()
    rds.build()
    assert len(rds.prepare(examples).items) == 10


def test_a_model_without_a_decoder_is_refused(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    headless = base_model("llama").model
    headless.get_output_embeddings = lambda: None
    monkeypatch.setattr(room, "load_base", lambda *_: headless)
    with pytest.raises(ModelError, match=r"LlamaModel has no decoder apart from a language-model head"):
        _ = made(tiny_model).dim
