"""Activations are made again under whichever name transformers has for it, and no deprecated name is used."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, TrainingArguments
from trl import SFTConfig

from handpick.model.recompute import keep_activations, recompute_activations, recompute_arguments


@contextmanager
def nothing_deprecated() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        yield


@pytest.mark.parametrize("adapted", [False, True])
def test_a_model_makes_its_activations_again_until_it_keeps_them(adapted: bool, tiny_model: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    if adapted:
        model = get_peft_model(model, LoraConfig(target_modules=["q_proj"]))
    layers = [module for module in model.modules() if hasattr(module, "gradient_checkpointing")]
    assert layers
    with nothing_deprecated():
        recompute_activations(model)
    assert all(layer.gradient_checkpointing for layer in layers)
    with nothing_deprecated():
        keep_activations(model)
    assert not any(layer.gradient_checkpointing for layer in layers)


@pytest.mark.parametrize("kind", [TrainingArguments, SFTConfig])
@pytest.mark.parametrize("recompute", [False, True])
def test_a_trainer_is_told(kind: type[TrainingArguments], recompute: bool, tmp_path: Path) -> None:
    with nothing_deprecated():
        told = kind(output_dir=str(tmp_path), use_cpu=True, bf16=False, **recompute_arguments(kind, recompute))
    assert told.gradient_checkpointing is recompute
    assert getattr(told, "activation_checkpointing", recompute) is recompute
