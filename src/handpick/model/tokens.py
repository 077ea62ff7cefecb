"""Tokens to try a model with: plain ones, that mean no image, no end and no padding."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor


def plain_tokens(model: Any, n: int, seed: int = 0) -> Tensor:
    """Return n token ids (n,), int64, on the CPU: drawn from those that the model's configuration gives no name.

    Args:
        model: a transformers model that reads text.
        n: how many; the first of them are the same for any number.
        seed: of the draw.
    """
    text = model.config.get_text_config()
    rows = int(model.get_input_embeddings().weight.shape[0])
    n_tokens = min(rows, int(getattr(text, "vocab_size", None) or rows))
    named = {*_ids_with_names(model.config), *_ids_with_names(text)}
    plain = torch.tensor([token for token in range(n_tokens) if token not in named] or [0])
    return plain[torch.randint(len(plain), (n,), generator=torch.Generator().manual_seed(seed))]


def _ids_with_names(config: Any) -> Iterator[int]:
    """Yield the token ids that a configuration names."""
    for name, value in config.to_dict().items():
        if "token" in name:
            yield from (each for each in (value if isinstance(value, list) else [value]) if isinstance(each, int))
