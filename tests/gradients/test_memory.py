"""What the engine says that it will take, against what PyTorch's allocator gives it."""

from typing import Literal

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from handpick.data.batching import collate
from handpick.data.render import Rendered
from handpick.gradients import engine
from handpick.gradients.engine import GradientEngine
from handpick.gradients.memory import footprint
from handpick.gradients.projection import projection
from tests.gradients.oracle import mean_weights
from tests.gradients.tiny_models import VOCAB, lora_model


def measured(gradients: GradientEngine, n: int, length: int, kind: Literal["sparse", "none"]) -> tuple[int, float]:
    """The most bytes held at once while a batch is computed, and what the formula says."""
    project = projection(kind, gradients.n_coordinates, 128, 0)
    ids = [1] * length
    batch = collate([Rendered(ids, ids, length)] * n, pad_id=0)
    weight_B = mean_weights(batch)
    gradients.features(batch, weight_B, project)  # what is kept is there from now on
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        gradients.features(batch, weight_B, project)
    held = highest = 0
    for event in seen.profiler.kineto_results.events():  # type: ignore[union-attr]
        if event.name() == "[memory]":
            held += event.nbytes()
            highest = max(highest, held)
    took = footprint(gradients, project, adam=False)
    return highest, took.peak(n, length) - took.kept


# eager attention in gemma2, which keeps matrices of T × T; blocks that are no LlamaDecoderLayer in gpt2
@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt2", "mixtral", "cohere"])
@pytest.mark.parametrize(("n", "length"), [(4, 100), (16, 100), (8, 32)])
def test_memory_is_what_the_formula_says(name: str, n: int, length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_CPU_LOGITS", 64 * VOCAB)
    got, want = measured(GradientEngine(lora_model(name)), n, length, "sparse")
    assert 0.8 * want < got < 1.25 * want


@pytest.mark.parametrize("name", ["llama", "gpt2", "mixtral"])
def test_recomputed_blocks_take_less(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_CPU_LOGITS", 64 * VOCAB)
    model = lora_model(name)
    plain, _ = measured(GradientEngine(model), 16, 100, "sparse")
    got, want = measured(GradientEngine(model, recompute=True), 16, 100, "sparse")
    assert got < 0.7 * plain
    assert 0.75 * want < got < 1.25 * want


def test_raw_gradients_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_CPU_LOGITS", 64 * VOCAB)
    got, want = measured(GradientEngine(lora_model("llama", everywhere=True)), 16, 30, "none")
    assert 0.8 * want < got < 1.25 * want


def test_more_layers_take_no_more_but_for_what_is_kept_and_saved() -> None:
    """Measured: a batch's peak less what autograd saves is the same with two layers and with six."""
    beside = []
    for n_layers in (2, 6):
        gradients = GradientEngine(lora_model("llama", config={"num_hidden_layers": n_layers}))
        got, _ = measured(gradients, 8, 64, "none")
        took = footprint(gradients, projection("none", gradients.n_coordinates, 1, 0), adam=False)
        rows = 8 * 4 * gradients.n_coordinates
        beside.append(got - rows - 8 * took.saved.at_length(64))
    assert beside[1] < 1.1 * beside[0]


def test_adams_moments_and_signs_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    gradients = GradientEngine(lora_model("llama"))
    project = projection("sparse", gradients.n_coordinates, 128, 0)
    with_adam, without = (footprint(gradients, project, adam=adam) for adam in (True, False))
    assert with_adam.kept - without.kept == 8 * gradients.n_coordinates
    assert torch.float32.itemsize * gradients.n_coordinates == without.kept  # the signs, s = 1


def test_a_model_of_few_positions_is_tried_within_them() -> None:
    gradients = GradientEngine(lora_model("gpt2", config={"n_positions": 40}))
    assert footprint(gradients, projection("sparse", gradients.n_coordinates, 128, 0), adam=False).saved.a_token > 0
