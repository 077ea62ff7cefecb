"""Log-likelihoods in batches against a loop over whole logits, one sequence at a time."""

from typing import Any, Literal

import numpy as np
import pytest
import torch

from handpick.data.render import IGNORED, Rendered
from handpick.errors import ModelError
from handpick.evaluation.likelihood import log_likelihood
from tests.gradients.tiny_models import ARCHITECTURES, VOCAB, base_model, lora_model


def sequences(n: int = 9) -> list[Rendered]:
    """Of 3 to 21 tokens, some labelled in two places, one from its very first token."""
    generator = torch.Generator().manual_seed(4)
    found = []
    for i in range(n):
        ids = torch.randint(3, VOCAB, (3 + (7 * i) % 19,), generator=generator).tolist()
        labelled = (torch.rand(len(ids), generator=generator) < 0.5).tolist()
        labelled[-1] = True
        labelled[0] = i == 2
        labels = [token if kept else IGNORED for token, kept in zip(ids, labelled, strict=True)]
        found.append(Rendered(ids, labels, len(ids)))
    return found


@torch.no_grad()
def by_a_loop(model: Any, sequence: Rendered) -> tuple[float, int]:
    model.eval()
    log_TV = torch.log_softmax(model(input_ids=torch.tensor([sequence.input_ids])).logits[0].double(), dim=-1)
    each = [float(log_TV[t - 1, label]) for t, label in enumerate(sequence.labels) if t and label != IGNORED]
    return sum(each), len(each)


@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_it_is_the_loop_for_every_architecture(name: str) -> None:
    model = lora_model(name)
    model.train()  # as a trainer leaves it; dropout must not matter, nor the mode change
    got = log_likelihood(model, sequences(), pad_id=0, batch_tokens=64)
    assert model.training
    want = [by_a_loop(model, each) for each in sequences()]
    assert got.tokens_S.tolist() == [n for _, n in want]
    np.testing.assert_allclose(got.sum_S, [s for s, _ in want], rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(got.mean_S, [s / n for s, n in want], rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2"])
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("batch_tokens", [1, 60])
def test_neither_padding_nor_the_batch_changes_it(name: str, side: Literal["left", "right"], batch_tokens: int) -> None:
    model = base_model(name)
    done: list[int] = []
    got = log_likelihood(
        model, sequences(), pad_id=0, batch_tokens=batch_tokens, side=side, advance=done.append
    )  # fmt: skip
    np.testing.assert_allclose(got.sum_S, [by_a_loop(model, s)[0] for s in sequences()], rtol=2e-5, atol=2e-5)
    assert sum(done) == len(sequences())
    assert (len(done) == len(sequences())) == (batch_tokens == 1)


def test_a_model_without_a_head_of_its_own_is_refused() -> None:
    model: Any = base_model("llama")
    model.get_output_embeddings = lambda: None
    with pytest.raises(ModelError, match=r"^LlamaForCausalLM has no decoder apart from a language-model head"):
        log_likelihood(model, sequences(1), pad_id=0, batch_tokens=10)
