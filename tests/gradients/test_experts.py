"""Gradients of experts, fused and listed, against plain autograd through peft's own forward pass."""

from pathlib import Path
from typing import Any, Literal, get_args

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM

from handpick.choices import EpsMode, ProjectionKind
from handpick.data.batching import collate
from handpick.errors import ModelError
from handpick.gradients.adam import AdamMoments, AdamPreconditioner
from handpick.gradients.check import check_rows
from handpick.gradients.engine import GradientEngine
from handpick.gradients.experts import by_run, products_by_run
from handpick.gradients.layers import canonical_name, trainable_layers
from handpick.gradients.projection import NoProjection, projection
from handpick.training.checkpoint import load_adapter, load_moments, save_moments
from handpick.training.warmup import load_trainable
from tests.gradients.oracle import autograd_rows, flat, mean_weights, random_sequences, relative_error
from tests.gradients.test_per_example import engine_rows
from tests.gradients.tiny_models import LLAMA_LIKE, VOCAB

FUSED = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
SMALL_EXPERTS = {"moe_intermediate_size": 16, "num_experts": 4, "num_experts_per_tok": 2}
MLA = {
    "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8,
    "num_key_value_heads": 4,
}  # fmt: skip
DEEPSEEK = {"moe_intermediate_size": 16, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 2, "topk_group": 1}

# name → (model type, what its config changes, parameters of its experts)
EXPERTS: dict[str, tuple[str, dict[str, object], list[str]]] = {
    "qwen3-moe": ("qwen3_moe", SMALL_EXPERTS, FUSED),
    "qwen2-moe": ("qwen2_moe", SMALL_EXPERTS | {"shared_expert_intermediate_size": 16}, FUSED),
    "olmoe": ("olmoe", {"num_experts": 4, "num_experts_per_tok": 2}, FUSED),
    "mixtral": ("mixtral", {"num_local_experts": 4, "num_experts_per_tok": 2}, FUSED),
    "gpt-oss": ("gpt_oss", {"num_local_experts": 4, "num_experts_per_tok": 2}, FUSED),
    "deepseek-v3": ("deepseek_v3", DEEPSEEK | MLA | {"first_k_dense_replace": 1}, FUSED),
    "glm4-moe": ("glm4_moe", DEEPSEEK | {"first_k_dense_replace": 0, "partial_rotary_factor": 0.5}, FUSED),
    "llama4": (
        "llama4_text",
        {"num_local_experts": 4, "num_experts_per_tok": 2, "intermediate_size_mlp": 48, "interleave_moe_layer_step": 1,
         "layer_types": ["full_attention", "full_attention"]},
        ["feed_forward.experts.gate_up_proj", "feed_forward.experts.down_proj"],
    ),
    "granitemoe": (
        "granitemoe",
        {"num_local_experts": 4, "num_experts_per_tok": 2},
        ["block_sparse_moe.experts.gate_up_proj", "block_sparse_moe.experts.down_proj"],
    ),
}  # fmt: skip


def experts_model(
    name: str, *, dtype: torch.dtype = torch.float32, seed: int = 0, config: dict[str, object] | None = None,
    **lora: object,
) -> nn.Module:  # fmt: skip
    """The model with LoRA on its experts and on two layers of its attention; B is not zero, as after training."""
    model_type, changed, parameters = EXPERTS[name]
    torch.manual_seed(seed)
    base = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **LLAMA_LIKE | changed | (config or {})))
    for parameter_name, parameter in base.named_parameters():
        if parameter.ndim >= 2 and "norm" not in parameter_name:
            parameter.data.normal_(std=0.5 * parameter.shape[-1] ** -0.5)
        elif "bias" in parameter_name:
            parameter.data.normal_(std=0.1)
    settings = {"r": 4, "lora_alpha": 8, "target_modules": ["o_proj"], "target_parameters": parameters} | lora
    model = get_peft_model(
        base.to(dtype),
        LoraConfig(task_type="CAUSAL_LM", **settings),
        autocast_adapter_dtype=False,  # type: ignore[arg-type]
    )
    return trained_a_little(model, seed)


def trained_a_little(model: nn.Module, seed: int = 0) -> nn.Module:
    generator = torch.Generator().manual_seed(seed + 1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("name", EXPERTS)
def test_equals_autograd(name: str, side: Literal["right", "left"]) -> None:
    model = experts_model(name)
    sequences = random_sequences(9, VOCAB)
    want = autograd_rows(model, sequences)
    assert sum(weight.shape[1] == 4 * 4 for weight in want.values()) >= 2, "A of experts is there"
    engine = GradientEngine(model)
    assert engine.experts.fused
    assert engine.experts.alone is None
    for batch_tokens in (1, 64, 1000):
        got = engine_rows(model, sequences, batch_tokens=batch_tokens, side=side, shuffle=batch_tokens)
        assert relative_error(got, flat(want)) <= 1e-5


@pytest.mark.parametrize("implementation", ["eager", "batched_mm", "grouped_mm"])
def test_every_implementation_of_experts(implementation: str) -> None:
    model = experts_model("gpt-oss")
    model.get_base_model().set_experts_implementation(implementation)  # type: ignore[operator]
    sequences = random_sequences(5, VOCAB, seed=1)
    assert relative_error(engine_rows(model, sequences), flat(autograd_rows(model, sequences))) <= 1e-5


@pytest.mark.parametrize(
    "lora",
    [
        {"r": 1},
        {"r": 3},
        {"use_rslora": True},
        {"target_parameters": FUSED[:1]},
        {"target_parameters": FUSED[1:], "target_modules": []},
        {"target_parameters": FUSED[::-1]},
    ],
    ids=str,
)
def test_adapters(lora: dict[str, object]) -> None:
    model = experts_model("qwen3-moe", **lora)
    assert GradientEngine(model).experts.fused
    sequences = random_sequences(5, VOCAB, seed=2)
    assert relative_error(engine_rows(model, sequences), flat(autograd_rows(model, sequences))) <= 1e-5


@pytest.mark.parametrize("name", ["mixtral", "llama4", "gpt-oss"])
def test_square_weights(name: str) -> None:
    """Where inputs and outputs are as many, no shape tells one factor of an update from the other."""
    model = experts_model(name, config={"intermediate_size": 32})
    sequences = random_sequences(5, VOCAB, seed=3)
    assert GradientEngine(model).experts.fused
    assert relative_error(engine_rows(model, sequences), flat(autograd_rows(model, sequences))) <= 1e-5


def test_in_part_trainable_and_gradients_that_the_caller_holds() -> None:
    model = experts_model("qwen3-moe")
    for name, parameter in model.named_parameters():
        if "layers.0" in name and "lora_A" in name:
            parameter.requires_grad = False
    sequences = random_sequences(5, VOCAB, seed=4)
    want = flat(autograd_rows(model, sequences))
    held = {name: torch.ones_like(p) for name, p in model.named_parameters() if p.requires_grad}
    for name, parameter in model.named_parameters():
        parameter.grad = held.get(name)
    assert relative_error(engine_rows(model, sequences), want) <= 1e-5
    assert all(parameter.grad is held.get(name) for name, parameter in model.named_parameters())
    assert all(bool((grad == 1).all()) for grad in held.values())


@pytest.mark.parametrize("n_adapted", [1, 2])
@pytest.mark.parametrize("name", ["qwen3-moe", "gpt-oss", "llama4"])
def test_float64(name: str, n_adapted: int) -> None:
    """PyTorch's product of runs takes no float64; routers and rotations are float32 in the model's own code."""
    model = experts_model(
        name,
        dtype=torch.float64,
        config={"experts_implementation": "eager"},
        target_parameters=EXPERTS[name][2][:n_adapted],
    )
    sequences = random_sequences(4, VOCAB, seed=5)
    assert GradientEngine(model).experts.fused
    assert relative_error(engine_rows(model, sequences), flat(autograd_rows(model, sequences))) <= 1e-6


@pytest.mark.parametrize("name", ["qwen3-moe", "gpt-oss", "llama4"])
def test_the_check_of_rows_in_bfloat16(name: str) -> None:
    for rank in (4, 8):
        check_rows(GradientEngine(experts_model(name, dtype=torch.bfloat16, r=rank)))


@pytest.mark.parametrize("name", ["qwen3-moe", "gpt-oss", "llama4"])
def test_bfloat16(name: str) -> None:
    """peft rounds the weight with its update, this forward pass what comes of both: the rows of float32 judge."""
    sequences = random_sequences(6, VOCAB, seed=6)
    exact = experts_model(name, dtype=torch.bfloat16).float()
    want = flat(autograd_rows(exact, sequences))
    model = experts_model(name, dtype=torch.bfloat16)
    assert GradientEngine(model).experts.fused
    got, pefts = engine_rows(model, sequences), flat(autograd_rows(model, sequences)).float()
    ours, theirs = (torch.cosine_similarity(rows, want, dim=1).min() for rows in (got, pefts))
    print(name, ours, theirs)
    assert ours >= min(0.99, theirs - 0.02)


def test_an_expert_that_no_token_met_has_no_gradient() -> None:
    model = experts_model("qwen3-moe", config={"num_experts": 8})
    sequences = random_sequences(3, VOCAB, seed=7, longest=4)
    want = autograd_rows(model, sequences)
    got = engine_rows(model, sequences, batch_tokens=1000)
    assert relative_error(got, flat(want)) <= 1e-5
    unmet = flat(want) == 0
    assert unmet.any(dim=1).all()
    assert not got[unmet].any()


@pytest.mark.parametrize("name", ["deepseek-v3", "gpt-oss", "llama4"])
def test_recomputed_activations_give_the_same_rows(name: str) -> None:
    model = experts_model(name)
    batch = collate(random_sequences(5, VOCAB, seed=8), pad_id=0)
    rows = []
    for recompute in (False, True):
        engine = GradientEngine(model, recompute=recompute)
        rows.append(engine.features(batch, mean_weights(batch), NoProjection(engine.n_coordinates)))
    assert torch.equal(*rows)


class _Unlike(nn.Module):
    """Experts whose gate is none that anyone knows."""

    def __init__(self, like: Any) -> None:
        super().__init__()
        self.gate_up_proj, self.down_proj, self.num_experts = like.gate_up_proj, like.down_proj, like.num_experts

    def forward(self, hidden_NH: Tensor, index_NK: Tensor, weight_NK: Tensor) -> Tensor:
        gate_NKI, up_NKI = torch.einsum("nh,nkoh->nko", hidden_NH, self.gate_up_proj[index_NK]).chunk(2, dim=-1)
        out_NKH = torch.einsum("nki,nkhi->nkh", torch.sin(gate_NKI) * up_NKI, self.down_proj[index_NK])
        return (out_NKH * weight_NK[..., None]).sum(1)


class _Listed(nn.Module):
    """Experts as modules of their own, as they were before they were fused."""

    def __init__(self, like: Any) -> None:
        super().__init__()
        self.experts = nn.ModuleList(
            nn.ModuleDict({"up": nn.Linear(32, 16, bias=False), "down": nn.Linear(16, 32, bias=False)})
            for _ in range(like.num_experts)
        )

    def forward(self, hidden_NH: Tensor, index_NK: Tensor, weight_NK: Tensor) -> Tensor:
        out_NH = torch.zeros_like(hidden_NH)
        for e, expert in enumerate(self.experts):
            token, place = torch.where(index_NK == e)
            if len(token):
                inner = nn.functional.silu(expert["up"](hidden_NH[token]))  # type: ignore[index]
                out_NH = out_NH.index_add(0, token, expert["down"](inner) * weight_NK[token, place, None])  # type: ignore[index]
        return out_NH


def model_with(experts: type[nn.Module], **lora: object) -> nn.Module:
    """Qwen3-MoE with other experts."""
    torch.manual_seed(0)
    config = AutoConfig.for_model("qwen3_moe", **LLAMA_LIKE | SMALL_EXPERTS | {"num_experts": 8})
    base = AutoModelForCausalLM.from_config(config)
    for block in base.model.layers:
        block.mlp.experts = experts(block.mlp.experts)
    for parameter in base.parameters():
        if parameter.ndim >= 2:
            parameter.data.normal_(std=0.5 * parameter.shape[-1] ** -0.5)
    settings = {"r": 4, "lora_alpha": 8, "target_modules": ["o_proj"]} | lora
    return trained_a_little(get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", **settings)))  # type: ignore[arg-type]


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize(
    ("experts", "lora"),
    [
        (_Unlike, {"target_parameters": FUSED}),
        (_Listed, {"target_modules": ["o_proj", "up", "down"]}),
        (_Listed, {"target_modules": ["o_proj"], "target_parameters": ["mlp.gate.weight"]}),
    ],
    ids=["another gate", "modules of their own", "a router that is a bare weight"],
)
def test_examples_alone_where_the_experts_are_not_known(
    experts: type[nn.Module], lora: dict[str, object], side: Literal["right", "left"]
) -> None:
    model = model_with(experts, **lora)
    sequences = random_sequences(6, VOCAB, seed=9, longest=8)
    want = autograd_rows(model, sequences, unmet_is_zero=True)
    engine = GradientEngine(model)
    assert not engine.experts.fused
    assert engine.experts.alone in want
    assert relative_error(engine_rows(model, sequences, batch_tokens=1000, side=side), flat(want)) <= 1e-5
    assert all(parameter.grad is None for parameter in model.parameters())
    check_rows(engine)


def test_an_adapter_on_experts_that_never_run_is_refused() -> None:
    model = experts_model("qwen3-moe")
    block = model.get_base_model().model.layers[1].mlp  # type: ignore[operator]
    block.forward = lambda hidden_BTH: hidden_BTH
    with pytest.raises(ModelError, match=r"no gradient reached .*layers\.1\.mlp\.experts.*leave it out of the adapter"):
        engine_rows(model, random_sequences(3, VOCAB))


def test_tokens_that_are_not_the_batchs_are_refused() -> None:
    model = experts_model("qwen3-moe")
    block = model.get_base_model().model.layers[1].mlp  # type: ignore[operator]
    own = block.experts.forward
    block.experts.forward = own
    run = block.forward
    block.forward = lambda hidden_BTH: torch.cat([run(hidden_BTH[:, :1]), hidden_BTH[:, 1:]], dim=1)
    with pytest.raises(ModelError, match=r"mlp\.experts gets its tokens as \(3, 32\), not as \d+ rows"):
        engine_rows(model, random_sequences(3, VOCAB), batch_tokens=1000)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("width", [3, 8])
def test_products_of_runs(dtype: torch.dtype, width: int) -> None:
    """By PyTorch's own product and by a loop, with runs of no rows among them."""
    generator = torch.Generator().manual_seed(0)
    n_rows_G = torch.tensor([0, 3, 0, 5, 1, 0])
    ends_G = n_rows_G.cumsum(0).int()
    u_SU, v_SV = (torch.randn(9, n, generator=generator).to(dtype) for n in (width, 16))
    weight_GUV = torch.randn(6, width, 16, generator=generator).to(dtype)
    runs = [slice(int(end - n), int(end)) for n, end in zip(n_rows_G, ends_G, strict=True)]
    want_GUV = torch.stack([u_SU[rows].double().T @ v_SV[rows].double() for rows in runs])
    want_SV = torch.cat([u_SU[rows].double() @ weight.double() for rows, weight in zip(runs, weight_GUV, strict=True)])
    bound = 0.02 if dtype == torch.bfloat16 else 1e-6
    got_GUV, got_SV = products_by_run(u_SU, v_SV, ends_G), by_run(u_SU, weight_GUV, ends_G)
    torch.testing.assert_close(got_GUV.double(), want_GUV, rtol=bound, atol=bound)
    torch.testing.assert_close(got_SV.double(), want_SV, rtol=bound, atol=bound)
    assert not got_GUV[[0, 2, 5]].any()


@pytest.mark.parametrize("kind", ["sparse", "rademacher"])
@pytest.mark.parametrize("name", ["qwen3-moe", "gpt-oss", "llama4"])
def test_with_adam_and_projected(name: str, kind: ProjectionKind) -> None:
    model = experts_model(name)
    sequences = random_sequences(5, VOCAB, seed=10)
    want = autograd_rows(model, sequences)
    generator = torch.Generator().manual_seed(0)
    moments = AdamMoments(
        {layer: torch.randn(rows.shape[1:], generator=generator) * 1e-2 for layer, rows in want.items()},
        {layer: torch.rand(rows.shape[1:], generator=generator) * 1e-4 for layer, rows in want.items()},
        step=7,
    )
    engine = GradientEngine(model)
    for mode in get_args(EpsMode):
        precondition = AdamPreconditioner(moments, mode)
        updates_ND = torch.cat([precondition(layer, want[layer].flatten(1)) for layer in sorted(want)], dim=1)
        project = projection(kind, engine.n_coordinates, 64, 3)
        sums = project.begin(len(sequences), updates_ND)
        project.add(sums, updates_ND, 0)
        batch = collate(sequences, pad_id=0)
        got = engine.features(batch, mean_weights(batch), project, precondition)
        assert relative_error(got, project.finish(sums)) <= 1e-5


@pytest.mark.parametrize("name", ["qwen3-moe", "gpt-oss", "llama4"])
def test_a_checkpoint_is_read_back(name: str, tmp_path: Path) -> None:
    """Weights and moments, by the names in its files: two adapters stand on one module."""
    model = experts_model(name)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    ids = torch.tensor([random_sequences(1, VOCAB, seed=11)[0].input_ids])
    for _ in range(3):
        optimizer.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
    optimizer.zero_grad()
    model.save_pretrained(tmp_path)  # type: ignore[operator]
    save_moments(tmp_path, model, optimizer)

    again = load_trainable(experts_model(name).unload(), [tmp_path])  # type: ignore[operator]
    moments = load_moments(tmp_path, again)
    of_optimizer = {canonical_name(n): optimizer.state[p] for n, p in model.named_parameters() if p.requires_grad}
    assert {layer.name for layer in trainable_layers(again)} == of_optimizer.keys() == moments.first.keys()
    for layer, state in of_optimizer.items():
        assert torch.equal(moments.first[layer], state["exp_avg"])
        assert torch.equal(moments.second[layer], state["exp_avg_sq"])
    sequences = random_sequences(4, VOCAB, seed=12)
    want = flat(autograd_rows(model, sequences))
    assert relative_error(engine_rows(again, sequences), want) <= 1e-5
    trained_a_little(again, seed=5)
    assert relative_error(engine_rows(again, sequences), want) > 0.01
    load_adapter(again, tmp_path)
    assert relative_error(engine_rows(again, sequences), want) <= 1e-5


def test_an_adapter_that_was_never_trained() -> None:
    """B is zero, and so is A's gradient: A is frozen, as ``load_trainable`` does, or has zeros."""
    model = experts_model("qwen3-moe")
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.zero_()
    sequences = random_sequences(4, VOCAB, seed=13)
    assert relative_error(engine_rows(model, sequences), flat(autograd_rows(model, sequences))) <= 1e-5
    for name, parameter in model.named_parameters():
        parameter.requires_grad = "lora_B" in name
    assert relative_error(engine_rows(model, sequences), flat(autograd_rows(model, sequences))) <= 1e-5


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ["qwen3-moe", "gpt-oss", "llama4"])
def test_on_a_gpu(name: str, dtype: torch.dtype) -> None:
    sequences = random_sequences(6, VOCAB, seed=14)
    want = engine_rows(experts_model(name, dtype=dtype), sequences)
    model = experts_model(name, dtype=dtype).cuda()
    assert GradientEngine(model).experts.fused
    got = engine_rows(model, sequences, batch_tokens=1000).cpu()
    assert torch.cosine_similarity(got, want, dim=1).min() > (0.9999 if dtype == torch.float32 else 0.97)
