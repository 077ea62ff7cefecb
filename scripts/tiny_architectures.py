"""Tiny models, with random weights, of every causal architecture that the installed transformers has.

A configuration is the defaults of its class with every size that has a known name made small, and of its layers the
first of each kind. What a class needs beyond that stands in ``EXCEPTIONS``. ``TYPE@NAME`` is a variant of a type,
``vlm:TYPE`` a multimodal checkpoint and ``s2s:TYPE`` one of an encoder and a decoder, saved whole as is published.
"""

import gzip
import json
import re
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch

N_TOKENS = 512  # of the tokenizer
N_EMBEDDINGS = 544  # the rest stands for images, sounds and what else an architecture names
HIDDEN, HEADS, KEY_VALUE_HEADS, HEAD_DIM = 64, 4, 2, 16
N_POSITIONS = 1024
END, PAD, BEGIN = 0, 1, 4

Values = dict[str, Any]

# names of fields, and what they are at most; the first line that a name is in counts
SIZES: list[tuple[str, int]] = [
    (r"hidden_size|hidden_size_global|d_model|dim_model_base|n_embd|emb_dim|embed_dim|embedding_dim", HIDDEN),
    (r"embedding_size|word_embed_proj_dim|(in|out)put_embedding_size|out_hidden_size|lru_width", HIDDEN),
    (r"(projection|mm_embed|audio_embed|projector_input|projector_output|adapter_out)_dim", HIDDEN),
    (r"moe_intermediate_size|shared_experts?_intermediate_size|expert_ffn_hidden_size", 32),
    (r"(\w+_)?intermediate_size(_mlp)?|ffn_hidden_size|feed_forward_size|mlp_dim", 96),
    (r"ffn_dim|(de|en)coder_ffn_dim|d_inner|dim_ff|dff|d_ff", 96),
    (r"num_hidden_layers|n_layers?|num_layers|(num_)?(de|en)coder_layers|depth|num_blocks", 2),
    (r"(\w+_)?attention_heads|n_heads?|num_heads|linear_num_(key_|value_)?heads", HEADS),
    (r"(\w+_)?num_key_value_heads|num_kv_heads", KEY_VALUE_HEADS),
    (r"qk_rope_head_dim|rotary_dim", 8),
    (r"qk_head_dim", 24),
    (r"(\w+_)?head_dim|kv_channels|d_head|d_kv|attention_head_size|mamba_(d_head|headdim)", HEAD_DIM),
    (r"(q|o)_lora_rank", 32),
    (r"(kv_lora|adapter|laurel|time_step)_rank|router_hidden_size", 16),
    (r"(n|num|moe_num)_(routed_|local_)?experts|mamba_(n|num)_heads", 8),
    (r"(n|num|moe_num)_shared_experts|topk_group", 1),
    (r"num_experts_per_tok(en)?|moe_topk|moe_k|zero_expert_num|n_group|num_expert_group", 2),
    (r"index_n_heads", 8),  # with two, their scores tie at zero, and what is chosen hangs on the padding
    (r"(\w+_)?vocab_size|vocab_size_per_layer_input", N_EMBEDDINGS),
    (r"sliding_window(_size)?|(attention_)?window_size|attention_chunk_size|local_attention", 16),
    (r"max_position_embeddings|n_positions|max_seq_len|max_source_positions|model_max_length|index_topk", N_POSITIONS),
    (r"num_position_embeddings|position_embedding_size|mm_posemb_size", 64),
    (r"image_size|crop_size", 32),
    (r"patch_size", 8),
    (r"(mamba_)?d_state|(ssm_)?state_size|(mamba_)?chunk_size|block_multiple_of|num_mel_bins", 16),
    (r"hidden_size_per_layer_input", 16),
    (r"n_mamba_heads|n_groups", 2),
]  # fmt: skip
TOKENS = {"eos_token_id": END, "pad_token_id": PAD, "bos_token_id": BEGIN, "decoder_start_token_id": BEGIN}

# model type → what its class needs beyond that, or shows its kinds of layers by; a key of a part of it is PART.KEY
FULL, LINEAR, SLIDING = "full_attention", "linear_attention", "sliding_attention"
SECTIONS = "rope_parameters.mrope_section"  # of a rotary embedding for images: half a head in all
ROPE = {"rope_type": "default", "rope_theta": 1e4}
# Parameters that stay as they are made: what says how fast a state decays, by an exponential, loses float32 its digits.
_AS_MADE = ("norm", "A_log", "x_proj", "dt_proj")
MIXED = {"num_hidden_layers": 2, "layer_types": [LINEAR, FULL]}
EXCEPTIONS: dict[str, Values] = {
    "bamba": {"attn_layer_indices": [1]},
    "blt": {"encoder_hash_byte_group_vocab": 64, "encoder_hash_byte_group_size": [3, 4]},
    "cohere_compass_text": {"rope_parameters": {FULL: ROPE | {"mrope_section": [2, 3, 3]}}},
    "dbrx": {"attn_config.rope_theta": 1e4, "attn_config.kv_n_heads": KEY_VALUE_HEADS, "attn_config.clip_qkv": 8},
    "deepseek_v2": {"num_experts_per_tok": 2, "first_k_dense_replace": 1},
    "deepseek_v3": {"first_k_dense_replace": 1},
    "dots1": {"n_routed_experts": 8, "n_shared_experts": 1, "num_experts_per_tok": 2, "first_k_dense_replace": 1},
    "dots3_note_audio_encoder": {"adapter_input_size": HIDDEN},
    "dots3_note_vision_encoder": {"adapter_in_dim": HIDDEN},
    "dots3_note_text": {"head_dim": 24},
    "falcon_h1": {"mamba_d_ssm": 128, "mamba_d_head": HEAD_DIM},
    "gemma3n_vision": {"architecture": "mobilenetv3_small_050"},  # by timm's name
    "gemma3n_text": {
        "num_hidden_layers": 4, "layer_types": [SLIDING, FULL] * 2, "num_kv_shared_layers": 2,
        "intermediate_size": [96] * 4, "activation_sparsity_pattern": [0.95, 0.0, 0.0, 0.0],
    },
    "glm4v_moe_text": {SECTIONS: [2, 1, 1]},
    "glm4v_text": {SECTIONS: [2, 3, 3]},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "granitemoehybrid": MIXED,
    "hrm_text": {"num_layers_per_stack": 2, "num_hidden_layers": 16},
    "hunyuan_v1_dense": {"head_dim": HEAD_DIM},
    "hunyuan_v1_moe": {"head_dim": HEAD_DIM},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "lfm2": {"num_hidden_layers": 2, "layer_types": ["conv", FULL]},
    "lfm2_moe": {"num_hidden_layers": 2, "layer_types": ["conv", FULL], "num_dense_layers": 1},
    "llama4_text": {"no_rope_layers": [1, 0], "moe_layers": [1]},
    "mamba2": {"num_heads": 8},
    "ministral": {"head_dim": HEAD_DIM},
    "nemotron": {"num_key_value_heads": KEY_VALUE_HEADS},
    "phi4_multimodal_audio": {
        "nemo_conv_channels": 64, "ext_pw_out_channel": 64, "depthwise_separable_out_channel": 64, "input_size": 16,
    },
    "qwen2_5_vl_text": {SECTIONS: [2, 3, 3]},
    "qwen2_vl_text": {SECTIONS: [2, 3, 3]},
    "qwen4_exp_text": {
        "indexer_n_heads": 8, "indexer_kv_heads": 1, "indexer_head_dim": HEAD_DIM, "indexer_budget": 1024,
        "indexer_compress_ratio": 4, "hc_lowrank": 16,
    },
    "recurrent_gemma": {"num_hidden_layers": 3},
    "reformer": {"is_decoder": True, "axial_pos_embds": False},
    "rwkv": {"attention_hidden_size": HIDDEN},
    "xlstm": {"hidden_size": 256, "embedding_dim": 256},
    "zamba": {
        "num_hidden_layers": 4, "layers_block_type": [LINEAR, "hybrid"] * 2, "attention_hidden_size": 2 * HIDDEN,
        "attention_head_dim": 2 * HEAD_DIM,
    },
    "zamba2": {
        "num_hidden_layers": 4, "layers_block_type": [LINEAR, "hybrid"] * 2, "hybrid_layer_ids": [1, 3],
        "attention_hidden_size": 2 * HIDDEN, "attention_head_dim": 2 * HEAD_DIM, "n_mamba_heads": 8,
    },
}  # fmt: skip

_GEMMA_EXPERTS = {"num_experts": 8, "top_k_experts": 2, "moe_intermediate_size": 32}
_LIMIT = "max_position_embeddings"

# model type → parts that are there in what is published, but not by default
TOWERS = ("vision_config", "audio_config")
PARTS: dict[str, tuple[str, ...]] = {"gemma4": TOWERS, "gemma4_unified": TOWERS}

# other configurations that people have, of the types before the @
VARIANTS: dict[str, Values] = {
    "bert@decoder": {"is_decoder": True},
    "deepseek_v3@noq": {"q_lora_rank": None},
    "electra@decoder": {"is_decoder": True},
    "falcon@alibi": {"alibi": True},
    "falcon@new": {"new_decoder_architecture": True, "num_kv_heads": KEY_VALUE_HEADS},
    "falcon@seq": {"parallel_attn": False},
    "gemma4@moe": {"text_config.enable_moe_block": True, **{f"text_config.{k}": v for k, v in _GEMMA_EXPERTS.items()}},
    "gemma4_text@kvshared": {
        "num_hidden_layers": 4, "layer_types": [SLIDING, FULL] * 2, "num_kv_shared_layers": 2,
        "per_layer_config": {i: {"head_dim": 2 * HEAD_DIM} for i in (1, 3)},
    },
    "gemma4_text@moe": {"enable_moe_block": True, **_GEMMA_EXPERTS},
    "gpt_neox@seq": {"use_parallel_residual": False},
    "granitemoehybrid@dense": {"num_local_experts": 0, "num_experts_per_tok": 0},
    "llama@dynamic": {"rope_parameters": ROPE | {"rope_type": "dynamic", "factor": 4.0}, _LIMIT: 40},
    "llama@llama3": {
        "rope_parameters": {
            "rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
    },
    "llama@yarn": {
        "rope_parameters": {
            "rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 64,
        },
    },
    "mixtral@router": {"output_router_logits": True},
    "opt@350m": {"word_embed_proj_dim": 32, "do_layer_norm_before": False},
    "phi3@longrope": {
        "rope_parameters": {
            "rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": 40,
            "short_factor": [1.0] * (HEAD_DIM // 2), "long_factor": [4.0] * (HEAD_DIM // 2),
        },
        "original_max_position_embeddings": 40,
    },
    "qwen2@sliding": {"use_sliding_window": True, "sliding_window": 16, "layer_types": [FULL, SLIDING]},
    "qwen3_moe@dense1": {"mlp_only_layers": [0]},
    "roberta@decoder": {"is_decoder": True},
    "stablelm@qk": {"qk_layernorm": True, "use_parallel_residual": True},
}  # fmt: skip

# multimodal checkpoints and those of an encoder and a decoder, as they are published: whole
VLM = (
    "gemma3", "gemma4", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe", "qwen4_exp",
    "mistral3", "mistral4", "llama4", "mllama", "smolvlm", "idefics3", "internvl", "glm4v", "glm4v_moe", "llava",
    "llava_next", "llava_onevision", "paligemma", "aya_vision", "cohere2_vision", "lfm2_vl", "minimax_m3_vl", "ovis2",
    "deepseek_vl", "aria", "kimi_k25", "exaone4_5", "inkling_mm_model", "glm5_next", "cohere_compass",
)  # fmt: skip
SEQ2SEQ = (
    "t5", "mt5", "umt5", "longt5", "bart", "mbart", "pegasus", "led", "m2m_100", "switch_transformers", "t5gemma",
)  # fmt: skip


def small(name: str, value: Any) -> Any:
    """Return the value of a field, small where it is a size."""
    if name in TOKENS:
        return None if value is None else TOKENS[name]
    if isinstance(value, bool) or not isinstance(value, int):
        return value
    if name == "vocab_size":
        return N_EMBEDDINGS  # also where it is 256, of bytes
    for pattern, size in SIZES:
        if re.fullmatch(pattern, name):
            return min(value, size) if value else value
    if re.search(r"_token_(id|index)$|_token$", name):
        return N_TOKENS + sum(name.encode()) % (N_EMBEDDINGS - N_TOKENS)
    return value


def smaller(values: Mapping[str, Any]) -> Values:
    """Return a configuration's own values, small where they are sizes; those that were alike stay alike."""
    result = {name: small(name, value) for name, value in values.items()}
    if (heads := values.get("num_attention_heads")) and values.get("num_key_value_heads") == heads:
        result["num_key_value_heads"] = HEADS
    if (rotated := values.get("qk_rope_head_dim")) and values.get("head_dim") == rotated:
        result["head_dim"] = result["qk_rope_head_dim"]
    return result


def of_each_layer(values: Mapping[str, Any]) -> dict[str, Sequence[Any]]:
    """Return the lists that have an entry for every layer, but for lists of the layers themselves."""
    n = values.get("num_hidden_layers", values.get("num_layers"))
    lists = {name: value for name, value in values.items() if isinstance(value, list | tuple) and len(value) == n}
    return {name: value for name, value in lists.items() if len({str(each) for each in value}) < len(value)}


def shrink(values: Mapping[str, Any]) -> Values:
    """Return a configuration's values made small, its parts' too; of its layers the first of each kind, two or more."""
    lists = of_each_layer(values)
    kinds = list(zip(*(map(str, each) for each in lists.values()), strict=True))
    layers = sorted(kinds.index(kind) for kind in dict.fromkeys(kinds))
    if len(layers) == 1:
        layers.append(1)
    result = smaller(values)
    for name, value in values.items():
        if name == "per_layer_config":
            result[name] = {layers.index(int(i)): smaller(each) for i, each in value.items() if int(i) in layers}
        elif isinstance(value, Mapping) and (name.endswith("_config") or "model_type" in value):
            result[name] = shrink(value)
        elif name in lists:
            result[name] = [value[i] for i in layers]
    if lists:
        result["num_hidden_layers" if "num_hidden_layers" in values else "num_layers"] = len(layers)
    return change(result, EXCEPTIONS.get(values.get("model_type", ""), {}))


def change(values: Values, changes: Mapping[str, Any]) -> Values:
    """Set some of a configuration's values, ``PART.KEY`` in a part of it, and return it."""
    for path, value in changes.items():
        *parts, key = path.split(".")
        at = values
        for part in parts:
            at = at[part]
        at[key] = value
    return values


def names() -> list[str]:
    """Return what there is: every type with a causal language model, the variants, ``vlm:`` and ``s2s:``."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    whole = [f"vlm:{model_type}" for model_type in VLM] + [f"s2s:{model_type}" for model_type in SEQ2SEQ]
    return [*MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, *VARIANTS, *whole]


def type_of(name: str) -> str:
    """Return the model type of a name."""
    return name.split(":")[-1].split("@")[0]


def make_config(name: str) -> Any:
    """Return the tiny configuration of a name."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    kind = CONFIG_MAPPING[type_of(name)]
    parts: Values = {part: {} for part in PARTS.get(type_of(name), ())}
    default = kind(**parts)
    values = change(shrink(default.to_dict()), VARIANTS.get(name, {}))
    for transient in ("transformers_version", "model_type", "architectures"):
        values.pop(transient, None)
    return kind.from_dict(values)


def model_class(name: str) -> Any:
    """Return the class of transformers that makes and loads what a name stands for."""
    import transformers

    if name.startswith("vlm:"):
        return transformers.AutoModelForImageTextToText
    return transformers.AutoModelForSeq2SeqLM if name.startswith("s2s:") else transformers.AutoModelForCausalLM


def make_model(name: str, seed: int = 0) -> Any:
    """Return the tiny model of a name, in evaluation mode, float32.

    Its matrices are larger than at the start of a training, since a model whose attention is uniform and whose logits
    are all alike would hide much.
    """
    torch.manual_seed(seed)
    model: Any = model_class(name).from_config(make_config(name), dtype=torch.float32)
    for parameter_name, parameter in model.named_parameters():
        if parameter.ndim >= 2 and not any(part in parameter_name for part in _AS_MADE):
            parameter.data.mul_(4)
    model.eval()
    return model


def make_tokenizer() -> Any:
    """Return a byte-level BPE of ``N_TOKENS`` learnt from the demo pool, with a chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    from handpick import bundled
    from handpick.data.chat_template import TULU_TEMPLATE

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    with gzip.open(bundled.pool_paths()[0], "rt", encoding="utf-8") as lines:
        texts = [turn["content"] for line in islice(lines, 200) for turn in json.loads(line)["messages"]]
    trainer = trainers.BpeTrainer(
        vocab_size=N_TOKENS, special_tokens=["<|end|>", "<|pad|>", "<|user|>", "<|assistant|>", "<|begin|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<|pad|>")
    fast.chat_template = TULU_TEMPLATE
    return fast


def save(name: str, folder: Path, tokenizer: Any) -> Path:
    """Write the model of a name and a tokenizer into a folder of ``folder``, and return it."""
    path = folder / name.replace(":", "-")
    make_model(name).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path
