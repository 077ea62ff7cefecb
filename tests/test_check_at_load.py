"""Models that read a sequence by itself are loaded, whatever they are called; the others are refused by name."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, AutoModelForSeq2SeqLM

from handpick.data.batching import collate
from handpick.data.render import Rendered
from handpick.errors import ModelError
from handpick.gradients.check import check_rows
from handpick.gradients.engine import GradientEngine
from handpick.gradients.likelihood import log_likelihoods
from handpick.model import load_base, model_fingerprint, parameter_count, position_limit
from handpick.model.check import refusal
from handpick.model.in_memory import hold_model
from handpick.model.kind import text_class
from handpick.model.tokens import plain_tokens
from tests.gradients.tiny_models import ARCHITECTURES, COMMON, LLAMA_LIKE, VOCAB, base_model, lora_model

SMALL = COMMON | {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 64,
}  # fmt: skip
T5 = COMMON | {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2, "decoder_start_token_id": 0}
BART = COMMON | {
    "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "max_position_embeddings": 64,
    "decoder_start_token_id": 2, "forced_eos_token_id": None,
}  # fmt: skip
TEXT = dict(LLAMA_LIKE)
MROPE = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}
SEES = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
# model type → the configuration of a multimodal checkpoint
MULTIMODAL: dict[str, dict[str, Any]] = {
    "gemma3": {
        "text_config": TEXT, "vision_config": SEES | {"image_size": 16, "patch_size": 8}, "mm_tokens_per_image": 4,
        "image_token_index": 90, "boi_token_index": 91, "eoi_token_index": 92,
    },
    "llava": {
        "text_config": TEXT | {"model_type": "llama"}, "image_token_index": 90,
        "vision_config": SEES | {"model_type": "clip_vision_model", "image_size": 16, "patch_size": 8},
    },
    "qwen2_vl": {
        "text_config": TEXT | {"rope_parameters": MROPE},
        "vision_config": {"depth": 1, "embed_dim": 16, "hidden_size": 32, "num_heads": 2, "patch_size": 4},
        "image_token_id": 90, "video_token_id": 91, "vision_start_token_id": 92, "vision_end_token_id": 93,
    },
    "smolvlm": {
        "text_config": TEXT | {"model_type": "llama"}, "scale_factor": 2, "image_token_id": 90,
        "vision_config": SEES | {"image_size": 16, "patch_size": 4},
    },
}  # fmt: skip


def make(model_type: str, kind: Any = AutoModelForCausalLM, **config: Any) -> nn.Module:
    torch.manual_seed(0)
    model: nn.Module = kind.from_config(AutoConfig.for_model(model_type, **config))
    for name, parameter in model.named_parameters():
        if parameter.ndim >= 2 and "norm" not in name:
            parameter.data.mul_(4)
    return model.eval()


def saved(folder: Path, model: Any) -> str:
    model.save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_a_causal_model_is_none_of_them(name: str, dtype: torch.dtype) -> None:
    assert refusal(base_model(name, dtype=dtype).eval()) is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("model_type", ["bert", "roberta", "electra", "bert-generation"])
def test_an_encoder_is_refused_until_it_is_told_to_be_a_decoder(
    model_type: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    with pytest.raises(ModelError) as told:
        load_base(saved(tmp_path / "encoder", make(model_type, **SMALL)), dtype)
    said = str(told.value)
    assert "encoder (" in said
    assert "is no causal language model" in said
    assert "\n" not in said
    assert 'say "is_decoder": true in its config.json' in said
    load_base(saved(tmp_path / "decoder", make(model_type, **SMALL, is_decoder=True)), dtype)


def test_a_model_that_hides_its_padding_alone_still_looks_ahead(tmp_path: Path) -> None:
    """XLM masks its own padding token, so that only other tokens show that it reads both ways."""
    sizes = {"n_layers": 2, "n_heads": 4, "emb_dim": 32, "n_langs": 1, "pad_index": 2, "bos_index": 0, "eos_index": 1}
    own = {"vocab_size": VOCAB, "pad_token_id": 2, "bos_token_id": 0, "max_position_embeddings": 64}
    with pytest.raises(ModelError, match="is no causal language model"):
        load_base(saved(tmp_path / "both", make("xlm", **sizes, **own)), torch.float32)
    load_base(saved(tmp_path / "causal", make("xlm", **sizes, **own, causal=True)), torch.float32)


def test_one_in_memory_is_looked_at_too() -> None:
    class Tokenizer:
        is_fast, chat_template, special_tokens_map = True, None, {}

        class backend_tokenizer:  # noqa: N801
            to_str = staticmethod(lambda: "")

    held = hold_model(make("bert", **SMALL), Tokenizer())
    with pytest.raises(ModelError, match="is no causal language model"):
        load_base(held.name, torch.float32)


def test_a_model_that_looks_beside_a_sequence_is_refused() -> None:
    model = base_model("llama")
    layer: Any = model.model.layers[0].mlp  # type: ignore[union-attr, index]
    layer.register_forward_hook(lambda _module, _args, hidden_BTH: hidden_BTH + 0.1 * hidden_BTH.mean(0))
    said = refusal(model)
    assert said is not None
    assert "beside it in a batch" in said


def test_weights_that_are_not_finite_are_not_its_affair() -> None:
    model = base_model("llama")
    model.model.norm.weight.data[0] = torch.nan  # type: ignore[union-attr]
    assert refusal(model) is None


def test_a_model_that_needs_more_than_text_is_one_sentence(tmp_path: Path) -> None:
    folder = saved(tmp_path / "many", make("xmod", **SMALL, languages=["en_XX", "de_DE"], is_decoder=True))
    with pytest.raises(ModelError) as told:
        load_base(folder, torch.float32)
    assert "cannot read text by itself: Input language unknown." in str(told.value)


@pytest.mark.parametrize(("model_type", "config"), [("t5", T5), ("bart", BART)])
def test_an_encoder_decoder_is_called_one(model_type: str, config: dict[str, Any], tmp_path: Path) -> None:
    folder = saved(tmp_path / "both", make(model_type, AutoModelForSeq2SeqLM, **config))
    for look in (
        lambda: load_base(folder, torch.float32),
        lambda: position_limit(folder),
        lambda: parameter_count(folder),
    ):
        with pytest.raises(
            ModelError, match=r"both is an encoder–decoder \((T5|Bart)ForConditionalGeneration\): .*name"
        ):
            look()


def test_what_is_no_language_model_is_called_what_it_is() -> None:
    config = AutoConfig.for_model("vit")
    config.architectures = ["ViTModel"]
    with pytest.raises(ModelError, match=r"^a/b \(ViTModel\) is no language model"):
        text_class("a/b", config)


@pytest.mark.parametrize("model_type", list(MULTIMODAL))
def test_a_multimodal_checkpoint_is_read_as_a_text_model(model_type: str, tmp_path: Path) -> None:
    """Its likelihoods in a padded batch are a loop's over the model as transformers makes it; nothing is trainable."""
    own: Any = make(model_type, AutoModelForImageTextToText, **MULTIMODAL[model_type])
    folder = saved(tmp_path / "whole", own)
    model = load_base(folder, torch.float32)
    assert position_limit(folder) is None
    assert parameter_count(folder) == sum(p.numel() for p in own.parameters())
    assert set(model_fingerprint(folder)) == {"config", "weights"}
    assert not any(p.requires_grad for p in model.parameters())
    sequences = [plain_tokens(own, n, seed=n).tolist() for n in (9, 5, 14)]
    batch = collate([Rendered(ids, [-100, -100, *ids[2:]], len(ids)) for ids in sequences], pad_id=0)
    want = []
    for ids in sequences:
        with torch.no_grad():
            log_TV = own(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
        want.append(sum(float(log_TV[t - 1, ids[t]]) for t in range(2, len(ids))))
    torch.testing.assert_close(
        log_likelihoods(model, batch), torch.tensor(want, dtype=torch.float64), rtol=1e-5, atol=1e-4
    )


def test_the_engines_rows_are_looked_at_with_the_adapter() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        check_rows(GradientEngine(lora_model("llama", dtype=dtype)))
    engine = GradientEngine(lora_model("llama"))
    layer: Any = engine.model.get_base_model().model.layers[1].mlp  # type: ignore[operator]
    layer.register_forward_hook(lambda _module, _args, hidden_BTH: hidden_BTH + 0.1 * hidden_BTH.mean(0))
    with pytest.raises(ModelError, match="the rows of LlamaForCausalLM would be wrong"):
        check_rows(engine)


def test_a_gradient_that_cannot_be_taken_is_one_sentence() -> None:
    engine = GradientEngine(lora_model("llama"))
    layer: Any = engine.model.get_base_model().model.layers[1].mlp  # type: ignore[operator]
    layer.register_forward_hook(lambda _module, _args, hidden_BTH: hidden_BTH.numpy())
    with pytest.raises(ModelError, match=r"^no gradient of LlamaForCausalLM can be taken here: "):
        check_rows(engine)
