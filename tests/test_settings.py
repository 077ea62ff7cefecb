"""Settings that nothing reads are named."""

from pathlib import Path
from typing import Any

import pytest
import yaml

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
        ({"method": "rds+", "encoder": "e", "max_length": 9}, ["encoder"]),
        ({"method": "rds+", "encoder": "e", "max_length": 9, "prefilter": "embed"}, []),
        ({"method": "bm25", "prefilter": "whitened-rds+", "whitening_damping": 1, "dtype": "float32"}, []),
        ({"score_only": True, "storage": "float16", "prefilter": "rds+"}, []),
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


def test_a_prefilter_in_words_and_in_numbers() -> None:
    one = parse_settings({"prefilter": "rds+"})
    assert (one.prefilter, one.prefilter_shares, one.count_left(2501), one.count_checked(2501)) == (
        ["rds+"],
        [0.1],
        251,
        50,
    )
    two = parse_settings({"prefilter": ["bm25", "rds+"], "prefilter_share": ["40 %", 0.07], "prefilter_check": 0})
    assert (two.prefilter_shares, two.count_left(100), two.count_checked(100)) == ([0.4, 0.07], 7, 0)
    assert [one.count_checked(n) for n in (100, 30_000, 10**7)] == [50, 300, 1000]
    first = two.prefiltering
    assert (first.used_representation, first.prefilter, first.prefilter_shares) == ("rds+", ["bm25"], [0.4])
    assert first.prefiltering.used_representation == "bm25"
    assert first.prefiltering.prefilter == []
    assert two.last_stage == parse_settings({})
    assert parse_settings(yaml.safe_load(two.to_yaml())) == two


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"prefilter": "nosuch"}, "no representation 'nosuch'; choose one of gradient,"),
        ({"prefilter": "nosuch"}, " length, vectors:FILE, scores:FILE, reward:NAME, judge:MODEL, none"),
        ({"prefilter": "scores"}, "the representation scores needs more: write scores:FILE"),
        ({"prefilter": "none"}, "none ranks no candidates: choose another --prefilter"),
        ({"prefilter": "gradient"}, "gradient ranks the candidates twice: choose another --prefilter"),
        ({"prefilter": ["bm25", "bm25"], "prefilter_share": ["20%", "10%"]}, "bm25 ranks the candidates twice"),
        (
            {"prefilter": "bm25", "prefilter_share": "10"},
            "--prefilter-share should be above 0 and at most the whole pool",
        ),
        (
            {"prefilter": "bm25", "prefilter_share": "0%"},
            "--prefilter-share should be above 0 and at most the whole pool",
        ),
        ({"prefilter": "bm25", "prefilter_share": "ten"}, "such as 10% or 0.1, not 'ten'"),
        ({"prefilter": ["bm25", "rds+"]}, "give one --prefilter-share for each --prefilter: there are 0 and 2"),
        ({"prefilter": ["bm25", "rds+"], "prefilter_share": [0.1, 0.1]}, "give each less than the one before it"),
        ({"prefilter_share": "10%"}, "prefilter_share is for --prefilter: name a representation, or leave it out"),
        ({"prefilter_check": 0}, "prefilter_check is for --prefilter"),
        ({"prefilter": "bm25", "prefilter_check": -1}, "--prefilter-check should be greater than or equal to 0"),
        (
            {"prefilter": "bm25", "store": "s"},
            "a store has the rows of the whole pool, and a prefilter is there to make",
        ),
        (
            {"prefilter": "whitened", "projection": "none"},
            "the prefilter whitened: whitening needs projected gradients",
        ),
        (
            {"prefilter": ["whitened", "bm25"], "prefilter_share": [0.3, 0.1], "projection": "none"},
            "the prefilter white",
        ),
        ({"prefilter": "bm25", "method": "random", "prefilter_check": 9}, "none ranks no candidates to check: leave"),
        ({"prefilter": 3}, "--prefilter should be a representation or a list of them, not 3"),
    ],
)
def test_prefilters_that_cannot_be_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError) as refused:
        parse_settings(given, where="--")
    assert said in str(refused.value)


def test_a_prefilter_looks_at_no_more_than_the_ranking() -> None:
    """What is refused of it as a method of its own, because of the choice, is not."""
    settings = parse_settings({"prefilter": "gist", "balanced": True, "optimizer": "adam"})
    assert settings.prefiltering.used_optimizer == "sgd"
    assert settings.used_optimizer == "adam"
