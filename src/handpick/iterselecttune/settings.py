"""What can be set of ``handpick iterselect``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from handpick.budget import Budget
from handpick.choices import Dtype
from handpick.errors import SettingsError
from handpick.iterselecttune.classifier import ClassifierSettings
from handpick.layout import IterSelectLayout
from handpick.scorers.embedding import DEFAULT_ENCODER
from handpick.settings import Paths

Verdicts = Literal["pairwise", "pointwise"]
RULE = "rule:"


class IterSelectSettings(BaseModel):
    """What ``handpick iterselect`` takes.

    α, 100 clusters and three rounds are the paper's (arXiv 2410.13464); 1,500 judged a round, the size of the diverse
    subset and ``hard_below`` are ours.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    pool: Paths = Field(min_length=1, description="files to choose from, or a data set on the Hub")
    model: str = Field(description="the base model, whose answers are judged: a folder or a name on the Hub")
    judge: str = Field(
        min_length=1, description="a model as its server knows it, local:PATH, or rule:REWARD for no judge at all"
    )
    budget: str = Field("20%", description="how much to choose: a number of examples or a percent of the pool")
    out: str = Field("runs/iterselect", description="folder for everything that is written")
    seed: int = Field(0, ge=0, lt=2**32, description="of the diverse subset and the classifier")

    rounds: int = Field(3, ge=1, description="rounds of answering, judging and training the classifier, at most")
    batch: int = Field(1500, ge=1, description="examples that are judged a round, and taken at a time in the end")
    alpha: float = Field(0.6, ge=0, le=1, description="weight of the classifier against likeness to hard examples")
    clusters: int = Field(100, ge=1, description="k-means clusters of the embeddings, which take turns")
    diverse: int | None = Field(
        None, ge=1, description="examples of the diverse subset that is judged from; default 12 × batch"
    )
    patience: int = Field(
        1, ge=0, description="rounds without a rise of the held-out accuracy after which to stop; 0: all rounds"
    )

    verdict: Verdicts = Field("pairwise", description="both answers side by side in both orders, or a score each")
    hard_below: float = Field(0.5, description="rule: an answer with a lower score is worse than the reference")
    judging: dict[str, Any] = Field({}, description="of a judge: settings besides its model")
    allow_code_execution: bool = Field(False, description="rule:unit-tests: run the model's code, in a sandbox")
    allow_weak_sandbox: bool = Field(False, description="run it also where nothing shuts it off from files and network")
    max_new_tokens: int = Field(512, ge=1, description="tokens of the base model's answer, at most")
    max_length: int | None = Field(None, ge=8, description="tokens of prompt and answer; default 2048, or what fits")
    dtype: Dtype = Field("auto", description="what the models compute in")

    encoder: str = Field(DEFAULT_ENCODER, description="sentence encoder: a folder, a name on the Hub, all-minilm-l6-v2")
    store: str | None = Field(None, description="embeddings that `handpick represent --method embed` made of the pool")
    classifier: ClassifierSettings = Field(ClassifierSettings(), description="settings of the classifier")
    max_quarantined: int | None = Field(None, ge=0, description="stop when more records than this are bad")

    @classmethod
    def checked(cls, values: Mapping[str, Any]) -> "IterSelectSettings":
        """Settings from plain values; pydantic's complaint becomes one sentence.

        Raises:
            SettingsError: a name is unknown or a value is wrong.
        """
        try:
            found = cls(**values)
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(map(str, first["loc"]))
            if first["type"] == "missing":
                raise SettingsError(f"no {name} given: name one with --{name}") from error
            wrong = first["msg"].removeprefix("Input ").removeprefix("Value error, ")
            raise SettingsError(f"--{name.replace('_', '-')} {wrong}, not {first['input']!r}") from error
        if Budget.parse(found.budget).kind == "tokens":
            raise SettingsError("iterselect counts examples: give --budget as a number or a percent")
        found._check_read()
        return found

    def _check_read(self) -> None:
        """Refuse what would not be looked at."""
        if self.judge.startswith(RULE):
            foreign = [*self.judging, *(["verdict"] if "verdict" in self.model_fields_set else [])]
            if foreign:
                raise SettingsError(f"{foreign[0]} is for a judge, and {self.judge} is a rule: leave it out")
            return
        given = {
            "allow_code_execution": self.allow_code_execution,
            "allow_weak_sandbox": self.allow_weak_sandbox,
            "hard_below": "hard_below" in self.model_fields_set,
        }
        if foreign := [name for name, is_given in given.items() if is_given]:
            raise SettingsError(f"{foreign[0]} is for a rule, and {self.judge} is a judge: leave it out")

    @property
    def folder(self) -> Path:
        """Where everything is written."""
        return Path(self.out)

    @property
    def layout(self) -> IterSelectLayout:
        """The names in it."""
        return IterSelectLayout(self.folder)

    @property
    def n_diverse(self) -> int:
        """Examples of the diverse subset, where the pool has as many."""
        return self.diverse or 12 * self.batch
