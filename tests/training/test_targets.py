"""Which layers carry the adapter: where all linear layers work, as before; elsewhere, those that work, by name."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from pydantic import ValidationError
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from handpick.errors import ModelError
from handpick.progress import forward_lines
from handpick.training import warmup
from handpick.training.checkpoint import trainable_parameters
from handpick.training.layer_use import LayerUse, look_at_layers
from handpick.training.settings import LoraSettings, WarmupSettings
from handpick.training.targets import AdapterTargets, by_name, choose_targets
from handpick.training.warmup import load_trainable, new_adapter, train
from tests.gradients.oracle import autograd_rows, flat, random_sequences, relative_error
from tests.gradients.test_per_example import engine_rows
from tests.gradients.tiny_models import COMMON, LLAMA_LIKE, VOCAB, base_model

ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
MOE = LLAMA_LIKE | {
    "moe_intermediate_size": 16, "num_experts": 4, "num_experts_per_tok": 2, "decoder_sparse_step": 1,
    "mlp_only_layers": [], "attn_implementation": "eager",
}  # fmt: skip
MLA = {
    "q_lora_rank": 16, "kv_lora_rank": 12, "qk_rope_head_dim": 4, "qk_nope_head_dim": 8, "v_head_dim": 8, "head_dim": 4,
    "num_key_value_heads": 4,
}  # fmt: skip
MAMBA = {
    "vocab_size": VOCAB, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8, "num_heads": 4, "head_dim": 16,
    "expand": 2, "n_groups": 1, "chunk_size": 8,
}  # fmt: skip
VISION = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 16,
    "patch_size": 8,
}  # fmt: skip

# name → model type, configuration
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "gemma3_text": ("gemma3_text", LLAMA_LIKE | {"layer_types": ["sliding_attention", "full_attention"]}),
    "phi3": ("phi3", LLAMA_LIKE),
    "falcon": ("falcon", COMMON | {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}),
    "qwen3_moe": ("qwen3_moe", MOE),
    "qwen2_moe": ("qwen2_moe", MOE | {"shared_expert_intermediate_size": 24}),
    "qwen3_5_moe_text": (
        "qwen3_5_moe_text",
        MOE | {"shared_expert_intermediate_size": 24, "layer_types": ["linear_attention", "full_attention"],
               "linear_num_key_heads": 2, "linear_num_value_heads": 2, "linear_key_head_dim": 8,
               "linear_value_head_dim": 8},
    ),
    "gpt_oss": ("gpt_oss", LLAMA_LIKE | {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "deepseek_v3": (
        "deepseek_v3",
        LLAMA_LIKE | MLA | {"moe_intermediate_size": 16, "n_routed_experts": 4, "n_group": 2, "topk_group": 1,
                            "num_experts_per_tok": 2, "n_shared_experts": 1, "first_k_dense_replace": 1},
    ),
    "minicpm3": ("minicpm3", LLAMA_LIKE | MLA),
    "llama4_text": (
        "llama4_text",
        LLAMA_LIKE | {"num_local_experts": 4, "num_experts_per_tok": 1, "intermediate_size_mlp": 48,
                      "interleave_moe_layer_step": 2, "attention_chunk_size": 16},
    ),
    "gemma3": (
        "gemma3",
        {"text_config": LLAMA_LIKE | {"layer_types": ["sliding_attention", "full_attention"]},
         "vision_config": VISION, "mm_tokens_per_image": 4, "image_token_index": 96, "boi_token_index": 95,
         "eoi_token_index": 94},
    ),
    "gemma3n_text": (
        "gemma3n_text",
        LLAMA_LIKE | {"layer_types": ["sliding_attention", "full_attention"], "laurel_rank": 8,
                      "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": VOCAB, "num_kv_shared_layers": 0,
                      "altup_num_inputs": 2, "activation_sparsity_pattern": [0.0, 0.0], "intermediate_size": [48, 48]},
    ),
    "jamba": (
        "jamba",
        LLAMA_LIKE | {"num_experts": 4, "num_experts_per_tok": 2, "expert_layer_period": 2, "expert_layer_offset": 1,
                      "attn_layer_period": 2, "attn_layer_offset": 1, "mamba_d_state": 8, "mamba_dt_rank": 4,
                      "use_mamba_kernels": False},
    ),
    "mamba2": ("mamba2", MAMBA | {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}),
    "falcon_h1": (
        "falcon_h1",
        LLAMA_LIKE | {"mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_d_state": 8,
                      "mamba_chunk_size": 8, "mamba_n_groups": 1},
    ),
    "opt": ("opt", COMMON | {"hidden_size": 32, "ffn_dim": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
                             "word_embed_proj_dim": 32, "max_position_embeddings": 128}),
    "roberta": (
        "roberta",
        COMMON | {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
                  "max_position_embeddings": 128, "is_decoder": True},
    ),
    "jetmoe": (
        "jetmoe",
        LLAMA_LIKE | {"kv_channels": 8, "num_local_experts": 4, "num_experts_per_tok": 2, "num_attention_heads": 4},
    ),
    "xlnet": ("xlnet", COMMON | {"d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 48}),
}  # fmt: skip


def tiny(name: str, seed: int = 0) -> nn.Module:
    """A frozen model with random weights, of the table here or of the engine's."""
    if name not in MODELS:
        return base_model(name, seed=seed).requires_grad_(False)
    kind, config = MODELS[name]
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **config)).requires_grad_(False).eval()


def adapted(model: nn.Module) -> list[str]:
    """The layers that an adapter stands on, by their paths in the base."""
    found = {weight.split(".lora_")[0].removeprefix("base_model.model.") for weight in trainable_parameters(model)}
    return sorted(found)


def lines_of(work: Callable[[], Any]) -> list[str]:
    lines: list[str] = []
    with forward_lines(lines.append):
        work()
    return lines


ALL_WORK = [
    "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gpt2", "gpt-neox", "phi", "cohere", "granite", "gemma3_text",
    "phi3", "falcon",
]  # fmt: skip


@pytest.mark.parametrize("name", ALL_WORK)
def test_where_all_linear_layers_work_the_adapter_is_byte_for_byte_what_peft_makes_of_them(
    name: str, tmp_path: Path
) -> None:
    def as_peft_has_it() -> nn.Module:
        base = tiny(name)
        torch.manual_seed(3)
        config = LoraConfig(task_type="CAUSAL_LM", r=2, lora_alpha=4, lora_dropout=0.1, target_modules="all-linear")
        return get_peft_model(base, config)

    lora = LoraSettings(rank=2, alpha=4, dropout=0.1)
    made: dict[str, nn.Module] = {"peft": as_peft_has_it()}
    said = lines_of(lambda: made.update(ours=new_adapter(tiny(name), lora, 3, in_float32=True)))
    assert said == []
    for who, model in made.items():
        model.save_pretrained(tmp_path / who)  # type: ignore[operator]
    ours, pefts = ((tmp_path / who / "adapter_model.safetensors").read_bytes() for who in ("ours", "peft"))
    assert ours == pefts
    ours, pefts = (json.loads((tmp_path / who / "adapter_config.json").read_bytes()) for who in ("ours", "peft"))
    for config in (ours, pefts):  # a set, which peft writes down as it comes
        config["target_modules"] = sorted(config["target_modules"])
    assert ours == pefts


def test_llama_has_its_four_and_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handpick.training.targets.look_at_layers", None)
    assert choose_targets(tiny("llama"), "auto") == AdapterTargets(ATTENTION)


# name → the ends of the adapted layers' paths, and what the line says
SOME_WORK: dict[str, tuple[set[str], list[str]]] = {
    "qwen3_moe": (set(ATTENTION), ["the experts", "--lora-targets experts"]),
    "mixtral": (set(ATTENTION), ["the experts"]),
    "gpt_oss": (set(ATTENTION), ["the experts"]),
    "qwen2_moe": (
        {*ATTENTION, "shared_expert_gate", "gate_proj", "up_proj", "down_proj"}, ["left out: the experts"]
    ),
    "qwen3_5_moe_text": (
        {*ATTENTION, "in_proj_qkv", "in_proj_z", "in_proj_b", "in_proj_a", "out_proj", "shared_expert_gate",
         "gate_proj", "up_proj", "down_proj"},
        ["the experts"],
    ),
    "deepseek_v3": (
        {"q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj"},
        ["gate_proj, up_proj, down_proj (6 layers: peft takes such names for experts' in a model of this type)"],
    ),
    "minicpm3": (
        {"q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}, []
    ),
    "llama4_text": (
        {*ATTENTION, "gate_proj", "up_proj", "down_proj"},
        ["the experts", "router (1 layer: a Llama4Router is no plain linear layer)"],
    ),
    "gemma3": ({*ATTENTION, "gate_proj", "up_proj", "down_proj"}, ["vision_tower", "not used by a text"]),
    "gemma3n_text": (
        {*ATTENTION, "gate_proj", "up_proj", "down_proj", "modality_router", "prediction_coefs", "linear_left",
         "linear_right", "per_layer_input_gate", "per_layer_projection", "per_layer_model_projection",
         "altup_projections.0", "altup_unembed_projections.0"},
        ["correction_coefs (2 layers: not used by a text)"],
    ),
    "jamba": (
        {*ATTENTION, "in_proj", "x_proj", "out_proj", "gate_proj", "up_proj", "down_proj"},
        ["dt_proj (1 layer: not used by a text)", "the experts"],
    ),
    "mamba2": ({"in_proj"}, ["out_proj (2 layers: peft refuses such names in a model of this type)"]),
    "falcon_h1": ({*ATTENTION, "in_proj", "gate_proj", "up_proj", "down_proj"}, ["out_proj (2 layers: peft refuses"]),
    "opt": ({"q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"}, []),
    "roberta": ({"query", "key", "value", "dense"}, ["lm_head (1 layer: part of the language-model head)"]),
}  # fmt: skip


@pytest.mark.parametrize("name", SOME_WORK)
def test_elsewhere_the_layers_that_work_carry_it_every_one_trains_and_every_row_is_exact(name: str) -> None:
    base = tiny(name)
    linear = [path for path, module in base.named_modules() if isinstance(module, nn.Linear)]
    made: list[nn.Module] = []
    lora = LoraSettings(rank=2, alpha=4, dropout=0.0)
    said = lines_of(lambda: made.append(new_adapter(base, lora, 0, in_float32=True)))
    ends, parts = SOME_WORK[name]
    assert all(any(path.endswith(f".{end}") for end in ends) for path in adapted(made[0]))
    assert all(any(path.endswith(f".{end}") for path in adapted(made[0])) for end in ends)
    assert set(adapted(made[0])) <= set(linear), "and nothing but linear layers"
    assert bool(said) == bool(parts)
    assert [part for part in parts if part not in said[0]] == []

    generator = torch.Generator().manual_seed(1)
    for weight_name, weight in made[0].named_parameters():
        if ".lora_B." in weight_name:
            weight.data.copy_(torch.randn(weight.shape, generator=generator) * 0.2)
    ids_BT = torch.randint(3, 90, (2, 13), generator=generator)
    mask_BT = torch.ones(2, 13, dtype=torch.int64)
    made[0].train()
    made[0](input_ids=ids_BT, attention_mask=mask_BT, labels=ids_BT, use_cache=False).loss.backward()
    assert [n for n, weight in made[0].named_parameters() if weight.requires_grad and weight.grad is None] == []

    sequences = random_sequences(4, 90, seed=2)
    want = flat(autograd_rows(made[0], sequences))
    assert relative_error(engine_rows(made[0], sequences, batch_tokens=10_000), want) <= 1e-4


def test_routers_are_left_out_where_they_are_layers() -> None:
    targets = choose_targets(tiny("jetmoe"), "auto")
    assert "router" not in "".join(targets.modules)
    assert "layer (4 layers: routers)" in str(targets.said)


def test_a_look_leaves_no_trace() -> None:
    model = tiny("gemma3")
    model.train()
    model.get_submodule("model.vision_tower").eval()
    modes = [module.training for module in model.modules()]
    weights = {name: weight.clone() for name, weight in model.state_dict().items()}
    random = torch.get_rng_state()
    look_at_layers(model, per_example=True)
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(weight, weights[name]) for name, weight in model.state_dict().items())
    assert not any(weight.requires_grad or weight.grad is not None for weight in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize(
    ("name", "targets", "modules"),
    [
        ("llama", ["q_proj", "v_proj"], ["q_proj", "v_proj"]),
        ("qwen3", ["self_attn.q_proj"], ["self_attn.q_proj"]),
        ("qwen3", ["model.layers.1.mlp.up_proj"], ["model.layers.1.mlp.up_proj"]),
        ("qwen3_moe", ATTENTION, ATTENTION),
        ("gemma3", ["language_model.layers.0.mlp.up_proj"], ["language_model.layers.0.mlp.up_proj"]),
        ("gemma3", ["q_proj"], [f"model.language_model.layers.{i}.self_attn.q_proj" for i in (0, 1)]),
        ("gemma3", ["layers.0.self_attn.q_proj"], ["model.language_model.layers.0.self_attn.q_proj"]),
    ],
)
def test_names_are_whole_components_at_the_end_of_a_path_in_the_text_part(
    name: str, targets: list[str], modules: list[str]
) -> None:
    base = tiny(name)
    text = [
        path
        for path, module in base.named_modules()
        if isinstance(module, nn.Linear) and "vision" not in path and any(f".{path}".endswith(f".{t}") for t in targets)
    ]
    chosen = choose_targets(base, targets)
    assert (chosen.modules, chosen.parameters, chosen.excluded) == (modules, [], [])
    assert str(chosen.said).startswith("LoRA on ")
    assert adapted(new_adapter(base, LoraSettings(rank=2, targets=targets), 0, in_float32=True)) == sorted(text) != []


def test_a_tower_whose_paths_end_as_those_of_the_text_part_is_kept_out() -> None:
    class Towered(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.text = nn.ModuleDict({"q": nn.Linear(2, 2)})
            self.tower = nn.ModuleDict({"text": nn.ModuleDict({"q": nn.Linear(2, 2)})})

    base = Towered()
    chosen = by_name(base, [LayerUse("text.q", base.text["q"])], ["q"], [], "")
    assert (chosen.modules, chosen.excluded) == (["text.q"], ["tower.text.q"])
    config = LoraConfig(r=2, target_modules=chosen.modules, exclude_modules=chosen.excluded)
    assert adapted(get_peft_model(base, config)) == ["text.q"]


REFUSED: dict[str, tuple[str, list[str], str]] = {
    "no such layer": ("llama", ["q_proj", "porj", "v_porj"], "it has no layer porj, v_porj"),
    "the end of a component": ("llama", ["proj"], "it has no layer proj"),
    "fused experts by a layer's name": ("gpt_oss", ["gate_up_proj"], "no layer gate_up_proj; its experts' weights are"),
    "a tower": ("gemma3", ["q_proj", "layers.0.mlp.fc1"], "layers.0.mlp.fc1: not used by a text"),
    "a layer whose weight is used without it": ("jamba", ["dt_proj"], "dt_proj: not used by a text"),
    "a layer that training passes by": ("gemma3n_text", ["correction_coefs"], "correction_coefs: not used by a text"),
    "a router of its own class": ("llama4_text", ["router"], "router: a Llama4Router is no plain linear layer"),
    "what peft refuses": ("mamba2", ["out_proj"], "out_proj: peft refuses such names in a model of this type"),
    "what peft takes for experts": ("deepseek_v3", ["shared_experts.up_proj"], "peft takes such names for experts'"),
    "the head": ("llama", ["lm_head"], "lm_head: part of the language-model head"),
    "an embedding": ("llama", ["embed_tokens"], "embed_tokens: no linear layer"),
    "no experts": ("llama", ["experts", "q_proj"], "LlamaForCausalLM has no experts"),
    "time before examples": ("xlnet", ["layer_1"], "XLNetLMHeadModel cannot learn from text alone"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_an_adapter_would_be_useless_on_is_refused_by_name(what: str) -> None:
    name, targets, said = REFUSED[what]
    with pytest.raises(ModelError) as refused:
        choose_targets(tiny(name), targets)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_of_a_name_that_fits_both_the_layers_that_work_are_taken_and_the_others_said() -> None:
    said = str(choose_targets(tiny("gemma3"), ["q_proj"]).said)
    assert said.startswith("LoRA on q_proj (2 layers, ")
    assert said.endswith("; left out: vision_tower (1 layer: not used by a text)")


def test_fine_tuning_takes_layers_that_have_no_gradient_of_a_single_example() -> None:
    targets = choose_targets(tiny("xlnet"), ["layer_1"], per_example=False)
    assert targets.modules == ["layer_1"]
    assert choose_targets(tiny("llama"), ["embed_tokens", "lm_head"], per_example=False).modules == [
        "embed_tokens", "lm_head",
    ]  # fmt: skip


def test_experts_are_bare_parameters_and_go_without_dropout() -> None:
    base = tiny("qwen3_moe")
    chosen = choose_targets(base, ["experts", "q_proj"])
    assert (chosen.modules, chosen.parameters) == (["q_proj"], ["experts.gate_up_proj", "experts.down_proj"])
    made: list[Any] = []
    lora = LoraSettings(rank=2, dropout=0.1, targets=["experts", "q_proj"])
    said = lines_of(lambda: made.append(new_adapter(base, lora, 0, in_float32=True)))
    assert [line.split(":")[0] for line in said[1:]] == ["the adapter has no dropout where 0.1 is set"]
    config = made[0].peft_config["default"]
    assert (config.lora_dropout, config.rank_pattern) == (0.0, {})
    assert {weight.split(".")[-3] for weight in trainable_parameters(made[0])} >= {"q_proj"}
    wrappers = [module for module in made[0].modules() if type(module).__name__ == "ParamWrapper"]
    assert sorted(wrapper.parameter_name for wrapper in wrappers) == ["down_proj", "down_proj", *["gate_up_proj"] * 2]


@pytest.mark.parametrize(
    ("name", "targets"),
    [
        ("gemma3", "auto"),
        ("roberta", "auto"),
        ("deepseek_v3", "auto"),
        ("mixtral", ["experts"]),
        ("gemma3", ["q_proj"]),
    ],
)
def test_an_adapter_comes_back_on_the_layers_that_it_was_made_on(name: str, targets: list[str], tmp_path: Path) -> None:
    made: Any = new_adapter(tiny(name), LoraSettings(rank=2, dropout=0.0, targets=targets), 0, in_float32=True)
    for weight_name, weight in made.named_parameters():
        if ".lora_B." in weight_name:
            weight.data.fill_(0.1)
    made.save_pretrained(tmp_path)
    back = load_trainable(tiny(name), [tmp_path])
    want, got = trainable_parameters(made), trainable_parameters(back)
    assert list(want) == list(got)
    assert all(torch.equal(weight, got[name]) for name, weight in want.items())


@pytest.mark.parametrize("word", ["experts", "all-linear"])
def test_what_is_asked_for_is_always_said(word: str) -> None:
    targets = choose_targets(tiny("mixtral"), [word] if word == "experts" else "all-linear")
    assert str(targets.said).startswith("LoRA on ")
    assert ("left out" in str(targets.said)) == (word == "all-linear")
    assert str(choose_targets(tiny("llama"), "all-linear").said).endswith("of the weights that a text passes)")


def test_names_come_with_commas_and_none_is_refused() -> None:
    assert LoraSettings.model_validate({"targets": " experts, q_proj "}).targets == ["experts", "q_proj"]
    assert LoraSettings.model_validate({"targets": "all-linear"}).targets == "all-linear"
    assert LoraSettings.model_validate({"targets": ["v_proj"]}).targets == ["v_proj"]
    for empty in ("", " , ", []):
        with pytest.raises(ValidationError, match="should be auto, all-linear or names of layers"):
            LoraSettings.model_validate({"targets": empty})


@pytest.mark.parametrize("targets", [["lm_head"], ["porj"], ["experts"]])
def test_what_will_be_refused_is_refused_before_the_warmup(
    targets: list[str], tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformers.Trainer.train", None)
    settings = WarmupSettings(lora=LoraSettings(rank=2, targets=targets))
    with pytest.raises(ModelError):
        train(str(tiny_model), random_sequences(4, 300), settings, out=tmp_path, seed=0, pad_id=1)


def test_the_engine_is_asked_before_the_warmup(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformers.Trainer.train", None)
    everything = AdapterTargets(["lm_head"])
    monkeypatch.setattr(warmup, "choose_targets", lambda *_args, **_named: everything)
    with pytest.raises(ModelError, match="or the adapter stands on it"):
        train(str(tiny_model), random_sequences(4, 300), WarmupSettings(), out=tmp_path, seed=0, pad_id=1)
