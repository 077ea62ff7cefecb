"""What can be set of an audition, besides what a selection has."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from handpick.choices import suggest
from handpick.data.reading import ReadingSettings
from handpick.errors import SettingsError
from handpick.evaluation.metrics import check_metric
from handpick.flag_names import NO_FLAG, Flag, parse_settings
from handpick.methods import AUTO, METHODS
from handpick.studies.cells import RANDOM

HEADING = "Which method: --method auto"
IfNone = Literal["random", "union", "stop"]
# one of each price: gradient-rr takes as long as less-rr and was nowhere better than it (docs/study.md)
CANDIDATES = ("bm25", "rds+", "less-rr")
# of what is measured; another file's records would be taken for the queries
_OF_THE_AUDITION = frozenset({"files", "metrics", "limit", *ReadingSettings.model_fields})
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd]?)")
_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def _candidates(value: Any) -> Any:
    """Parse ``bm25,rds+`` as flags have it, a list, or NAME: settings, where nothing means the method as it is."""
    if isinstance(value, Mapping):
        return {str(name): own or {} for name, own in value.items()}
    several = [value] if isinstance(value, str) else value
    if not isinstance(several, list | tuple) or not all(isinstance(each, str) for each in several):
        raise ValueError("should be names of methods, or NAME: settings")
    return {name: {} for each in several for name in re.split(r"[\s,]+", each.strip()) if name}


def parse_duration(value: Any) -> float:
    """Return seconds of ``90``, ``"90s"``, ``"30m"``, ``"2h"`` or ``"1.5d"``."""
    match = _DURATION.fullmatch(str(value).strip())
    if match is None or float(match[1]) <= 0:
        raise ValueError("should be a time such as 30m or 2h")
    return float(match[1]) * _SECONDS[match[2]]


Candidates = Annotated[dict[str, dict[str, Any]], BeforeValidator(_candidates)]
Duration = Annotated[float, BeforeValidator(parse_duration)]


class AuditionSettings(BaseModel):
    """How candidates are tried on the queries."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    methods: Annotated[Candidates, Flag("methods", "NAME,…", HEADING)] = Field(
        {name: {} for name in CANDIDATES},
        description="the candidates, names with commas between them; random draws are always beside them "
        f"(default: {','.join(CANDIDATES)})",
    )
    metric: Annotated[str, Flag("metric", "METRIC", HEADING)] = Field(
        "loss", description="what the candidates are judged by on the queries, as `handpick evaluate` has it"
    )
    time_limit: Annotated[Duration | None, Flag("time_limit", "TIME", HEADING)] = Field(
        None, description="of the audition and the choice, such as 30m or 2h: what it cannot hold is left out by name"
    )
    cost_limit: Annotated[float | None, Flag("cost_limit", "N", HEADING)] = Field(
        None, gt=0, description="the same in money; takes --price-per-hour"
    )
    price_per_hour: Annotated[float | None, Flag("price_per_hour", "N", HEADING)] = Field(
        None, gt=0, description="money that an hour of this machine costs"
    )
    if_none: Annotated[IfNone, Flag("if_none", "random|union|stop", HEADING)] = Field(
        "random",
        description="what is done if no candidate beats random draws: a random draw, the candidates' choices in turns "
        "with one, or nothing",
    )
    share: Annotated[float, Flag("share", "N", HEADING)] = Field(
        0.5, gt=0, le=1, description="of the budget, that a candidate is trained on in the last round"
    )
    repeats: Annotated[int | None, Flag("repeats", "N", HEADING)] = Field(
        None,
        ge=1,
        description="how often the queries are split in the last round (default: 2 up to 64 queries, else 1)",
    )
    draws: Annotated[int, Flag("draws", "N", HEADING)] = Field(
        8, ge=2, description="random draws beside them in the last round: the fewer, the less is clear"
    )
    train: Annotated[dict[str, Any], NO_FLAG] = Field(
        {}, description="settings that replace those of the trainings (handpick train has them)"
    )
    test: Annotated[dict[str, Any], NO_FLAG] = Field({}, description="settings of the measuring, as a study's tests")

    @field_validator("metric")
    @classmethod
    def _check_metric(cls, metric: str) -> str:
        check_metric(metric)
        if metric == "ifeval" or metric.startswith("judge:"):
            raise SettingsError(f"an audition cannot judge by {metric}: it has no one value a query, or asks a server")
        return metric

    @model_validator(mode="after")
    def _check_consistent(self) -> "AuditionSettings":
        if not self.candidates:
            raise SettingsError("methods: there is no candidate beside random draws: name some")
        for name, own in self.candidates.items():
            if AUTO in (name, own.get("method")):
                raise SettingsError("methods: auto is no candidate of its own audition: leave it out")
            if name not in METHODS and "method" not in own and "representation" not in own:
                raise SettingsError(
                    f"methods: there is no method {name!r}{suggest(METHODS, name)}; say which with `method:`, or take "
                    f"one of {', '.join(METHODS)}"
                )
        if foreign := [name for name in self.test if name in _OF_THE_AUDITION]:
            raise SettingsError(
                f"test: {foreign[0]} is the audition's own, which judges by one metric on all queries: leave it out"
            )
        if self.cost_limit is not None and self.price_per_hour is None:
            raise SettingsError("--cost-limit is in money, which takes --price-per-hour: give that too")
        return self

    @property
    def candidates(self) -> dict[str, dict[str, Any]]:
        """The methods without random, which is no candidate."""
        return {name: own for name, own in self.methods.items() if name != RANDOM}

    def metrics_of(self, has_answers: bool) -> list[str]:
        """Return what is measured on queries: the metric, and beside it the loss where they have answers."""
        return list(dict.fromkeys([*(["loss"] if has_answers else []), self.metric]))

    @property
    def limit_s(self) -> float | None:
        """Seconds that all may take; None: as many as it takes."""
        limits = [] if self.time_limit is None else [self.time_limit]
        if self.cost_limit is not None and self.price_per_hour is not None:
            limits.append(self.cost_limit / self.price_per_hour * 3600)
        return min(limits, default=None)

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> "AuditionSettings":
        """Return settings from plain values; pydantic's complaint becomes one sentence.

        Raises:
            SettingsError: a name is unknown or a value is wrong.
        """
        return parse_settings(cls, values)
