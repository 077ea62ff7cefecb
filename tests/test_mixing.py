"""Lengths that a model must not read together are kept apart, and those that it may are not."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from handpick.data.batching import Mixing, token_batches
from handpick.data.render import Rendered
from handpick.evaluation.likelihood import log_likelihood
from handpick.gradients.check import autograd_row
from handpick.gradients.engine import GradientEngine
from handpick.gradients.projection import NoProjection
from handpick.model.mixing import describe, forget_lengths, mixing_of
from handpick.model.tokens import plain_tokens
from handpick.objectives.next_token import mean_loss
from handpick.sampling.generate import Sampling, sample
from handpick.scorers.gradient_encoder import encode_rows
from tests.gradients.tiny_models import LLAMA_LIKE, lora_model
from tests.sampling.test_generate import Words

LENGTHS = [30, 9, 20, 24, 31, 12, 27, 16]
ORIGINAL = 24
LONGROPE = {
    "rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": ORIGINAL,
    "short_factor": [1.0] * 4, "long_factor": [1.5, 3.0, 5.0, 7.0],
}  # fmt: skip
SETTINGS: dict[str, tuple[str, dict[str, object], Mixing]] = {
    "longrope": (
        "phi3",
        {"rope_parameters": LONGROPE, "original_max_position_embeddings": ORIGINAL},
        Mixing(switch=ORIGINAL),
    ),
    "dynamic": (
        "llama",
        {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}, "max_position_embeddings": 24},
        Mixing(alone=ORIGINAL),
    ),
}


def make(name: str) -> nn.Module:
    model_type, changed, _ = SETTINGS[name]
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **LLAMA_LIKE | changed)).eval()
    for parameter_name, parameter in model.named_parameters():
        if parameter.ndim >= 2 and "norm" not in parameter_name:
            parameter.data.mul_(4)
    forget_lengths(model)
    return model  # type: ignore[no-any-return]


def sequences(model: nn.Module) -> list[Rendered]:
    found = [plain_tokens(model, n, seed=n).tolist() for n in LENGTHS]
    return [Rendered(ids, [-100, *ids[1:]], len(ids)) for ids in found]


@pytest.mark.parametrize("mixing", [Mixing(), Mixing(switch=16), Mixing(alone=20), Mixing(switch=12, alone=24)])
def test_batches_keep_to_it(mixing: Mixing) -> None:
    batches = token_batches(LENGTHS, 96, mixing)
    assert sorted(i for batch in batches for i in batch) == list(range(len(LENGTHS)))
    for batch in batches:
        lengths = [LENGTHS[i] for i in batch]
        assert len(batch) == 1 or mixing.alone is None or max(lengths) <= mixing.alone
        assert mixing.switch is None or len({length > mixing.switch for length in lengths}) == 1
    assert token_batches(LENGTHS, 96, Mixing()) == token_batches(LENGTHS, 96)
    assert max(map(len, batches)) > 1


@pytest.mark.parametrize("name", list(SETTINGS))
def test_it_is_read_from_the_configuration(name: str) -> None:
    _, _, mixing = SETTINGS[name]
    assert mixing_of(make(name).config) == mixing
    said = describe(mixing)
    assert said is not None
    assert f"{ORIGINAL} tokens" in said
    assert mixing_of(AutoConfig.for_model("llama", **LLAMA_LIKE)) == Mixing()
    assert describe(Mixing()) is None


def test_an_indexer_bounds_what_is_read_together() -> None:
    assert mixing_of(AutoConfig.for_model("deepseek_v32")) == Mixing(alone=2048)
    assert mixing_of(AutoConfig.for_model("minimax_m3_vl_text")) == Mixing(alone=16 * 128)


@pytest.mark.parametrize("name", list(SETTINGS))
def test_likelihoods_are_those_of_each_sequence_by_a_model_that_read_no_other(name: str) -> None:
    """In any order: dynamic NTK keeps the factors of the longest sequence it has read."""
    want = []
    for sequence in sequences(make(name)):
        ids = sequence.input_ids
        with torch.no_grad():
            log_TV = make(name)(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
        want.append(sum(float(log_TV[t - 1, ids[t]]) for t in range(1, len(ids))))
    model = make(name)
    for order in (range(len(LENGTHS)), reversed(range(len(LENGTHS)))):
        rows = list(order)
        got = log_likelihood(model, [sequences(model)[i] for i in rows], pad_id=0, batch_tokens=1000)
        np.testing.assert_allclose(got.sum_S, [want[i] for i in rows], rtol=1e-5)


def test_gradients_are_those_of_each_sequence() -> None:
    changed = {"rope_parameters": LONGROPE | {"rope_type": "longrope"}, "max_position_embeddings": 128}
    engine = GradientEngine(lora_model("llama", config=changed))
    own = sequences(engine.model.get_base_model())  # type: ignore[operator]
    got = encode_rows(engine, [mean_loss(s) for s in own], 0, NoProjection(engine.n_coordinates), 1000)
    for row_D, sequence in zip(got, own, strict=True):
        want_D = autograd_row(engine, sequence).numpy()
        assert np.linalg.norm(row_D - want_D) <= 1e-5 * np.linalg.norm(want_D)


@pytest.mark.parametrize("name", list(SETTINGS))
def test_answers_are_those_of_each_prompt(name: str) -> None:
    model = make(name)
    prompts = [sequence.input_ids for sequence in sequences(model)]
    sampling = Sampling(temperature=0, max_new_tokens=4)

    def answers(prompts: list[list[int]]) -> list[Any]:
        found: dict[int, Any] = {}
        for group in sample(model, Words(), prompts, sampling, seed=0, pad_id=0, ends=[]):
            found |= dict(zip(group.prompts, group.samples, strict=True))
        return [found[i][0].ids for i in range(len(prompts))]

    assert answers(prompts) == [answers([prompt])[0] for prompt in prompts]
