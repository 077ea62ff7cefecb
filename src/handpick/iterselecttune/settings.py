"""What can be set of ``handpick iterselect``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, field_serializer

from handpick.budget import Budget
from handpick.choices import Dtype
from handpick.data.reading import ReadingSettings
from handpick.data.template_args import DESCRIPTION, FLAG, METAVAR, TemplateArgs
from handpick.errors import SettingsError
from handpick.flag_names import NO_FLAG, Flag, flag_of, parse_settings
from handpick.iterselecttune.classifier_settings import ClassifierSettings
from handpick.judge.settings import JudgeField, JudgeOptions
from handpick.layout import IterSelectLayout
from handpick.run_place import folder_of
from handpick.settings.executor import ExecutorSettings
from handpick.settings.representation import RepresentationSettings
from handpick.settings.values import Paths

Verdicts = Literal["pairwise", "pointwise"]
Reads = Literal["prompt", "conversation"]
READS_UNSAID: Reads = "conversation"  # of what was written before there was the setting
RULE = "rule:"
# headings in the help of the command
JUDGE, ROUNDS, ANSWERS, CLASSIFIER = "The judge", "Rounds", "Answers of the base model", "Embeddings and classifier"


class IterSelectSettings(ReadingSettings, ExecutorSettings):
    """What ``handpick iterselect`` takes.

    α, 100 clusters, three rounds and reading the prompt alone are the paper's (arXiv 2410.13464); 1,500 judged a round,
    the size of the diverse subset and ``hard_below`` are ours.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    pool: Paths = Field(min_length=1, description="file or data set to choose from; several")
    model: str = Field(description="base model, whose answers are judged")
    judge: Annotated[str, Flag(metavar="MODEL|local:PATH|rule:REWARD")] = Field(
        min_length=1,
        description="who judges: a model by its server's name for it, one to load here, or a metric instead of a judge",
    )
    budget: Annotated[str, Flag(metavar="N|N%")] = Field("20%", description="how much to choose")
    out: str = Field("runs/iterselect", description="folder for all that is written")
    seed: int = Field(0, ge=0, lt=2**32, description="of the diverse subset and the classifier")

    rounds: Annotated[int, Flag(heading=ROUNDS)] = Field(3, ge=1, description="at most")
    batch: Annotated[int, Flag(heading=ROUNDS)] = Field(1500, ge=1, description="examples judged a round")
    alpha: Annotated[float, Flag(heading=ROUNDS)] = Field(
        0.6, ge=0, le=1, description="weight of the classifier against likeness to hard examples"
    )
    clusters: Annotated[int, Flag(heading=ROUNDS)] = Field(100, ge=1, description="k-means clusters, which take turns")
    diverse: Annotated[int | None, Flag(heading=ROUNDS)] = Field(
        None, ge=1, description="examples of the diverse subset (default: 12 × batch)"
    )
    patience: Annotated[int, Flag(heading=ROUNDS)] = Field(
        1, ge=0, description="rounds without a rise of the held-out accuracy after which to stop; 0: never"
    )

    verdict: Annotated[Verdicts, Flag(heading=JUDGE)] = Field(
        "pairwise", description="both answers side by side in both orders, or a score each"
    )
    hard_below: Annotated[float, Flag(heading=JUDGE)] = Field(
        0.5, description="rule: an answer with a lower score is hard"
    )
    judging: Annotated[JudgeField, Flag(heading=JUDGE)] = Field(
        JudgeOptions(), description="of a judge: settings besides its model"
    )
    allow_code_execution: Annotated[bool, Flag(heading=JUDGE)] = Field(
        False, description="rule:unit-tests: run the model's code, in a sandbox"
    )
    allow_weak_sandbox: Annotated[bool, Flag(heading=JUDGE)] = Field(
        False, description="run it also where nothing keeps it from files, sockets, processes"
    )
    max_new_tokens: Annotated[int, Flag(heading=ANSWERS)] = Field(512, ge=1, description="tokens of an answer, at most")
    max_length: Annotated[int | None, Flag(heading=ANSWERS)] = Field(
        None, ge=8, description="tokens of prompt and answer (default: 2048, or what fits)"
    )
    template_args: Annotated[TemplateArgs, Flag(FLAG, METAVAR, ANSWERS)] = Field({}, description=DESCRIPTION)
    dtype: Annotated[Dtype, Flag(heading=ANSWERS)] = Field("auto", description="what models compute in")

    reads: Annotated[Reads, Flag(heading=CLASSIFIER)] = Field(
        "prompt", description="what they read of an example: all before its answer, or the answer too"
    )
    encoder: Annotated[str, Flag(heading=CLASSIFIER)] = Field(
        RepresentationSettings.model_fields["encoder"].default,
        description="sentence encoder (default: GTR-T5-base); all-minilm-l6-v2 comes in a package",
    )
    store: Annotated[str | None, Flag(heading=CLASSIFIER)] = Field(
        None, description="embeddings that `represent --representation embed-prompt` made (embed, of conversations)"
    )
    classifier: Annotated[ClassifierSettings, Flag(heading=CLASSIFIER)] = Field(
        ClassifierSettings(), description="settings of the classifier"
    )
    workers: Annotated[int | None, Flag(heading=CLASSIFIER)] = Field(
        None,
        ge=1,
        exclude=True,
        description="processes that embed, classify and answer (default: this one)",
    )
    max_quarantined: Annotated[int | None, NO_FLAG] = Field(
        None, ge=0, description="stop when more records than this are bad"
    )

    @field_serializer("judging")
    def _as_given(self, judging: JudgeOptions) -> dict[str, Any]:
        return judging.model_dump(mode="json", exclude_unset=True)

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> "IterSelectSettings":
        """Return settings from plain values; pydantic's complaint becomes one sentence.

        Raises:
            SettingsError: a name is unknown or a value is wrong, or nothing would look at it.
        """
        found = parse_settings(cls, values)
        if Budget.parse(found.budget).kind == "tokens":
            raise SettingsError("iterselect counts examples: give --budget as a number or a percent")
        found._check_unused_settings()
        return found

    def _check_unused_settings(self) -> None:
        """Refuse what would not be looked at."""
        if self.judge.startswith(RULE):
            if unread := [*self.judging.given_flags(), *self._given_flags("verdict")]:
                raise SettingsError(f"{unread[0]} is for a judge, and {self.judge} is a rule: leave it out")
        elif unread := self._given_flags("allow_code_execution", "allow_weak_sandbox", "hard_below"):
            raise SettingsError(f"{unread[0]} is for a rule, and {self.judge} is a judge: leave it out")

    def _given_flags(self, *names: str) -> list[str]:
        given = [name for name in names if name in self.model_fields_set and getattr(self, name) is not False]
        return [flag_of(type(self), name) for name in given]

    @property
    def folder(self) -> Path:
        """Where everything is written; of a run in a bucket, the folder of this machine that is kept there."""
        return folder_of(self.out)

    @property
    def layout(self) -> IterSelectLayout:
        """The names in it."""
        return IterSelectLayout(self.folder)

    @property
    def n_diverse(self) -> int:
        """Examples of the diverse subset, where the pool has as many."""
        return self.diverse or 12 * self.batch


_OF_THE_ADDRESS = {"url", "key_env"}


def written_settings(settings: IterSelectSettings) -> dict[str, Any]:
    """Return settings as a run writes them down: without the judge's address, which others need not know."""
    written = settings.model_dump(mode="json", exclude_none=True)
    judging = {name: value for name, value in written["judging"].items() if name not in _OF_THE_ADDRESS}
    return written | {"judging": judging}
