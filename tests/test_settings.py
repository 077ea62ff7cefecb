"""Settings that nothing reads are named."""

from pathlib import Path
from typing import Any

import pytest

from handpick.errors import SettingsError
from handpick.scorers.checkpoints import checkpoint_inputs, new_lora, warmup_of
from handpick.settings import Settings, parse_settings
from handpick.training.settings import SMALL, WarmupSettings


@pytest.mark.parametrize(
    ("changed", "unread"),
    [
        ({"method": "embed", "max_length": 128, "dtype": "float32", "quantization": "4bit", "batch_tokens": 7},
         ["max_length", "dtype", "quantization", "batch_tokens"]),
        ({"method": "embed", "max_length": 128, "budget": "2M tokens"}, []),
        ({"method": "bm25", "storage": "int8", "projection_dim": 64}, ["projection_dim", "storage"]),
        ({"method": "gradient-rr", "eps_mode": "adam"}, ["eps_mode"]),
        ({"method": "gradient-rr", "eps_mode": "adam", "optimizer": "adam"}, []),
        ({"method": "less-rr", "eps_mode": "adam", "storage": "int8", "dtype": "float32"}, []),
        ({"method": "less-rr", "optimizer": "sgd", "eps_mode": "adam"}, ["eps_mode"]),
        ({"projection": "rademacher", "projection_nonzeros": 8}, ["projection_nonzeros"]),
        ({"projection": "none", "projection_dim": 64}, ["projection_dim"]),
        ({"score_only": True, "storage": "float16"}, ["storage"]),
        ({"method": "rds+", "gradient_checkpointing": True, "max_length": 128}, ["gradient_checkpointing"]),
        ({"method": "rds+", "lora_targets": ["q_proj"]}, ["lora_targets"]),
    ],
)  # fmt: skip
def test_what_nothing_looks_at(changed: dict[str, Any], unread: list[str]) -> None:
    assert Settings(**changed).unused_settings == unread


def test_layers_of_the_adapter_go_into_every_preset_and_into_a_fresh_one(tiny_model: Path) -> None:
    plain = Settings(model=str(tiny_model))
    named = parse_settings({"model": str(tiny_model), "lora_targets": "experts, q_proj"}, where="--")
    assert named.lora_targets == ["experts", "q_proj"]
    for warmup in ("small", "less", "auto"):
        settings, name = warmup_of(named.model_copy(update={"warmup": warmup}))
        preset, same_name = warmup_of(plain.model_copy(update={"warmup": warmup}))
        assert settings is not None
        assert preset in (SMALL, WarmupSettings())
        assert settings.lora.targets == ["experts", "q_proj"]
        assert settings.model_copy(update={"lora": SMALL.lora}) == preset.model_copy(update={"lora": SMALL.lora})
        assert name == same_name
    assert new_lora(named) == SMALL.lora.model_copy(update={"targets": ["experts", "q_proj"]})
    assert new_lora(plain) == SMALL.lora


def test_what_a_run_depends_on_names_the_layers_only_where_they_are_given(tiny_model: Path) -> None:
    """Else runs of before could not be gone on with."""
    fresh = Settings(model=str(tiny_model), warmup="none", method="gradient-rr")
    inputs = checkpoint_inputs(fresh, None, None, {"hub": "m"})  # type: ignore[arg-type]
    assert inputs["adapter"]["lora"] == {"rank": 16, "alpha": 32.0, "dropout": 0.0, "targets": "auto"}
    assert "lora_targets" not in fresh.to_yaml()
    named = fresh.model_copy(update={"lora_targets": ["q_proj"]})
    inputs = checkpoint_inputs(named, None, None, {"hub": "m"})  # type: ignore[arg-type]
    assert inputs["adapter"]["lora"]["targets"] == ["q_proj"]
    assert "lora_targets:\n- q_proj\n" in named.to_yaml()


@pytest.mark.parametrize(
    ("beside", "said"),
    [
        ({"checkpoints": "ck"}, "have their layers: leave lora_targets out"),
        ({"warmup": {"epochs": 1}}, "give the layers there, as lora.targets"),
        ({"lora_targets": ","}, "--lora-targets should be auto, all-linear or names of layers"),
    ],
)
def test_layers_that_would_not_be_looked_at_are_refused(beside: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError) as refused:
        parse_settings({"lora_targets": ["q_proj"]} | beside, where="--")
    assert said in str(refused.value)
