"""Blocks that are run again in the backward pass give the same rows, bit for bit."""

import pytest
import torch
from torch import nn

from handpick.data.batching import collate
from handpick.errors import ModelError
from handpick.gradients.engine import GradientEngine
from handpick.gradients.projection import NoProjection
from handpick.gradients.recompute import blocks_of
from tests.gradients.oracle import mean_weights, random_sequences
from tests.gradients.tiny_models import ARCHITECTURES, VOCAB, lora_model


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_rows_are_bit_equal_and_every_block_runs_twice(name: str, side: str) -> None:
    model = lora_model(name)
    batch = collate(random_sequences(5, VOCAB, seed=3), pad_id=0, side=side)  # type: ignore[arg-type]
    weight_B = mean_weights(batch)
    plain, sparing = GradientEngine(model), GradientEngine(model, recompute=True)
    project = NoProjection(plain.n_coordinates)
    want = plain.features(batch, weight_B, project)
    runs = [0]
    inner = next(m for m in sparing.blocks[0].modules() if m in {layer.module for layer in sparing.layers})
    handle = inner.register_forward_hook(lambda *_: runs.__setitem__(0, runs[0] + 1))
    got = sparing.features(batch, weight_B, project)
    handle.remove()
    assert torch.equal(got, want)
    assert runs == [2]
    assert not any("forward" in vars(module) for module in model.modules())


def test_an_adapter_outside_the_blocks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = lora_model("llama")
    assert blocks_of(nn.Sequential(nn.ModuleList([nn.Linear(2, 2)])), GradientEngine(model).layers) == []
    monkeypatch.setattr("handpick.gradients.engine.blocks_of", lambda *_: [])
    with pytest.raises(ModelError, match="leave gradient checkpointing off"):
        GradientEngine(model, recompute=True)
