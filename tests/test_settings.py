"""Settings that nothing reads are named."""

from typing import Any

import pytest

from handpick.settings import Settings


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
    ],
)  # fmt: skip
def test_what_nothing_looks_at(changed: dict[str, Any], unread: list[str]) -> None:
    assert Settings(**changed).unused_settings == unread
