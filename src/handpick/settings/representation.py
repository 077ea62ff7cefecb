"""What can be set of a representation."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo

from handpick.budget import Budget
from handpick.choices import Dtype, EpsMode, ProjectionKind, Quantization
from handpick.data.template_args import DESCRIPTION, FLAG, METAVAR, TemplateArgs
from handpick.errors import SettingsError
from handpick.flag_names import Flag
from handpick.layer_numbers import LayerNumbers
from handpick.representations import SCORERS, find_scorer

_SHOWN = {name: f"{name}:{spec.argument}" if spec.argument else name for name, spec in SCORERS.items()}
_METAVAR = "|".join(_SHOWN.values())
_CHEAP_METAVAR = "|".join(_SHOWN[name] for name, spec in SCORERS.items() if spec.gives_cheap_features)


def _check_known(representation: str) -> str:
    find_scorer(representation)
    return representation


def _check_part(amount: str, info: ValidationInfo) -> str:
    try:
        budget = Budget.parse(amount)
        if budget.kind != "tokens":
            return str(budget)
    except SettingsError:
        pass  # of a budget's words; said in the setting's own
    raise SettingsError(
        f"{info.field_name} is a number of examples, such as 4096, or a share, such as 2%: not {amount!r}"
    )


def _check_part_or_none(amount: str, info: ValidationInfo) -> str:
    return "0" if amount.strip() in ("0", "0%") else _check_part(amount, info)


def _check_cheap(representation: str) -> str:
    spec = find_scorer(representation)
    if spec.gives_cheap_features:
        return representation
    if spec.stores is not None and SCORERS[spec.stores].gives_cheap_features:
        raise SettingsError(
            f"landmark_features {representation} is {spec.stores} with another side of the queries, and only the "
            f"pool's side is spread over: give {spec.stores}"
        )
    raise SettingsError(
        f"landmark_features {representation} has no features of the pool that are cheaper than gradients: choose "
        f"one of {_CHEAP_METAVAR.replace('|', ', ')}"
    )


Part = Annotated[str, BeforeValidator(str), AfterValidator(_check_part), Flag(metavar="NUMBER|SHARE")]
PartOrNone = Annotated[str, BeforeValidator(str), AfterValidator(_check_part_or_none), Flag(metavar="NUMBER|SHARE")]


def _check_paths(paths: str) -> str:
    if paths not in ("one", "subtask") and not re.fullmatch(r"clusters:([2-9]|[1-9]\d+)", paths):
        raise ValueError("should be one, subtask, or clusters:N with N of 2 or more")
    return paths


class RepresentationSettings(BaseModel):
    """Which representation, and what is set of the others than the gradient's."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    representation: Annotated[Annotated[str, AfterValidator(_check_known)] | None, Flag(metavar=_METAVAR)] = Field(
        None, description="instead of the method's own"
    )
    encoder: str = Field(
        "sentence-transformers/gtr-t5-base", description="embed: a sentence encoder, a folder or a name on the Hub"
    )
    dsir_smoothing: float = Field(
        1e-8, gt=0, description="dsir: added to every n-gram's probability; with few queries 1e-4 chose far better here"
    )
    gist_dim: int = Field(150, ge=1, description="gist: dimensions of the queries' subspace, at most")
    tacs_paths: Annotated[Annotated[str, AfterValidator(_check_paths)], Flag(metavar="one|subtask|clusters:N")] = Field(
        "one", description="tacs: one path for all queries, one for each subtask, or for each of N clusters of them"
    )
    tacs_rate: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="tacs: learning rate of a path; default: calibrated"
    )
    tacs_depth: int | None = Field(
        None, ge=2, description="tacs: passes over the queries in a path; default: calibrated"
    )
    whitening_damping: float = Field(
        10.0, gt=0, description="whitened: what is added to every eigenvalue, in mean eigenvalues"
    )
    landmarks: Part = Field(
        "4096", description="landmarks: examples whose gradient is taken, a number or a share of the pool"
    )
    landmark_draw: Literal["random", "kmeans"] = Field(
        "random", description="landmarks: drawn from the pool, or one from each cluster of the cheap features"
    )
    landmark_features: Annotated[str, AfterValidator(_check_cheap), Flag(metavar=_CHEAP_METAVAR)] = Field(
        "rds+", description="landmarks: the cheap features of the whole pool that gradients are spread over"
    )
    refine: PartOrNone = Field(
        "0", description="landmarks: how many of the uncertain get their gradient after all, a number or a share"
    )


class GradientSettings(BaseModel):
    """What decides the gradient features of an example, besides the checkpoints and the side it is on."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    model: str | None = Field(None, description="base model: a folder, or a name on the Hub")
    seed: int = Field(0, ge=0, lt=2**32, description="of the warmup, the projection and random choices")
    max_length: int = Field(2048, ge=2, description="tokens of an example that are kept")
    template_args: Annotated[TemplateArgs, Flag(FLAG, METAVAR)] = Field({}, description=DESCRIPTION)
    eps_mode: EpsMode = Field("less", description="where Adam's epsilon stands: as in LESS's code, or as in AdamW")
    projection: ProjectionKind = Field("sparse", description="none keeps the raw gradient")
    projection_dim: int = Field(8192, gt=0, description="features an example")
    projection_nonzeros: int = Field(1, ge=1, le=8, description="sparse: how many outputs a coordinate goes to")
    response_tokens: int | None = Field(
        None, ge=1, description="learn the first N tokens of a candidate's answer alone: faster, an approximation"
    )
    layers: Annotated[LayerNumbers, Flag(metavar="all|late|LIST")] = Field(
        "all", description="of the model that carry the gradient; late: the last third; or such as 12-23 or 0,5,11"
    )
    dtype: Dtype = Field("auto", description="compute type; auto: bfloat16 where GPU or CPU has instructions for it")
    quantization: Quantization = Field("none", description="of the base model's weights, by bitsandbytes: NF4 or int8")
    gradient_checkpointing: bool = Field(
        False, description="keep no activations but make them again: the same rows, slower, for models that do not fit"
    )
    batch_tokens: int | None = Field(
        None, ge=1, description="padded tokens a forward pass; else 1024 on a CPU, 4096 on a GPU or with rademacher"
    )
