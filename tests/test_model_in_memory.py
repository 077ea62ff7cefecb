"""A model that is handed over in Python: its copies are what a file of it would give, and it stays as it was."""

import copy
import gc
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForSequenceClassification

from handpick.data.render import Renderer
from handpick.errors import ModelError
from handpick.model import (
    load_base,
    load_config,
    load_tokenizer,
    model_fingerprint,
    parameter_count,
    position_limit,
)
from handpick.model.in_memory import MemoryModel, hold_model
from handpick.training.settings import LoraSettings
from handpick.training.warmup import new_adapter

LORA = LoraSettings(rank=2, alpha=4)


@pytest.fixture
def module(tiny_model: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(tiny_model)


@pytest.fixture
def tokenizer(tiny_model: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_model)


@pytest.fixture
def held(module: Any, tokenizer: Any) -> MemoryModel:
    return hold_model(module, tokenizer)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_copy_is_what_the_folder_gives(held: MemoryModel, tiny_model: Path, dtype: torch.dtype) -> None:
    ours, theirs = load_base(held.name, dtype), load_base(str(tiny_model), dtype)
    assert {k: v.dtype for k, v in ours.named_buffers()} == {k: v.dtype for k, v in theirs.named_buffers()}
    for (name, own), (other, there) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        assert (name, own.dtype, own.requires_grad) == (other, there.dtype, False)
        assert torch.equal(own, there)
    ids = torch.arange(8)[None]
    with torch.no_grad():
        assert torch.equal(ours(ids).logits, theirs(ids).logits)
    assert not ours.training
    assert ours.get_output_embeddings().weight is ours.get_input_embeddings().weight  # type: ignore[operator]


def test_what_else_is_asked_of_a_model(held: MemoryModel, tiny_model: Path, module: Any) -> None:
    assert parameter_count(held.name) == parameter_count(str(tiny_model))
    assert position_limit(held.name) == position_limit(str(tiny_model))
    assert load_config(held.name).to_dict() == module.config.to_dict()
    assert load_config(held.name) is not module.config
    ours, theirs = Renderer(load_tokenizer(held.name)), Renderer(load_tokenizer(str(tiny_model)))
    assert ours.template == theirs.template
    assert load_tokenizer(held.name) is not held.tokenizer
    assert held.fingerprint.keys() == model_fingerprint(str(tiny_model)).keys()
    assert held.fingerprint["config"] == model_fingerprint(str(tiny_model))["config"]


def test_the_name_is_of_the_content(held: MemoryModel, module: Any, tokenizer: Any) -> None:
    assert held.name.startswith("memory:model-")
    assert hold_model(copy.deepcopy(module), copy.deepcopy(tokenizer)) is held
    changed = copy.deepcopy(module)
    with torch.no_grad():
        changed.model.layers[0].mlp.up_proj.weight[0, 0] += 1e-3
    other = hold_model(changed, tokenizer)
    assert other.name != held.name
    assert model_fingerprint(other.name)["config"] == model_fingerprint(held.name)["config"]
    assert hold_model(module.to(torch.bfloat16), tokenizer).name not in (held.name, other.name)
    untemplated = copy.deepcopy(tokenizer)
    untemplated.chat_template = None
    assert hold_model(changed, untemplated).name != other.name


def test_the_users_own_stays_as_it_was(held: MemoryModel, module: Any) -> None:
    module.train()
    module.gradient_checkpointing_enable()
    module.lm_head.weight.requires_grad_(False)
    before = {name: (weight.clone(), weight.requires_grad) for name, weight in module.named_parameters()}

    adapted: Any = new_adapter(load_base(held.name, torch.bfloat16), LORA, 0, in_float32=True)

    assert not adapted.get_base_model().is_gradient_checkpointing
    assert module.training
    assert module.is_gradient_checkpointing
    assert module.name_or_path != ""
    for name, weight in module.named_parameters():
        assert torch.equal(weight, before[name][0])
        assert weight.requires_grad == before[name][1]


def test_an_adapter_on_it_names_no_base_model(held: MemoryModel, tmp_path: Path) -> None:
    adapted: Any = new_adapter(load_base(held.name, torch.float32), LORA, 0, in_float32=True)
    adapted.save_pretrained(tmp_path)
    assert not json.loads((tmp_path / "adapter_config.json").read_bytes())["base_model_name_or_path"]


def test_it_is_known_for_as_long_as_it_is_held(module: Any, tokenizer: Any) -> None:
    name = hold_model(module, tokenizer).name
    gc.collect()
    for load in (load_tokenizer, load_config, parameter_count, model_fingerprint):
        with pytest.raises(ModelError, match=f"^{name} was handed over in Python and is not here: hand over the mod"):
            load(name)
    with pytest.raises(ModelError, match="hand over the module and tokenizer again"):
        load_base(name, torch.float32)


def test_it_is_not_quantized(held: MemoryModel) -> None:
    with pytest.raises(ModelError, match=r"^a model that was handed over in Python is not quantized: leave --quantiz"):
        load_base(held.name, torch.float32, "4bit")


def test_what_is_no_causal_language_model_is_refused(module: Any, tokenizer: Any) -> None:
    classifier = LlamaForSequenceClassification(
        LlamaConfig(vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)
    )
    for other in (classifier, module.model, torch.nn.Linear(2, 2), "gpt2", torch.compile(module)):
        with pytest.raises(ModelError, match=rf"causal language model .*, not a {type(other).__name__}; hand over"):
            hold_model(other, tokenizer)


def test_a_model_that_has_an_adapter_is_refused(module: Any, tokenizer: Any) -> None:
    adapted: Any = new_adapter(module, LORA, 0, in_float32=True)
    for other in (adapted, adapted.get_base_model()):  # peft puts its layers into the model itself
        with pytest.raises(ModelError, match=r"has an adapter already: hand over its base model, or merge it"):
            hold_model(other, tokenizer)


def test_weights_that_are_not_there_are_refused(module: Any, tokenizer: Any) -> None:
    with pytest.raises(ModelError, match=r"has weights that are not in memory, .*: name its folder instead"):
        hold_model(module.to("meta"), tokenizer)


def test_a_model_on_several_devices_is_refused(module: Any, tokenizer: Any) -> None:
    module.hf_device_map = {"model.embed_tokens": 0, "model.layers.0": 1}
    with pytest.raises(ModelError, match=r"^the LlamaForCausalLM lies on 2 devices \(device_map\).*--shard-model"):
        hold_model(module, tokenizer)


def test_a_slow_tokenizer_is_refused(module: Any) -> None:
    with pytest.raises(ModelError, match=r"^the tokenizer NoneType is no fast one and gives no character offsets"):
        hold_model(module, None)
