"""Batched per-example gradients against a loop of plain autograd."""

import random
from collections.abc import Callable
from typing import Literal

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

from handpick.data.batching import collate, token_batches
from handpick.data.render import Rendered
from handpick.errors import ModelError
from handpick.gradients.engine import GradientEngine
from handpick.gradients.layers import trainable_layers
from handpick.gradients.projection import NoProjection
from tests.gradients.oracle import autograd_rows, flat, mean_weights, random_sequences, relative_error
from tests.gradients.tiny_models import ARCHITECTURES, VOCAB, base_model, lora_model


def engine_rows(
    model: nn.Module,
    sequences: list[Rendered],
    *,
    batch_tokens: int = 64,
    side: Literal["right", "left"] = "right",
    shuffle: int | None = None,
    recompute: bool = False,
) -> Tensor:
    """Raw gradients (N, D) in the order of ``sequences``, whatever the batching."""
    engine = GradientEngine(model, recompute=recompute)
    project = NoProjection(engine.n_coordinates)
    order = list(range(len(sequences)))
    if shuffle is not None:
        random.Random(shuffle).shuffle(order)
    rows: dict[int, Tensor] = {}
    for batch in token_batches([len(sequences[i].input_ids) for i in order], batch_tokens):
        members = [order[i] for i in batch]
        batch = collate([sequences[i] for i in members], pad_id=0, side=side)
        features = engine.features(batch, mean_weights(batch), project)
        rows |= dict(zip(members, features, strict=True))
    return torch.stack([rows[i] for i in range(len(sequences))])


@pytest.mark.parametrize("everywhere", [False, True])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_equals_autograd(name: str, everywhere: bool) -> None:
    model = lora_model(name, everywhere=everywhere)
    sequences = random_sequences(11, VOCAB)
    want = flat(autograd_rows(model, sequences))
    assert relative_error(engine_rows(model, sequences), want) <= 1e-5


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("batch_tokens", [1, 30, 1000])
@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2", "mistral"])
def test_batching_padding_and_order_change_nothing(
    name: str, batch_tokens: int, side: Literal["right", "left"]
) -> None:
    model = lora_model(name)
    sequences = random_sequences(9, VOCAB, seed=3)
    want = flat(autograd_rows(model, sequences))
    got = engine_rows(model, sequences, batch_tokens=batch_tokens, side=side, shuffle=batch_tokens)
    assert relative_error(got, want) <= 1e-5


@pytest.mark.parametrize(
    ("dtype", "bound"), [(torch.float32, 1e-5), (torch.float64, 1e-12), (torch.bfloat16, 0.1)], ids=str
)
@pytest.mark.parametrize("name", ["llama", "qwen3", "gpt2"])
def test_dtypes(name: str, dtype: torch.dtype, bound: float) -> None:
    """In bfloat16 both sides round, each in its own order: a tenth, where a wrong row would be off by more than one."""
    model = lora_model(name, dtype=dtype)
    sequences = random_sequences(8, VOCAB, seed=5)
    want = flat(autograd_rows(model, sequences))
    assert relative_error(engine_rows(model, sequences), want) <= bound


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_attention_implementations(attention: str) -> None:
    model = lora_model("llama")
    model.get_base_model().set_attn_implementation(attention)  # type: ignore[operator]
    sequences = random_sequences(8, VOCAB, seed=6)
    want = flat(autograd_rows(model, sequences))
    assert relative_error(engine_rows(model, sequences, side="left"), want) <= 1e-5


@pytest.mark.parametrize("lora", [{"use_rslora": True}, {"lora_dropout": 0.5}, {"r": 1}, {"lora_alpha": 1}], ids=str)
def test_lora_variants_that_stay_linear(lora: dict[str, object]) -> None:
    model = lora_model("llama", **lora).train()
    sequences = random_sequences(7, VOCAB, seed=7)
    got = engine_rows(model, sequences)
    assert model.training, "the caller's mode is put back"
    assert relative_error(got, flat(autograd_rows(model, sequences))) <= 1e-5


def test_a_model_that_is_trainable_in_part() -> None:
    model = lora_model("llama")
    for name, parameter in model.named_parameters():
        if "layers.0" in name or "k_proj" in name:
            parameter.requires_grad = False
    sequences = random_sequences(6, VOCAB, seed=8)
    assert relative_error(engine_rows(model, sequences), flat(autograd_rows(model, sequences))) <= 1e-5


def test_the_model_is_left_as_it_was() -> None:
    model = lora_model("llama")
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    sequences = random_sequences(4, VOCAB)
    plain = model(input_ids=torch.tensor([sequences[0].input_ids])).logits
    engine_rows(model, sequences)
    assert all(torch.equal(before[name], parameter) for name, parameter in model.named_parameters())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any("forward" in vars(module) for module in model.modules())
    assert torch.equal(model(input_ids=torch.tensor([sequences[0].input_ids])).logits, plain)


def test_a_frozen_layer_gets_no_gradient_below_the_first_adapter() -> None:
    """With the adapter on the last layer alone, nothing below it is differentiated."""
    model = lora_model("llama", layers_to_transform=[1])
    seen: list[str] = []
    for name, module in model.named_modules():
        if name.endswith(("layers.0.mlp", "layers.1.mlp")):
            module.register_forward_hook(
                lambda _m, _a, out, name=name: seen.append(name) if out.requires_grad else None
            )
    engine_rows(model, random_sequences(3, VOCAB), batch_tokens=1000)
    assert [name.split(".")[-2] for name in seen] == ["1"]


def with_adapter(name: str, **lora: object) -> nn.Module:
    return get_peft_model(base_model(name), LoraConfig(task_type="CAUSAL_LM", r=2, **lora))  # type: ignore[arg-type]


def shared_layer() -> nn.Module:
    """One layer in two places of the model."""
    model = lora_model("llama")
    layers = model.get_base_model().model.layers  # type: ignore[operator]
    layers[1].self_attn.q_proj = layers[0].self_attn.q_proj
    return model


def shared_weight() -> nn.Module:
    """Two layers with one weight."""
    model = lora_model("llama")
    layers = model.get_base_model().model.layers  # type: ignore[operator]
    layers[1].self_attn.q_proj.lora_A.default.weight = layers[0].self_attn.q_proj.lora_A.default.weight
    return model


class RunsTwice(nn.Module):
    """Calls a layer twice, once on half of what it is given."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        first: Tensor = self.layer(x)
        again: Tensor = self.layer(0.5 * x)
        return first - again.tanh()


def runs_twice() -> nn.Module:
    model = lora_model("llama")
    attention = model.get_base_model().model.layers[0].self_attn  # type: ignore[operator]
    attention.q_proj = RunsTwice(attention.q_proj)
    return model


class Reshaped(nn.Module):
    """Gives a layer its input in another shape."""

    def __init__(self, layer: nn.Module, shape: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.layer, self.shape = layer, shape

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(self.shape(x))
        back = out if out.shape[0] == len(x) or out.ndim < 3 else out.transpose(0, 1)
        return back.reshape(*x.shape[:-1], out.shape[-1])


def reshaped(shape: Callable[[Tensor], Tensor]) -> nn.Module:
    model = lora_model("llama")
    attention = model.get_base_model().model.layers[0].self_attn  # type: ignore[operator]
    attention.v_proj = Reshaped(attention.v_proj, shape)
    return model


def heads(x: Tensor) -> Tensor:
    """(B, 1, T, I), as multi-head latent attention has it."""
    return x[:, None]


def flattened(x: Tensor) -> Tensor:
    """(B·T, I), as a shared expert or OPT's fc1 has it."""
    return x.flatten(0, 1)


def time_first(x: Tensor) -> Tensor:
    """(T, B, I), as XLNet has it."""
    return x.transpose(0, 1)


def two_adapters() -> nn.Module:
    model = with_adapter("llama", target_modules=["q_proj"])
    model.add_adapter("second", LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj"]))  # type: ignore[operator]
    model.base_model.set_adapter(["default", "second"])  # type: ignore[operator, union-attr]
    return model


REFUSED = {
    "DoRA": (lambda: with_adapter("llama", target_modules=["q_proj"], use_dora=True), "DoRA"),
    "bias": (lambda: with_adapter("llama", target_modules=["q_proj"], lora_bias=True), "bias"),
    "embedding": (lambda: with_adapter("llama", target_modules=["embed_tokens", "q_proj"]), "embedding"),
    "norm": (lambda: with_adapter("llama", target_modules=["q_proj"], modules_to_save=["norm"]), "norm"),
    "shared": (shared_weight, "shared with"),
    "two adapters": (two_adapters, "second adapter"),
    "nothing": (lambda: base_model("llama").requires_grad_(False), "no trainable"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_exact_is_refused_by_name(what: str) -> None:
    build, named = REFUSED[what]
    with pytest.raises(ModelError, match=named):
        trainable_layers(build())


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("build", [shared_layer, runs_twice], ids=lambda build: build.__name__)
def test_the_gradient_of_a_layer_that_runs_twice_is_the_sum(build: Callable[[], nn.Module], recompute: bool) -> None:
    model, sequences = build(), random_sequences(7, VOCAB, seed=2)
    want = flat(autograd_rows(model, sequences))
    assert relative_error(engine_rows(model, sequences, recompute=recompute), want) <= 1e-5


@pytest.mark.parametrize("batch_tokens", [1, 1000])
@pytest.mark.parametrize("shape", [heads, flattened], ids=lambda shape: shape.__name__)
def test_inputs_of_other_shapes(shape: Callable[[Tensor], Tensor], batch_tokens: int) -> None:
    model, sequences = reshaped(shape), random_sequences(7, VOCAB, seed=2)
    want = flat(autograd_rows(model, sequences))
    assert relative_error(engine_rows(model, sequences, batch_tokens=batch_tokens), want) <= 1e-5


@pytest.mark.parametrize(
    "shape", [time_first, lambda x: x.flatten(0, 1)[int(x.shape[1] > 1) :]], ids=["time first", "some tokens"]
)
def test_examples_that_cannot_be_told_apart_are_refused_by_name(shape: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(ModelError, match=r"layers\.0\.self_attn\.v_proj.*cannot be told apart.*--batch-tokens 1"):
        engine_rows(reshaped(shape), random_sequences(4, VOCAB), batch_tokens=1000)


def test_of_one_example_alone_all_rows_are_its_own() -> None:
    model, sequences = reshaped(time_first), random_sequences(5, VOCAB, seed=4)
    want = flat(autograd_rows(model, sequences))
    assert relative_error(engine_rows(model, sequences, batch_tokens=1), want) <= 1e-5


def test_an_adapter_in_the_head_is_refused_by_name() -> None:
    model = lora_model("llama")
    causal = model.get_base_model()  # type: ignore[operator]
    causal.dense = causal.model.layers[1].self_attn.q_proj
    causal.model.layers[1].self_attn.q_proj = causal.dense.base_layer
    with pytest.raises(ModelError, match=r"dense\.lora_A.*stands in the language-model head"):
        GradientEngine(model)


def test_a_layer_that_never_runs_is_refused_by_name() -> None:
    model = lora_model("llama")
    attention = model.get_base_model().model.layers[0].self_attn  # type: ignore[operator]
    attention.q_proj.forward = attention.q_proj.base_layer.forward
    with pytest.raises(ModelError, match=r"no gradient reached .*layers\.0\.self_attn\.q_proj"):
        engine_rows(model, random_sequences(2, VOCAB))


def test_coordinates_are_numbered_by_name() -> None:
    layers = trainable_layers(lora_model("llama"))
    assert [layer.name for layer in layers] == sorted(layer.name for layer in layers)
    assert all(".default" not in layer.name for layer in layers)
    ends = [layer.offset + layer.size for layer in layers]
    assert [layer.offset for layer in layers] == [0, *ends[:-1]]
