"""Architectures that people fine-tune: tiny models of them, held to an oracle by the default targets.

The short form of ``scripts/architectures.py``, which tries all there are, and the commands too.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from handpick.errors import ModelError
from handpick.model import load_base
from scripts.tiny_architectures import make_tokenizer, save
from scripts.try_architecture import EXACT, rows, save_adapter

USED = (
    "llama", "llama4", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "qwen3_next", "qwen3_5", "qwen3_5_moe", "gemma2",
    "gemma3_text", "gemma3n_text", "gemma4", "mistral", "ministral3", "mixtral", "phi3", "gpt2", "opt", "gpt_oss",
    "deepseek_v2", "deepseek_v3", "glm4_moe", "granitemoehybrid", "falcon_h1", "nemotron_h", "mamba2", "jamba", "olmoe",
    "lfm2",
)  # fmt: skip
PUBLISHED = (
    "vlm:gemma3", "vlm:gemma4", "vlm:qwen2_5_vl", "vlm:qwen3_vl", "vlm:mistral3",
    pytest.param("vlm:llama4", marks=pytest.mark.xfail(
        transformers.__version__ == "5.24.0", raises=AttributeError,
        reason="Llama4ForConditionalGeneration, which the oracle reads by, has no forward pass in transformers 5.24.0",
    )),
    "vlm:smolvlm", "vlm:internvl", "vlm:glm4v",
)  # fmt: skip
NOT_CAUSAL = ("bert", "bert-generation", "cpmant", "s2s:t5", "s2s:bart")


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return make_tokenizer()


@pytest.mark.parametrize("name", [*USED, *PUBLISHED])
def test_rows_are_exact_by_default_targets(name: str, tokenizer: Any, tmp_path: Path) -> None:
    """In a batch of unlike lengths and alone."""
    folder = save(name, tmp_path, tokenizer)
    save_adapter(str(folder), tmp_path / "adapter")
    assert max(rows(name, folder, tmp_path / "adapter").values()) <= EXACT


@pytest.mark.parametrize("name", NOT_CAUSAL)
def test_what_is_no_causal_language_model_is_refused_when_it_is_loaded(
    name: str, tokenizer: Any, tmp_path: Path
) -> None:
    """Encoders that look at what comes later, and the whole of an encoder and a decoder; in one line."""
    folder = save(name, tmp_path, tokenizer)
    with pytest.raises(ModelError) as refusal:
        load_base(str(folder), torch.float32)
    assert "\n" not in str(refusal.value)
    assert str(folder) in str(refusal.value)
