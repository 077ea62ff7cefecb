"""What can be set of ``handpick evaluate``: of a model that is measured, and of a task that it is measured on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from handpick.choices import Dtype
from handpick.data.reading import ReadingSettings
from handpick.data.template_args import DESCRIPTION, FLAG, METAVAR, TemplateArgs
from handpick.errors import SettingsError
from handpick.evaluation.metrics import answers_per_prompt, check_metric
from handpick.flag_names import NO_FLAG, Flag, flag_of, parse_settings
from handpick.judge.settings import JudgeField, JudgeOptions
from handpick.layout import EvaluationLayout
from handpick.run_place import folder_of, name_of

# headings in the help of the command
HOW, ANSWERS, JUDGES = "How", "Answers", "Against another model, and judges"


def _as_list(value: Any) -> Any:
    return [str(value)] if isinstance(value, str | Path) else value


Texts = Annotated[list[str], BeforeValidator(_as_list)]


class TaskSettings(ReadingSettings):
    """What is measured on which records."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    files: Annotated[Texts, NO_FLAG] = Field(min_length=1, description="test files")
    metrics: Annotated[Texts, Flag("metric", "METRIC")] = Field(
        ["loss"],
        min_length=1,
        description="what is measured: loss (the default), choice-likelihood, pass@K, ifeval, a reward such as "
        "exact-match:last-number, or a function of your own, my_metrics.py:politeness; several",
    )
    choices: Annotated[Texts, Flag("choice", "TEXT")] = Field(
        [], description="choice-likelihood: an answer to choose from, where records have none; several"
    )
    example_field: str | None = Field(
        None, description="field that repetitions of one example share; they count as one"
    )
    # a field of another name than the default must be there
    subtask_field: str | None = Field("subtask", description="field that names a record's subtask")
    limit: int | None = Field(None, ge=1, description="a fixed random sample of so many records")
    max_new_tokens: Annotated[int, Flag(heading=ANSWERS)] = Field(256, ge=1, description="tokens of an answer, at most")
    stop: Annotated[Texts, Flag(heading=ANSWERS)] = Field([], description="text that ends an answer; several")
    samples: Annotated[int | None, Flag(heading=ANSWERS)] = Field(
        None, ge=1, description="pass@K: answers a prompt (default: 2 K; 1 greedy one for pass@1)"
    )
    temperature: Annotated[float, Flag(heading=ANSWERS)] = Field(0.8, gt=0, description="pass@K: of sampling")
    top_p: Annotated[float, NO_FLAG] = Field(0.95, gt=0, le=1, description="pass@K: of sampling")
    seed: Annotated[int, NO_FLAG] = Field(0, ge=0, lt=2**32, description="pass@K: of sampling")

    @field_validator("metrics")
    @classmethod
    def _check_metrics(cls, metrics: list[str]) -> list[str]:
        for metric in metrics:
            check_metric(metric)
        return list(dict.fromkeys(metrics))

    @model_validator(mode="after")
    def _check_samples(self) -> "TaskSettings":
        most = max((k for metric in self.metrics if (k := answers_per_prompt(metric))), default=0)
        if self.samples is not None and self.samples < most:
            raise SettingsError(f"pass@{most} needs at least {most} samples, not {self.samples}")
        if self.samples is not None and not most:
            raise SettingsError("samples are for pass@K: name it as a metric, or leave samples out")
        return self

    @property
    def answers_drawn(self) -> int:
        """Answers that are drawn from each prompt for pass@K; 0 where the greedy answer alone is looked at."""
        most = max((k for metric in self.metrics if (k := answers_per_prompt(metric))), default=0)
        if self.samples is None:
            return 2 * most if most > 1 else 0
        return self.samples if most else 0


class EvaluateSettings(BaseModel):
    """What ``handpick evaluate`` takes, besides the tasks."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    model: str = Field(description="base model, fine-tuned model's folder or adapter's")
    base: Annotated[str | None, Flag(heading=HOW)] = Field(
        None, description="an adapter's base model, where it is not the one it names"
    )
    dtype: Annotated[Dtype, Flag(heading=HOW)] = Field("float32", description="what the model computes in")
    max_length: Annotated[int | None, Flag(heading=HOW)] = Field(
        None, ge=2, description="tokens of a conversation (default: 2048, or what it can read)"
    )
    template_args: Annotated[TemplateArgs, Flag(FLAG, METAVAR, HOW)] = Field({}, description=DESCRIPTION)
    batch_tokens: Annotated[int | None, Flag(heading=HOW)] = Field(
        None, ge=1, description="padded tokens of a batch, at most"
    )
    out: str | None = Field(
        None, description="folder for evaluation.json and predictions (default: runs/evaluation-MODEL)"
    )
    allow_code_execution: Annotated[bool, Flag(heading=ANSWERS)] = Field(
        False, description="pass@K, unit-tests: run the model's code, in a sandbox"
    )
    allow_weak_sandbox: Annotated[bool, Flag(heading=ANSWERS)] = Field(
        False, description="run it also where nothing keeps it from files, sockets, processes"
    )
    judge: Annotated[JudgeField, Flag(heading=JUDGES)] = Field(
        JudgeOptions(), description="of a judge: settings besides its model"
    )

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Self:
        """Return settings from plain values; pydantic's complaint becomes one sentence.

        Raises:
            SettingsError: a name is unknown or a value is wrong.
        """
        return parse_settings(cls, values)

    @property
    def place(self) -> str | Path:
        """What the evaluation is called: its address where it is in a bucket, else its folder."""
        return self.out or Path("runs") / f"evaluation-{'-'.join(Path(self.model).parts[-2:]).strip('/')}"

    @property
    def folder(self) -> Path:
        """Where everything is written; of one in a bucket, the folder of this machine that is kept there."""
        return folder_of(self.place)

    @property
    def layout(self) -> EvaluationLayout:
        """The names in it."""
        return EvaluationLayout(self.folder)

    def name_of(self, path: Path) -> str:
        """Return what a file of the evaluation is called: in a bucket, by its address."""
        return name_of(self.place, path)


def parse_task(values: Mapping[str, Any]) -> TaskSettings:
    """Make settings of a task, as ``EvaluateSettings.from_values`` does.

    What none of its metrics looks at is refused too.
    """
    found = parse_settings(TaskSettings, values)
    if not found.answers_drawn and (unread := [name for name in ("temperature", "top_p", "seed") if name in values]):
        flag = flag_of(TaskSettings, unread[0])
        raise SettingsError(
            f"{flag} is for drawn answers, and {' and '.join(found.metrics)} draw none: give --metric pass@10, or "
            f"pass@1 with --samples, or leave {flag} out"
        )
    if found.choices and not any(metric.startswith("choice-likelihood") for metric in found.metrics):
        raise SettingsError("--choice is for choice-likelihood: give it as --metric, or leave --choice out")
    return found
