"""What can be set of an objective."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from handpick.choices import Advantage, ObjectiveName, PreferenceLoss, Sampler, Variant

_OF_PREFERENCE = ("preference_loss", "beta", "gamma", "reference")


class ObjectiveSettings(BaseModel):
    """What decides the query side's loss, besides the model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

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
        False, description="reward unit-tests: run it also where nothing shuts it off from files and network"
    )
    judge_url: str | None = Field(None, description="reward judge: an OpenAI-compatible server; default OpenAI's own")
    judge_key_env: str = Field("OPENAI_API_KEY", description="reward judge: the variable that holds the key")
    judge_prompt: str | None = Field(None, description="reward judge: a file with the prompt, instead of ours")
    judge_temperature: float | Literal["none"] = Field(
        0.0, description="reward judge: none leaves it out, for models that take none"
    )
    max_answer_tokens: int = Field(1024, ge=1, description="reward judge: of an answer, reasoning included")
    max_judge_calls: int | None = Field(None, ge=1, description="reward judge: requests, at most")
    max_judge_tokens: int | None = Field(None, ge=1, description="reward judge: tokens in and out, at most")
    max_judge_cost: float | None = Field(None, gt=0, description="reward judge: money, at most; needs both prices")
    judge_price_in: float | None = Field(None, ge=0, description="reward judge: of a million tokens of prompts")
    judge_price_out: float | None = Field(None, ge=0, description="reward judge: of a million tokens of answers")

    def foreign(self, objective: ObjectiveName) -> list[str]:
        """Settings that were changed although this objective does not look at them."""
        fields = [name for name in ObjectiveSettings.model_fields if name != "objective"]
        changed = [name for name in fields if getattr(self, name) != ObjectiveSettings.model_fields[name].default]
        owner: dict[str, ObjectiveName] = {n: "preference" if n in _OF_PREFERENCE else "reward" for n in fields}
        return [name for name in changed if owner[name] != objective]
