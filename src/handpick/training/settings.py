"""How a warmup is trained: LESS's settings, and a preset for small models."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class LoraSettings(BaseModel):
    """An adapter's shape. ``targets="auto"`` is q, k, v and o for Llama and all linear layers elsewhere (TIS)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rank: int = Field(128, gt=0)
    alpha: float = Field(512, gt=0)
    dropout: float = Field(0.1, ge=0, lt=1)
    targets: list[str] | Literal["auto", "all-linear"] = "auto"


class WarmupSettings(BaseModel):
    """How the warmup is trained; the defaults are LESS's (methods.md, section 1, names their source)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    share: float = Field(0.05, gt=0, le=1, description="of the pool to train on")
    at_least: int = Field(1000, gt=0, description="examples, or the whole pool where it is smaller")
    epochs: int = Field(4, gt=0, description="and checkpoints")
    learning_rate: float = Field(2e-5, gt=0)
    batch: int = Field(32, gt=0, description="examples a step")
    micro_batch: int = Field(4, gt=0, description="examples a forward pass, at most")
    warmup_ratio: float = Field(0.03, ge=0, lt=1, description="of the steps, in which the learning rate rises")
    lora: LoraSettings = LoraSettings()


# LESS's settings make two steps on models and pools this small. The learning rate was tuned on random selections of
# the demo pool alone, by the loss after fine-tuning on them, and then frozen (benchmarks/small_preset.py).
SMALL = WarmupSettings(epochs=1, learning_rate=4e-3, batch=8, lora=LoraSettings(rank=16, alpha=32, dropout=0.0))
SMALL_MODEL = 100_000_000  # parameters; the preset ``small`` is for models below
