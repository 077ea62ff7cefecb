"""How a warmup and a fine-tuning are trained: LESS's and TIS's settings, and presets for small models."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from handpick.choices import Dtype, Quantization
from handpick.errors import SettingsError
from handpick.flag_names import Flag


def _names(value: Any) -> Any:
    """Parse names with commas between them, as flags have them."""
    if value in ("auto", "all-linear"):
        return value
    names = [name.strip() for name in value.split(",") if name.strip()] if isinstance(value, str) else value
    if names == []:
        raise ValueError("should be auto, all-linear or names of layers")
    return names


LoraTargets = Annotated[list[str] | Literal["auto", "all-linear"], BeforeValidator(_names)]
LLAMA_TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj"]  # what ``auto`` is there
EXPERTS = "experts"  # the name that stands for the weights of experts
TARGETS_METAVAR = "auto|all-linear|NAMES"


def micro_batch_of(batch: int, at_most: int) -> int:
    """Return examples per forward pass: the largest number that divides the batch, so a step sees exactly so many."""
    return max(n for n in range(1, at_most + 1) if batch % n == 0)


class LoraSettings(BaseModel):
    """An adapter's shape. ``targets="auto"`` is q, k, v and o for Llama and all linear layers elsewhere (TIS).

    All, that is, which work (``handpick.training.targets``): fused experts only where ``experts`` is named.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    rank: Annotated[int, Flag("lora_rank")] = Field(128, gt=0, description="of the adapter")
    alpha: Annotated[float, Flag("lora_alpha")] = Field(
        512, gt=0, description="what scales the adapter: alpha over rank"
    )
    dropout: Annotated[float, Flag("lora_dropout")] = Field(
        0.1, ge=0, lt=1, description="in front of the adapter, while training"
    )
    targets: Annotated[LoraTargets, Flag("lora_targets", TARGETS_METAVAR)] = Field(
        "auto",
        description="auto, all-linear, or names of layers with commas between them, `experts` for those of a mixture; "
        "auto: attention for Llama, else every linear layer of the text part that works",
    )


class WarmupSettings(BaseModel):
    """How the warmup is trained; the defaults are LESS's (docs/sources.md names the file of each)."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

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


class FinetuneSettings(BaseModel):
    """How a model is fine-tuned on a selection; the defaults are TIS's (docs/sources.md names the file of each)."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    epochs: int = Field(2, gt=0, description="passes over the examples")
    learning_rate: float = Field(2e-5, gt=0, description="of AdamW, at its highest")
    batch: int = Field(128, gt=0, description="examples a step, on all processes together; packed rows with packing")
    micro_batch: int = Field(4, gt=0, description="examples a forward pass, at most; changes memory, not the result")
    warmup_ratio: float = Field(0.03, ge=0, lt=1, description="of the steps, in which the learning rate rises")
    schedule: Literal["linear", "cosine", "constant"] = Field("linear", description="of the learning rate after that")
    weight_decay: float = Field(0.0, ge=0, description="of AdamW")
    adapter: Literal["lora", "none"] = Field("lora", description="none trains all weights")
    lora: LoraSettings = LoraSettings()
    max_length: int = Field(2048, gt=1, description="tokens kept of a conversation")
    packing: bool = Field(False, description="several examples a row of max_length tokens, none of which sees another")
    dtype: Dtype = Field("auto", description="what the model computes in; what is trained is kept in float32")
    quantization: Quantization = Field("none", description="of the frozen weights under an adapter")
    gradient_checkpointing: bool = Field(False, description="make activations again: less memory, a third slower")
    seed: int = Field(0, ge=0, lt=2**32, description="of the adapter, the order and the dropout")

    @model_validator(mode="after")
    def _check_trainable(self) -> "FinetuneSettings":
        if self.adapter == "none" and self.quantization != "none":
            raise SettingsError(f"weights stored in {self.quantization} cannot be trained: use --adapter lora")
        return self


# the recipe that benchmarks/finetune.py measures with: ``SMALL`` and four epochs
SMALL_FINETUNE = FinetuneSettings(
    epochs=4, learning_rate=4e-3, batch=8, max_length=512, dtype="float32", lora=SMALL.lora
)
