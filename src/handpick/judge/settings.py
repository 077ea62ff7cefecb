"""What can be set of a judge."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from handpick.errors import SettingsError
from handpick.fingerprint import Fingerprint, file_digest
from handpick.judge.answers import Usage


class JudgeSettings(BaseModel):
    """Which model judges, how it is asked, and what it may cost. The key itself is no setting: only where it stands.

    The caps hold for everything that is recorded in one cache file, over all runs that use it.

    Raises:
        SettingsError: a setting that would hold a key, or a cap on the cost without prices. Neither is repeated.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True)

    model: str = Field(min_length=1, description="the judge's name, as its server knows it")
    url: str | None = Field(None, description="base URL of an OpenAI-compatible server; default: OpenAI's own")
    key_env: str = Field("OPENAI_API_KEY", description="environment variable with the key; a local server needs none")
    prompt: str | None = Field(None, description="file to use instead of the prompt that ships")
    temperature: float | None = Field(0, ge=0, description="null leaves it out, for models that take none")
    seed: int | None = Field(0, description="null leaves it out, for servers that take none")
    max_answer_tokens: int = Field(1024, ge=1, description="tokens of an answer, reasoning included")
    max_calls: int | None = Field(None, ge=0, description="requests after which to stop, repeated ones included")
    max_tokens_total: int | None = Field(None, ge=0, description="tokens after which to stop, in and out")
    max_cost: float | None = Field(None, ge=0, description="money after which to stop; needs both prices")
    price_in: float | None = Field(None, ge=0, description="of a million tokens of prompts")
    price_out: float | None = Field(None, ge=0, description="of a million tokens of answers")
    workers: int = Field(8, ge=1, description="requests at a time")
    timeout_s: float = Field(120, gt=0, description="seconds without a byte from the server")
    retries: int = Field(6, ge=0, description="of a request that fails in a way that may pass")
    backoff_s: float = Field(
        1, ge=0, description="about so many seconds before the first retry, and twice as many each time"
    )

    @classmethod
    def checked(cls, values: Mapping[str, Any]) -> "JudgeSettings":
        """Settings from plain values, by the names of the fields.

        Raises:
            SettingsError: a name is unknown or a value is wrong. Values are not repeated: one may be a misplaced key.
        """
        try:
            return cls(**values)
        except ValidationError as error:
            first = error.errors(include_input=False)[0]
        name = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            raise SettingsError(f"a judge has no setting {name!r}; it has {', '.join(cls.model_fields)}")
        raise SettingsError(f"the judge's setting {name}: {first['msg']}; change it")

    def fingerprint(self) -> Fingerprint:
        """What decides a verdict: not the caps, nor how, where and how often a server is asked.

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
        """Money; None without prices."""
        if self.price_in is None or self.price_out is None:
            return None
        return usage.cost(self.price_in, self.price_out)

    @model_validator(mode="after")
    def _holds_no_key(self) -> "JudgeSettings":
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
    def _cost_has_prices(self) -> "JudgeSettings":
        if self.max_cost is not None and (self.price_in is None or self.price_out is None):
            raise SettingsError("max_cost needs price_in and price_out, the prices of a million tokens in and out")
        return self
