"""One request to the judge's server, and what came of it.

The openai client would retry by itself, but out of sight: its retries could pass a cap, it has backoffs of its own,
overlooks a ``Retry-After`` of two minutes and more, and leaves a body that is no JSON to the caller. So it sends each
request once, and here it is said what a failure means.

Nothing that leaves this module holds the key: exceptions of the client carry the request with its headers, so none is
raised or chained, and what a server says is searched for the key.
"""

import os
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, ValidationError

from handpick.errors import JudgeError
from handpick.judge.answers import JudgeAnswer
from handpick.judge.bounded import bounded_client
from handpick.judge.retry import retry_after
from handpick.judge.settings import JudgeSettings

_NO_KEY = "none"  # what a local server is shown: the client insists on something
_KEY_LENGTH = 16  # shorter ones (EMPTY, ollama) are no secrets, and could be words of an answer
_SHOWN = 200  # characters of a server's message
_LONGEST_WAIT = 600.0  # seconds that a server may ask to wait, within a run
_MAY_PASS = {408, 409, 425, 429}  # and 500 and above
_ENDS_RUN = {
    401: "check the key in {key_env} and run again",
    402: "top up the account and run again",
    403: "check the key in {key_env} and what it may use, and run again",
    404: "check the model's name and the URL, which mostly ends in /v1, and run again",
    405: "check the URL, which mostly ends in /v1, and run again",
    **dict.fromkeys((301, 302, 303, 307, 308), "it sends elsewhere: give the URL that it stands at, and run again"),
}


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, and how many tokens it took where the server says so."""

    answer: JudgeAnswer
    tokens: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no answer.

    ``retry`` says that it may pass, after ``wait`` seconds where the server named them. ``ends_run`` is what to do
    about it where all other requests would fail too. ``free`` says that the server refused, so that no tokens were
    used; after a time-out or a broken answer nobody knows.
    """

    reason: str
    retry: bool = False
    wait: float = 0.0
    ends_run: str | None = None
    free: bool = False


class _Message(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Completion(BaseModel):
    """Of a chat completion, what is needed of it."""

    choices: list[_Choice] = Field(min_length=1)
    usage: Any = None


class Connection:
    """Sends requests with the settings' parameters and the key from the environment.

    Raises:
        JudgeError: the openai package is not installed, or there is no key and the server is OpenAI's.
    """

    def __init__(self, settings: JudgeSettings) -> None:
        try:
            from openai import OpenAI
        except ImportError as error:
            raise JudgeError("a judge needs the openai package; install handpick[judge]") from error
        self._key_env = settings.key_env
        self._key = _key(settings)
        self._client = OpenAI(
            api_key=self._key or _NO_KEY,
            base_url=settings.url,
            timeout=settings.timeout_s,
            max_retries=0,
            http_client=bounded_client(settings.timeout_s),
        )
        self.address = settings.url or str(self._client.base_url)
        self._parameters = self._server_parameters(settings)
        self._has_answered = False

    def send(self, messages: list[dict[str, str]]) -> Reply | Failure:
        """Ask once."""
        from openai import APIConnectionError, APIStatusError, APITimeoutError

        try:
            response = self._client.chat.completions.with_raw_response.create(
                **{**self._parameters, "messages": messages}
            )
            return self._reply(response.content)
        except APIStatusError as error:
            return self._refusal_failure(error.status_code, error.response.headers, error.body)
        except APITimeoutError:
            return Failure("no answer in time", retry=True)
        except APIConnectionError as error:
            return self._connection_failure(error)
        except UnicodeEncodeError:
            return Failure("the prompt holds half of a surrogate pair, which cannot be sent", free=True)

    def _server_parameters(self, settings: JudgeSettings) -> dict[str, Any]:
        # OpenAI has renamed the limit and its newer models refuse the old name; other servers may not know the new one.
        limit = "max_completion_tokens" if urlsplit(self.address).hostname == "api.openai.com" else "max_tokens"
        parameters = {"model": settings.model, limit: settings.max_answer_tokens}
        optional = {"temperature": settings.temperature, "seed": settings.seed}
        return parameters | {name: value for name, value in optional.items() if value is not None}

    def _reply(self, body: bytes) -> Reply | Failure:
        try:
            completion = _Completion.model_validate_json(body)
        except ValidationError:
            shown = self._shorten_for_message(body.decode("utf-8", "replace"))
            return Failure(f"the answer is no chat completion: {shown}", retry=True)
        choice = completion.choices[0]
        text = self._redact_key(choice.message.content or "")
        self._has_answered = True
        return Reply(JudgeAnswer(text, cut=choice.finish_reason == "length"), _tokens(completion.usage))

    def _refusal_failure(self, status: int, headers: Mapping[str, str], body: object) -> Failure:
        code, message = _code_and_message(body)
        reason = f"status {status}: {self._shorten_for_message(message)}" if message else f"status {status}"
        wait = retry_after(headers, datetime.now(UTC)) or 0.0
        if code == "insufficient_quota":  # a 429 that no waiting helps
            return Failure(reason, ends_run=_ENDS_RUN[402], free=True)
        if wait > _LONGEST_WAIT:
            return Failure(reason, ends_run=f"wait {wait / 60:,.0f} minutes, as it asks, and run again", free=True)
        if status in _ENDS_RUN and not (status == 403 and self._has_answered):  # else the prompt is what is forbidden
            return Failure(reason, ends_run=_ENDS_RUN[status].format(key_env=self._key_env), free=True)
        return Failure(reason, retry=status in _MAY_PASS or status >= 500, wait=wait, free=True)

    def _connection_failure(self, error: BaseException) -> Failure:
        for cause in _causes(error):
            if isinstance(cause, ConnectionRefusedError | socket.gaierror | ssl.SSLCertVerificationError):
                what = " ".join((cause.strerror or "the connection is refused").split())
                return Failure(
                    f"no connection: {what}",
                    retry=self._has_answered,  # a server that has been there may come back
                    ends_run="check that the server runs, and its URL, and run again",
                    free=True,
                )
        last = " ".join(str(_causes(error)[-1]).split())
        return Failure(f"the connection broke: {self._shorten_for_message(last)}", retry=True)

    def _shorten_for_message(self, text: str) -> str:
        text = " ".join(self._redact_key(text).split())
        return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"

    def _redact_key(self, text: str) -> str:
        return text.replace(self._key, "[key]") if self._key and len(self._key) >= _KEY_LENGTH else text


def _key(settings: JudgeSettings) -> str | None:
    key = os.environ.get(settings.key_env, "").strip()
    if not key and settings.url is None:
        raise JudgeError(
            f"the judge {settings.model} needs a key: set the environment variable {settings.key_env}, name another "
            "with --judge-key-env, or give the --judge-url of a server that needs none"
        )
    if not (key.isascii() and key.isprintable()):
        raise JudgeError(f"the key in {settings.key_env} has characters that no key has; set it anew")
    return key or None


def _causes(error: BaseException) -> list[BaseException]:
    """Return an exception and what it was raised from, the origin last."""
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(cause)
    return chain


def _code_and_message(body: object) -> tuple[object, str]:
    """Return what a server says of an error: the client gives the ``error`` of a JSON body, else the body itself."""
    if isinstance(body, Mapping):
        inner = body.get("error", body)
        if isinstance(inner, Mapping):
            return inner.get("code"), str(inner.get("message") or "")
        return None, str(inner)
    return None, "" if body is None else str(body)


def _tokens(usage: object) -> tuple[int, int] | None:
    if not isinstance(usage, Mapping):
        return None
    counts = usage.get("prompt_tokens"), usage.get("completion_tokens")
    tokens_in, tokens_out = counts
    if not (isinstance(tokens_in, int) and isinstance(tokens_out, int)) or min(tokens_in, tokens_out) < 0:
        return None
    return tokens_in, tokens_out
