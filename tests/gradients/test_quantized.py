"""A base model in few bits: the rows are the gradients of that model, whoever their neighbours are."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import nn

from handpick import model as models
from handpick.errors import ModelError
from handpick.model import load_base
from handpick.training.settings import LoraSettings
from handpick.training.warmup import new_adapter
from tests.gradients.oracle import autograd_rows, flat, random_sequences, relative_error
from tests.gradients.test_per_example import engine_rows

needs_bitsandbytes = pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")


def quantized(tiny_model: Path, bits: Literal["8bit", "4bit"]) -> nn.Module:
    base = load_base(str(tiny_model), torch.float32, bits)
    model = new_adapter(base, LoraSettings(rank=4, alpha=8, dropout=0.0), seed=0, in_float32=False)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if ".lora_B." in name:
            parameter.data.copy_(0.05 * torch.randn(parameter.shape, generator=generator))
    return model


@needs_bitsandbytes
@pytest.mark.parametrize("bits", ["8bit", "4bit"])
def test_equals_autograd_of_the_quantized_model(tiny_model: Path, bits: Literal["8bit", "4bit"]) -> None:
    model = quantized(tiny_model, bits)
    assert any(type(module).__name__ in ("Linear8bitLt", "Linear4bit") for module in model.modules())
    sequences = random_sequences(9, 200, seed=4)
    want = flat(autograd_rows(model, sequences))
    for batch_tokens in (1, 1000):
        assert relative_error(engine_rows(model, sequences, batch_tokens=batch_tokens), want) <= 1e-4


@needs_bitsandbytes
def test_large_features_are_not_multiplied_apart(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With bitsandbytes' own threshold, rows depend on their neighbours: what the setting in load_base is for."""
    from transformers import BitsAndBytesConfig

    def as_shipped(*args: Any) -> dict[str, Any]:
        return {"quantization_config": BitsAndBytesConfig(load_in_8bit=True), "device_map": {"": "cpu"}}

    monkeypatch.setattr(models, "_quantization_arguments", as_shipped)
    model = quantized(tiny_model, "8bit")
    embedding = model.get_input_embeddings()  # type: ignore[operator]
    norm = next(module for name, module in model.named_modules() if name.endswith("input_layernorm"))
    norm.weight.data[:3] *= 8  # what makes three features large  # type: ignore[union-attr, operator]
    sequences = random_sequences(9, len(embedding.weight), seed=4)
    alone, together = (engine_rows(model, sequences, batch_tokens=n) for n in (1, 1000))
    assert relative_error(together, alone) > 1e-3
    monkeypatch.undo()
    model = quantized(tiny_model, "8bit")
    norm = next(module for name, module in model.named_modules() if name.endswith("input_layernorm"))
    norm.weight.data[:3] *= 8  # type: ignore[union-attr, operator]
    alone, together = (engine_rows(model, sequences, batch_tokens=n) for n in (1, 1000))
    assert relative_error(together, alone) <= 1e-4


def test_without_bitsandbytes_it_says_what_to_install(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match="handpick\\[quantized\\]"):
        load_base(str(tiny_model), torch.float32, "4bit")


def test_memory_of_the_weights_is_less(tiny_model: Path) -> None:
    pytest.importorskip("bitsandbytes")
    sizes = {}
    for bits in ("none", "8bit", "4bit"):
        model: Any = load_base(str(tiny_model), torch.float32, bits)  # type: ignore[arg-type]
        layers = [m for m in model.modules() if isinstance(m, nn.Linear) and m is not model.get_output_embeddings()]
        sizes[bits] = sum(layer.weight.nbytes for layer in layers)
    assert sizes["8bit"] * 4 == sizes["none"]
    assert sizes["4bit"] * 8 == sizes["none"]


@needs_bitsandbytes
def test_a_model_that_was_published_in_four_bits(tiny_model: Path, tmp_path: Path) -> None:
    """Its own config says so, and it is kept off the kernel without a backward pass as well."""
    load_base(str(tiny_model), torch.float32, "4bit").save_pretrained(tmp_path)  # type: ignore[operator]
    base = load_base(str(tmp_path), torch.float32)
    linear = [module for module in base.modules() if type(module).__name__ == "Linear4bit"]
    assert linear
    assert not any(module.support_avx512bf16_for_cpu for module in linear)
    model = new_adapter(base, LoraSettings(rank=4, alpha=8, dropout=0.0), seed=0, in_float32=False)
    sequences = random_sequences(3, 200, seed=4)
    for name, parameter in model.named_parameters():
        if ".lora_B." in name:
            torch.nn.init.constant_(parameter, 0.01)
    want = flat(autograd_rows(model, sequences))
    model.eval()(input_ids=torch.tensor([sequences[0].input_ids]))  # a look at a loss, before gradients are taken
    assert relative_error(engine_rows(model, sequences, batch_tokens=1000), want) <= 1e-4
