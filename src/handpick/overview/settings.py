"""What ``handpick look`` takes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import ConfigDict, Field, model_validator

from handpick.data.reading import ReadingSettings
from handpick.data.template_args import DESCRIPTION, FLAG, METAVAR, TemplateArgs
from handpick.errors import SettingsError
from handpick.flag_names import Flag, parse_settings
from handpick.settings.values import Paths

SAMPLE = 20_000  # a share is then known within 0.7 percentage points


class LookSettings(ReadingSettings):
    """What is looked at, and how closely."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    pool: Paths = Field(description="file, folder, pattern or Hub data set to look at; several")
    query: Paths = Field([], description="query set to show beside it; several")
    model: str | None = Field(
        None, description="counts its tokens, and says what its chat template does not write; the tokenizer will do"
    )
    max_length: int = Field(2048, ge=2, description="tokens of an example that training keeps")
    template_args: Annotated[TemplateArgs, Flag(FLAG, METAVAR)] = Field({}, description=DESCRIPTION)
    all: bool = Field(False, description="look at every record for languages, tokens and template, not at a sample")
    sample: int = Field(SAMPLE, ge=1, description="records to look at for these")
    seed: int = Field(0, ge=0, lt=2**32, description="of the sample")
    cache: Annotated[str | None, Flag(metavar="DIR")] = Field(
        None,
        description="folder of parsed records, to use and to keep, such as runs/gsm8k/features/parsed; "
        "without it files are parsed anew each time",
    )
    out: Annotated[str | None, Flag(metavar="FILE.html")] = Field(None, description="page to write, for a browser")

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Self:
        """Return settings from plain values; pydantic's complaint becomes one sentence.

        Raises:
            SettingsError: a name is unknown, a value is wrong, or nothing would read it.
        """
        return parse_settings(cls, values)

    @model_validator(mode="after")
    def _check(self) -> Self:
        given = self.model_fields_set
        if self.model is None and "max_length" in given:
            raise SettingsError("--max-length is for tokens, and none are counted: name a --model, or leave it out")
        if self.model is None and self.template_args:
            raise SettingsError("--template-arg is for a model's chat template: name a --model, or leave it out")
        if self.all and (unread := [name for name in ("sample", "seed") if name in given]):
            raise SettingsError(
                f"--{unread[0]} is for a sample, and --all looks at every record: leave one of them out"
            )
        if self.out is not None and (Path(self.out).suffix not in (".html", ".htm") or Path(self.out).is_dir()):
            raise SettingsError(f"--out takes the name of a page, such as look.html, not {self.out!r}")
        return self
