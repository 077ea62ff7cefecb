"""What can be set of an objective."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from handpick.choices import Advantage, ObjectiveName, PreferenceLoss, Sampler, Variant
from handpick.objectives.judge_fields import JudgeFields, judge_options

_OF_PREFERENCE = ("preference_loss", "beta", "gamma", "reference")


class _OwnSettings(BaseModel):
    """All but the judge's, which come after them."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    objective: ObjectiveName | None = Field(None, description="of the query side; default: the method's own")

    preference_loss: PreferenceLoss = Field("dpo", description="preference: dpo is ROSE's")
    beta: float | None = Field(None, gt=0, description="preference: default 0.1, and 2 for simpo")
    gamma: float = Field(1.0, description="preference: simpo's margin")
    reference: str | None = Field(None, description="preference: a LoRA checkpoint; default: the base model")

    reward: str | None = Field(None, description="what scores an answer: see `handpick methods`")
    advantage: Advantage = Field("raw", description="reward: raw is NICE's; the others compare a prompt's samples")
    variants: list[Variant] = Field([], description="reward: NICE's variants; may be given several times")
    log_prob: Literal["sum", "mean"] = Field("sum", description="reward: over the tokens of a sample")
    sampler: Sampler = Field("transformers", description="reward: what draws answers; vllm needs a GPU and vLLM")
    samples: int = Field(20, ge=1, description="reward: answers a prompt")
    temperature: float | None = Field(
        None, gt=0, description="reward: of sampling; default 0.8 for unit-tests, 1.2 for model:, else 1"
    )
    top_k: int = Field(50, ge=0, description="reward: of sampling; 0 takes all tokens")
    top_p: float = Field(0.95, gt=0, le=1, description="reward: of sampling")
    max_new_tokens: int = Field(256, ge=1, description="reward: tokens of an answer, at most")
    stop: list[str] = Field([], description="reward: texts that end an answer; may be given several times")
    allow_code_execution: bool = Field(False, description="reward unit-tests: run the model's code, in a sandbox")
    allow_weak_sandbox: bool = Field(
        False, description="reward unit-tests: run it also where nothing keeps it from files, sockets, processes"
    )


class ObjectiveSettings(JudgeFields, _OwnSettings):
    """What decides the query side's loss, besides the model."""

    @model_validator(mode="after")
    def _judge_can_be_asked(self) -> Self:
        judge_options(self)
        return self

    def unused_by_objective(self, objective: ObjectiveName) -> list[str]:
        """Return the settings that were changed although this objective does not look at them."""
        fields = [name for name in ObjectiveSettings.model_fields if name != "objective"]
        changed = [name for name in fields if getattr(self, name) != ObjectiveSettings.model_fields[name].default]
        owner: dict[str, ObjectiveName] = {n: "preference" if n in _OF_PREFERENCE else "reward" for n in fields}
        return [name for name in changed if owner[name] != objective]
