"""Some of an adapter's layers carry the gradient: the whole row's coordinates, and a backward pass that ends early."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from handpick.choices import EpsMode
from handpick.costs.flops import shape_of
from handpick.data.batching import collate
from handpick.errors import ModelError, SettingsError
from handpick.gradients.adam import AdamPreconditioner
from handpick.gradients.carriers import carry_by
from handpick.gradients.check import check_rows
from handpick.gradients.engine import GradientEngine
from handpick.gradients.layers import canonical_name, trainable_layers
from handpick.gradients.memory import footprint
from handpick.gradients.projection import NoProjection
from handpick.training.checkpoint import load_moments, save_moments
from tests.gradients.oracle import autograd_rows, flat, mean_weights, random_sequences, relative_error
from tests.gradients.test_experts import experts_model
from tests.gradients.test_per_example import engine_rows
from tests.gradients.tiny_models import VOCAB, lora_model

SIX: dict[str, object] = {"num_hidden_layers": 6}
DEPTH = {"gpt2": "n_layer"}


def block_of(name: str) -> int:
    """The first number in a parameter's name."""
    return next(int(part) for part in name.split(".") if part.isdigit())


def coordinates_of(model: nn.Module, blocks: set[int]) -> Tensor:
    """Which of a whole row's coordinates belong to these blocks, by the names of the weights."""
    layers = trainable_layers(model)
    return torch.cat([torch.full((layer.size,), block_of(layer.name) in blocks) for layer in layers])


@pytest.mark.parametrize(
    ("name", "layers", "blocks"),
    [
        *(("llama", layers, blocks) for layers, blocks in (("late", {4, 5}), ("0,2-3", {0, 2, 3}), ("5", {5}))),
        *((name, "late", {4, 5}) for name in ("gemma2", "gpt2", "phi", "mixtral")),
    ],
)
def test_a_row_is_the_whole_rows_coordinates(name: str, layers: str, blocks: set[int]) -> None:
    model = lora_model(name, everywhere=name != "mixtral", config={DEPTH.get(name, "num_hidden_layers"): 6})
    sequences = random_sequences(7, VOCAB, seed=3)
    whole_ND = engine_rows(model, sequences)
    autograd = autograd_rows(model, sequences)
    is_kept_D = coordinates_of(model, blocks)
    carry_by(model, layers)
    rows_NP = engine_rows(model, sequences)
    assert 0 < rows_NP.shape[1] == int(is_kept_D.sum()) < whole_ND.shape[1]
    assert relative_error(rows_NP, whole_ND[:, is_kept_D]) <= 1e-6
    want = flat({parameter: rows for parameter, rows in autograd.items() if block_of(parameter) in blocks})
    assert relative_error(rows_NP, want) <= 1e-5


@pytest.mark.parametrize("name", ["qwen3-moe", "llama4"])
def test_of_fused_experts(name: str) -> None:
    changed: dict[str, object] = {"num_hidden_layers": 3, "layer_types": ["full_attention"] * 3}
    model = experts_model(name, config=changed)
    sequences = random_sequences(5, VOCAB, seed=1)
    whole_ND, is_kept_D = engine_rows(model, sequences), coordinates_of(model, {2})
    carry_by(model, "late")
    engine = GradientEngine(model)
    with inputs_that_require_grad(engine) as seen:
        rows_NP = engine_rows(model, sequences)
    assert relative_error(rows_NP, whole_ND[:, is_kept_D]) <= 1e-6
    assert [any(of_block) for of_block in seen] == [False, False, False]
    check_rows(engine)


@contextmanager
def inputs_that_require_grad(engine: GradientEngine) -> Iterator[list[list[bool]]]:
    """Note, block by block, whether what goes in requires a gradient, call by call."""
    seen: list[list[bool]] = [[] for _ in engine.blocks]
    hooks = [
        block.register_forward_pre_hook(lambda _module, args, own=own: own.append(bool(args[0].requires_grad)))
        for block, own in zip(engine.blocks, seen, strict=True)
    ]
    yield seen
    for hook in hooks:
        hook.remove()


@pytest.mark.parametrize("recompute", [False, True])
def test_below_the_first_that_carries_nothing_requires_a_gradient(recompute: bool) -> None:
    model = lora_model("llama", everywhere=True, config=SIX | {"attn_implementation": "eager"})
    batch = collate(random_sequences(4, VOCAB, seed=2), pad_id=0)

    def operations(engine: GradientEngine) -> float:
        with FlopCounterMode(display=False) as counter:
            engine.features(batch, mean_weights(batch), NoProjection(engine.n_coordinates))
        return float(counter.get_total_flops())

    whole = GradientEngine(model, recompute=recompute)
    assert (whole.passed_back, whole.way_back) == (6, 1.0)
    all_layers, everything = operations(whole), footprint(whole, NoProjection(0), adam=False)
    carry_by(model, "3,5")
    engine = GradientEngine(model, recompute=recompute)
    assert (engine.passed_back, engine.way_back) == (3, 0.5)
    with inputs_that_require_grad(engine) as seen:
        engine.features(batch, mean_weights(batch), NoProjection(engine.n_coordinates))
    assert [own[0] for own in seen] == [False, False, False, False, True, True]  # the fourth's own input needs none
    took = operations(engine)
    assert took < 0.8 * all_layers
    if not recompute:
        own = [len(each.input_ids) for each in random_sequences(4, VOCAB, seed=2)]
        longest = [max(own)] * 4
        labels = sum(each.n_labels for each in random_sequences(4, VOCAB, seed=2))
        shape = shape_of(model)
        said = replace(shape, way_back=engine.way_back).gradient(longest, labels)
        assert said == pytest.approx(took, rel=0.1)
    less = footprint(engine, NoProjection(0), adam=False)
    assert less.saved.at_length(32) < 0.7 * everything.saved.at_length(32)
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("eps_mode", ["less", "adam"])
def test_adams_update_is_the_whole_ones_coordinates(eps_mode: EpsMode, tmp_path: Path) -> None:
    model = lora_model("llama", everywhere=True, config=SIX)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3)
    generator = torch.Generator().manual_seed(4)
    for parameter in trained:
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    optimizer.step()
    optimizer.zero_grad()
    save_moments(tmp_path, model, optimizer)
    batch = collate(random_sequences(5, VOCAB, seed=8), pad_id=0)

    def rows() -> Tensor:
        engine = GradientEngine(model)
        precondition = AdamPreconditioner(load_moments(tmp_path, model), eps_mode)
        return engine.features(batch, mean_weights(batch), NoProjection(engine.n_coordinates), precondition)

    whole_ND, is_kept_D = rows(), coordinates_of(model, {4, 5})
    carry_by(model, "late")
    assert relative_error(rows(), whole_ND[:, is_kept_D]) <= 1e-6


def test_what_is_frozen_already_stays_frozen() -> None:
    """A of an adapter that was never trained."""
    model = lora_model("llama", config=SIX)
    for name, parameter in model.named_parameters():
        if ".lora_A." in name:
            parameter.requires_grad = False
    carry_by(model, "late")
    names = [canonical_name(name) for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert names
    assert all(".lora_B." in name and block_of(name) >= 4 for name in names)


def test_all_changes_nothing() -> None:
    model = lora_model("llama", config=SIX)
    before = trainable_layers(model)
    carry_by(model, "all")
    assert trainable_layers(model) == before


def test_refusals() -> None:
    with pytest.raises(SettingsError, match=r"--layers 2-7 names layer 7, and the model has 6, 0 to 5"):
        carry_by(lora_model("llama", config=SIX), "2-7")
    with pytest.raises(SettingsError, match=r"--layers 4 leaves no weight .* it stands on the layers 0, 2$"):
        carry_by(lora_model("llama", config=SIX, layers_to_transform=[0, 2]), "4")
    model = lora_model("llama", config=SIX)
    model.get_base_model().model.layers = nn.Sequential(*model.get_base_model().model.layers)  # type: ignore[operator]
    with pytest.raises(ModelError, match="no list of blocks"):
        carry_by(model, "late")
