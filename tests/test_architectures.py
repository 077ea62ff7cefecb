"""Architectures that people fine-tune: tiny models of them, held to an oracle by the default targets.

The short form of ``scripts/architectures.py``, which tries all there are, and the commands too.
"""

from pathlib import Path
from typing import Any

import pytest
import torch

from handpick.errors import ModelError
from handpick.model import load_base
from scripts.tiny_architectures import make_tokenizer, save
from scripts.try_architecture import EXACT, LENGTHS, rows, save_adapter

USED = (
    "llama", "qwen2", "qwen3", "gemma2", "gemma3_text", "mistral", "ministral3", "phi3", "gpt2", "opt", "olmo2",
    "cohere2", "smollm3", "lfm2",
)  # fmt: skip
NOT_CAUSAL = ("bert", "bert-generation", "cpmant", "bart", "s2s:t5", "s2s:bart")


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return make_tokenizer()


@pytest.mark.parametrize("name", USED)
def test_rows_are_exact_by_default_targets(name: str, tokenizer: Any, tmp_path: Path) -> None:
    """In a batch of unlike lengths and alone."""
    folder = save(name, tmp_path, tokenizer)
    save_adapter(str(folder), tmp_path / "adapter")
    assert max(rows(name, folder, tmp_path / "adapter").values()) <= EXACT
    assert len(set(LENGTHS)) > 1
