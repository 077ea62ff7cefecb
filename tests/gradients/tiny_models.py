"""Tiny models of many architectures, with random weights and an adapter that has been trained a little."""

from collections.abc import Callable

import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

VOCAB = 97
COMMON = {"vocab_size": VOCAB, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
LLAMA_LIKE = COMMON | {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 128, "head_dim": 8,
}  # fmt: skip

# name → (model type, config, attention layers, all linear layers)
ARCHITECTURES: dict[str, tuple[str, dict[str, object], list[str]]] = {
    "llama": ("llama", LLAMA_LIKE, ["q_proj", "k_proj", "v_proj", "o_proj"]),
    "llama-tied": ("llama", LLAMA_LIKE | {"tie_word_embeddings": True}, ["q_proj", "k_proj", "v_proj", "o_proj"]),
    "mistral": ("mistral", LLAMA_LIKE | {"sliding_window": 6}, ["q_proj", "k_proj", "v_proj", "o_proj"]),
    "qwen2": ("qwen2", LLAMA_LIKE, ["q_proj", "k_proj", "v_proj", "o_proj"]),
    "qwen3": ("qwen3", LLAMA_LIKE, ["q_proj", "k_proj", "v_proj", "o_proj"]),
    "gemma": ("gemma", LLAMA_LIKE, ["q_proj", "k_proj", "v_proj", "o_proj"]),
    "gemma2": (
        "gemma2",
        LLAMA_LIKE | {"final_logit_softcapping": 5.0, "attn_logit_softcapping": 5.0, "query_pre_attn_scalar": 8},
        ["q_proj", "k_proj", "v_proj", "o_proj"],
    ),
    "gpt2": (
        "gpt2",
        COMMON | {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128},
        ["c_attn", "c_proj"],
    ),
    "gpt-neox": (
        "gpt_neox",
        COMMON
        | {
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "max_position_embeddings": 128,
        },
        ["query_key_value", "dense"],
    ),
    "phi": (
        "phi",
        COMMON
        | {
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "max_position_embeddings": 128,
        },
        ["q_proj", "k_proj", "v_proj", "dense"],
    ),
    "cohere": (
        "cohere",
        LLAMA_LIKE | {"logit_scale": 0.3, "use_qk_norm": True, "tie_word_embeddings": True},
        ["q_proj", "k_proj", "v_proj", "o_proj"],
    ),
    "granite": (
        "granite",
        LLAMA_LIKE
        | {
            "logits_scaling": 3.0,
            "embedding_multiplier": 2.0,
            "residual_multiplier": 0.5,
            "attention_multiplier": 0.4,
            "tie_word_embeddings": True,
        },
        ["q_proj", "k_proj", "v_proj", "o_proj"],
    ),
    "mixtral": (
        "mixtral",
        LLAMA_LIKE | {"num_local_experts": 4, "num_experts_per_tok": 2},
        ["q_proj", "k_proj", "v_proj", "o_proj"],
    ),
}


def base_model(
    name: str, *, dtype: torch.dtype = torch.float32, seed: int = 0, changed: dict[str, object] | None = None
) -> nn.Module:
    model_type, config, _ = ARCHITECTURES[name]
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **config | (changed or {}))).to(dtype)
    # Random models start too close to uniform to have telling gradients. A norm's gain is left alone: Cohere's, over
    # queries and keys, have an axis for the heads, and 4 · 4 times the scores make a softmax that float32 cannot hold
    # to 1e-5 (no more can plain autograd: both were off by up to 1.5e-4 from float64, and by 2e-6 since).
    for parameter_name, parameter in model.named_parameters():
        if parameter.ndim >= 2 and "norm" not in parameter_name:
            parameter.data.mul_(4)
    return model


def lora_model(
    name: str, *, everywhere: bool = False, dtype: torch.dtype = torch.float32, seed: int = 0,
    config: dict[str, object] | None = None, **lora: object,
) -> nn.Module:  # fmt: skip
    """The model with LoRA on its attention, or on all linear layers; B is not zero, as after training."""
    targets: object = "all-linear" if everywhere else ARCHITECTURES[name][2]
    settings = {"r": 4, "lora_alpha": 8, "lora_dropout": 0.0, "target_modules": targets} | lora
    model = get_peft_model(
        base_model(name, dtype=dtype, seed=seed, changed=config),
        LoraConfig(task_type="CAUSAL_LM", **settings),  # type: ignore[arg-type]
        autocast_adapter_dtype=False,
    )
    generator = torch.Generator().manual_seed(seed + 1)
    for parameter_name, parameter in model.named_parameters():
        if "lora_B" in parameter_name:
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model


ModelFactory = Callable[..., nn.Module]
