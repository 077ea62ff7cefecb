"""Preference losses against autograd on the loss as the paper writes it, one pair at a time."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from handpick.choices import PreferenceLoss
from handpick.data.examples import Example, Message
from handpick.data.render import IGNORED, Rendered, Renderer
from handpick.gradients.engine import GradientEngine
from handpick.gradients.layers import canonical_name
from handpick.gradients.projection import NoProjection
from handpick.model import load_tokenizer
from handpick.objectives.preference import Pair, Preference
from handpick.objectives.protocol import Policy
from handpick.scorers.gradient_encoder import encode_rows
from tests.gradients.oracle import autograd_rows, flat, random_sequences, relative_error
from tests.gradients.tiny_models import ARCHITECTURES, VOCAB, lora_model

N = 5
LOSSES: tuple[PreferenceLoss, ...] = ("dpo", "ipo", "simpo")


def pairs(seed: int) -> list[Pair]:
    """Answers of unlike lengths after shared prompts, some of them long and some a single token."""
    prompts, chosen, rejected = (random_sequences(N, VOCAB, seed=seed + i) for i in range(3))

    def after(prompt: Rendered, answer: Rendered, n: int) -> Rendered:
        said = answer.input_ids[:n]
        ids = prompt.input_ids + said
        return Rendered(ids, [IGNORED] * len(prompt.input_ids) + said, len(ids))

    trios = enumerate(zip(prompts, chosen, rejected, strict=True))
    return [Pair(after(p, w, 1 + 5 * i), after(p, r, 20 - 4 * i)) for i, (p, w, r) in trios]


def log_probability(model: nn.Module, sequence: Rendered) -> Tensor:
    logits_TV = model(input_ids=torch.tensor([sequence.input_ids])).logits[0]
    labels_T = torch.tensor(sequence.labels)
    return -nn.functional.cross_entropy(logits_TV[:-1], labels_T[1:], ignore_index=IGNORED, reduction="sum")


def as_written(
    loss: PreferenceLoss, beta: float, gamma: float, w: Tensor, other: Tensor, refs: tuple[Tensor, Tensor],
    n: tuple[int, int],
) -> Tensor:  # fmt: skip
    r_w, r_l = w - refs[0], other - refs[1]
    if loss == "dpo":
        return -torch.log(torch.sigmoid(beta * r_w - beta * r_l))
    if loss == "ipo":
        return (r_w - r_l - 1 / (2 * beta)) ** 2
    return -torch.log(torch.sigmoid(beta / n[0] * w - beta / n[1] * other - gamma))


def oracle(model: Any, items: list[Pair], loss: PreferenceLoss, beta: float, gamma: float) -> Tensor:
    """(N, D): plain autograd through both answers at once; the reference is the base model, adapter off."""
    model.eval()
    names = {canonical_name(name): p for name, p in model.named_parameters() if p.requires_grad}
    rows = []
    for pair in items:
        with torch.no_grad(), model.disable_adapter():
            refs = (log_probability(model, pair.chosen), log_probability(model, pair.rejected))
        model.zero_grad()
        own = (log_probability(model, pair.chosen), log_probability(model, pair.rejected))
        as_written(loss, beta, gamma, *own, refs, (pair.chosen.n_labels, pair.rejected.n_labels)).backward()
        grads = [names[name].grad for name in sorted(names)]
        rows.append(torch.cat([g.flatten().clone() for g in grads if g is not None]))
    model.zero_grad()
    return torch.stack(rows)


def policy_of(model: nn.Module, batch_tokens: int = 60, load: Callable[[Path], None] = lambda path: None) -> Policy:
    return Policy(GradientEngine(model), None, 0, batch_tokens, checkpoint="", load=load, here=Path("here"))


def features(model: nn.Module, items: list[Pair], batch_tokens: int = 60, **settings: Any) -> NDArray[np.float32]:
    objective = Preference(None, 100, **settings)  # type: ignore[arg-type]
    policy = policy_of(model, batch_tokens)
    raw = NoProjection(policy.engine.n_coordinates)
    return encode_rows(policy.engine, objective.rows(items, policy), 0, raw, batch_tokens)


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("loss", LOSSES)
def test_equals_autograd_on_the_loss_as_it_is_written(name: str, loss: PreferenceLoss) -> None:
    model = lora_model(name)
    items = pairs(seed=4)
    want = oracle(model, items, loss, 0.1, 0.5)
    got = torch.from_numpy(features(model, items, loss=loss, beta=0.1, gamma=0.5))
    assert relative_error(got, want) <= 1e-5


@pytest.mark.parametrize("batch_tokens", [1, 40, 10_000])
def test_batches_change_nothing(batch_tokens: int) -> None:
    """Also where the two answers of a pair never share one."""
    model = lora_model("llama")
    items = pairs(seed=7)
    want = features(model, items)
    got = features(model, items, batch_tokens)
    assert relative_error(torch.from_numpy(got), torch.from_numpy(want)) <= 1e-5


@pytest.mark.parametrize("beta", [0.05, 0.1, 1.0])
def test_at_the_reference_it_is_half_beta_times_the_difference(beta: float) -> None:
    model = lora_model("llama")
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.zero_()  # the adapter says nothing: θ is the reference
    items = pairs(seed=1)
    each = [flat(autograd_rows(model, [pair[side] for pair in items])) for side in (0, 1)]  # of the mean nll
    tokens = torch.tensor([[pair[side].n_labels for pair in items] for side in (0, 1)])[..., None]
    want = beta / 2 * (each[0] * tokens[0] - each[1] * tokens[1])
    assert relative_error(torch.from_numpy(features(model, items, beta=beta)), want) <= 1e-5


def test_the_reference_may_be_another_checkpoint() -> None:
    model = lora_model("llama")
    own = {name: p.detach().clone() for name, p in model.named_parameters()}
    other = dict(lora_model("llama", seed=5).named_parameters())

    def load(path: Path) -> None:
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.data.copy_(other[name] if path.name == "other" else own[name])

    items = pairs(seed=2)
    objective = Preference(None, 100, reference=Path("other"))  # type: ignore[arg-type]
    policy = policy_of(model, load=load)
    rows = objective.rows(items, policy)
    assert all(torch.equal(p, own[name]) for name, p in model.named_parameters())
    sides = [pair[side] for side in (0, 1) for pair in items]
    policy_2P = policy.log_likelihoods(sides).reshape(2, -1)
    load(Path("other"))
    reference_2P = policy.log_likelihoods(sides).reshape(2, -1)
    margin_P = (policy_2P - reference_2P)[0] - (policy_2P - reference_2P)[1]
    want_P = 0.1 / (1 + np.exp(0.1 * margin_P))
    np.testing.assert_allclose([row[0].weight for row in rows], want_P, rtol=1e-10)
    np.testing.assert_allclose([row[1].weight for row in rows], -want_P, rtol=1e-10)


def test_what_is_trainable_stays_as_it_was() -> None:
    """peft would leave all of the adapter trainable once it has been off."""
    model = lora_model("llama")
    for name, parameter in model.named_parameters():
        if "lora_A" in name:
            parameter.requires_grad = False
    before = {name: p.requires_grad for name, p in model.named_parameters()}
    features(model, pairs(seed=3))
    assert {name: p.requires_grad for name, p in model.named_parameters()} == before
    assert all(p.grad is None for p in model.parameters())


# -- from records to pairs --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def renderer(tiny_model: Path) -> Renderer:
    return Renderer(load_tokenizer(str(tiny_model)))


def example(chosen: list[str], rejected: list[str] | None, id: str = "a") -> Example:
    """User and assistant take turns."""

    def turns(texts: list[str]) -> tuple[Message, ...]:
        return tuple(Message(("user", "assistant")[i % 2], text) for i, text in enumerate(texts))  # type: ignore[arg-type]

    return Example(id, turns(chosen), b"", rejected=None if rejected is None else turns(rejected))


def labelled(renderer: Renderer, sequence: Rendered) -> str:
    return str(renderer.tokenizer.decode([label for label in sequence.labels if label != IGNORED]))


def test_the_loss_stands_on_what_the_answers_do_not_share(renderer: Renderer) -> None:
    asked = ["Hello?", "Yes, hello.", "Is it raining?"]
    prepared = Preference(renderer, 200).prepare([example([*asked, "It is."], [*asked, "It is not, I think."])])
    (pair,) = prepared.items
    assert labelled(renderer, pair.chosen).startswith("It is.")
    assert labelled(renderer, pair.rejected).startswith("It is not, I think.")
    assert "hello" not in labelled(renderer, pair.chosen)


@pytest.mark.parametrize(
    ("chosen", "rejected", "reason"),
    [
        (["Hm?", "Yes."], None, "no rejected answer"),
        (["Hm?", "Yes."], ["Hm?", "Yes."], "the same"),
        (["Hm?", "Yes."], ["Hm?", " "], "no assistant turn"),
        (["word " * 300, "Yes."], ["word " * 300, "No."], "no response token left"),
    ],
)
def test_a_pair_that_cannot_be_used_is_refused(
    chosen: list[str], rejected: list[str] | None, reason: str, renderer: Renderer
) -> None:
    good = example(["Hm?", "Yes."], ["Hm?", "No."], "good")
    ids, items, refused = Preference(renderer, 100).prepare([example(chosen, rejected, "bad"), good])
    assert ids == ["good"]
    assert len(items) == 1
    assert refused[0][0].id == "bad"
    assert reason in refused[0][1]


def test_no_pair_no_row() -> None:
    model = lora_model("llama")
    assert features(model, []).shape == (0, GradientEngine(model).n_coordinates)
