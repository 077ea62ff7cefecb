"""What can be set of a judge."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from handpick.errors import SettingsError
from handpick.fingerprint import Fingerprint, file_digest
from handpick.flag_names import NO_FLAG, Flag, flag_of
from handpick.judge.answers import Usage

_NONE = "none"  # how flags and files say that a parameter is left out of the request
Temperature = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def _none_as_word(value: Any) -> Any:
    return None if value == _NONE else value


class JudgeOptions(BaseModel):
    """How a judge is asked, and what it may cost. The key itself is no setting: only where it stands.

    The caps hold for everything that is recorded in one cache file, over all runs that use it.

    Raises:
        SettingsError: a setting that would hold a key, or a cap on the cost without prices. Neither is repeated.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False)

    url: Annotated[str | None, Flag("judge_url", "URL")] = Field(
        None, description="OpenAI-compatible server (default: OpenAI's own)"
    )
    key_env: Annotated[str, Flag("judge_key_env")] = Field("OPENAI_API_KEY", description="variable that holds the key")
    prompt: Annotated[str | None, Flag("judge_prompt", "FILE")] = Field(
        None, description="file with the prompt, instead of ours"
    )
    workers: Annotated[int, Flag("judge_workers")] = Field(8, ge=1, description="requests at a time")
    temperature: Annotated[
        Temperature | None,
        BeforeValidator(_none_as_word),
        Flag("judge_temperature", f"N|{_NONE}"),
    ] = Field(0, description="its temperature; none leaves it out, for models that take none")
    seed: Annotated[int | None, BeforeValidator(_none_as_word), Flag("judge_seed", f"N|{_NONE}")] = Field(
        0, description="seed that it is sent; none leaves it out, for servers that take none"
    )
    max_answer_tokens: int = Field(1024, ge=1, description="tokens of a judge's answer, at most, reasoning included")
    max_calls: Annotated[int | None, Flag("max_judge_calls")] = Field(None, ge=1, description="requests, at most")
    max_tokens_total: Annotated[int | None, Flag("max_judge_tokens")] = Field(
        None, ge=1, description="tokens in and out, at most"
    )
    max_cost: Annotated[float | None, Flag("max_judge_cost")] = Field(
        None, gt=0, allow_inf_nan=False, description="money, at most; needs both prices"
    )
    price_in: Annotated[float | None, Flag("judge_price_in")] = Field(
        None, ge=0, allow_inf_nan=False, description="of a million tokens of prompts"
    )
    price_out: Annotated[float | None, Flag("judge_price_out")] = Field(
        None, ge=0, allow_inf_nan=False, description="of a million tokens of answers"
    )
    timeout_s: Annotated[float, Flag("judge_timeout", "SECONDS")] = Field(
        120, gt=0, allow_inf_nan=False, description="seconds without a byte from the server before it is asked again"
    )
    retries: Annotated[int, Flag("judge_retries")] = Field(
        6, ge=0, description="how often a request that fails in a way that may pass is sent again"
    )
    backoff_s: Annotated[float, NO_FLAG] = Field(
        1,
        ge=0,
        allow_inf_nan=False,
        description="about so many seconds before the first retry, and twice as many each time",
    )

    @classmethod
    def from_values(cls, values: Mapping[str, Any] | Self) -> Self:
        """Return settings from plain values, by the names of the fields; settings stay as they are.

        Raises:
            SettingsError: a name is unknown or a value is wrong. Values are not repeated: one may be a misplaced key.
        """
        if isinstance(values, cls):
            return values
        try:
            return cls(**dict(values))
        except ValidationError as error:
            first = error.errors(include_input=False)[0]
        name = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            raise SettingsError(f"a judge has no setting {name!r}; it has {', '.join(cls.model_fields)}")
        raise SettingsError(f"the judge's setting {name}: {first['msg']}; change it")

    def given_flags(self) -> list[str]:
        """Return the flags of what was set, in order."""
        return [flag_of(type(self), name) for name in type(self).model_fields if name in self.model_fields_set]

    def for_model(self, model: str) -> "JudgeSettings":
        """Return the settings of this judge with its model's name; what was not set stays so."""
        return JudgeSettings.from_values({"model": model, **self.model_dump(exclude_unset=True)})

    @model_validator(mode="after")
    def _check_no_key(self) -> Self:
        if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", self.key_env):
            raise SettingsError(
                "the judge's key_env must be the name of an environment variable, in capitals such as OPENAI_API_KEY; "
                "put the key into that variable, not into the settings"
            )
        if self.url is not None:
            try:
                parts = urlsplit(self.url)
                _ = parts.port
            except ValueError:
                parts = urlsplit("")
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise SettingsError("the judge's url is no http or https address such as http://localhost:8000/v1")
            if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
                raise SettingsError(
                    "the judge's url must hold no user, password or query; put the key into the environment variable "
                    f"{self.key_env}"
                )
        return self

    @model_validator(mode="after")
    def _check_prices(self) -> Self:
        if self.max_cost is not None and (self.price_in is None or self.price_out is None):
            raise SettingsError(
                "max_cost needs price_in and price_out, the prices of a million tokens in and out (--judge-price-in, "
                "--judge-price-out)"
            )
        return self


# Complaints of pydantic about the settings around it would repeat the value, which may be a misplaced key.
JudgeField = Annotated[JudgeOptions, BeforeValidator(JudgeOptions.from_values)]


class JudgeSettings(JudgeOptions):
    """A judge: its options, and which model it is."""

    model: str = Field(min_length=1, description="the judge's name, as its server knows it")

    def fingerprint(self) -> Fingerprint:
        """Return what decides a verdict: not the caps, nor how, where and how often a server is asked.

        Raises:
            DataError: the prompt file cannot be read.
        """
        prompt = None if self.prompt is None else file_digest(self.prompt)
        return {
            "model": self.model,
            "temperature": self.temperature,
            "seed": self.seed,
            "max_answer_tokens": self.max_answer_tokens,
            "prompt": prompt,
        }

    def cost(self, usage: Usage) -> float | None:
        """Return the money it costs; None without prices."""
        if self.price_in is None or self.price_out is None:
            return None
        return usage.cost(self.price_in, self.price_out)
