"""The key stands in the environment and in the request's header, and nowhere else."""

import logging
import pickle
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from handpick.errors import JudgeError, SettingsError
from handpick.judge import Judge, JudgeSettings
from tests.judge.server import KEY, KEY_ENV, Response, Server, refuses, says

MakeJudge = Callable[..., Judge]

BETRAYALS = {
    "in an answer": lambda: says(f"your key is {KEY}"),
    "in a 400": lambda: refuses(400, f"the key {KEY} is of no use"),
    "in a 401": lambda: refuses(401, f"Incorrect API key provided: {KEY}"),
    "in a 500": lambda: refuses(500, f"panic at {KEY}"),
    "in a body": lambda: Response(f"<html>{KEY}</html>".encode()),
    "in a text": lambda: Response(f"Bearer {KEY} refused".encode(), 403, {"Content-Type": "text/plain"}),
    "nowhere": lambda: Response(drop=True),
}


@pytest.mark.parametrize("betrayal", BETRAYALS.values(), ids=list(BETRAYALS))
def test_a_server_that_says_the_key(
    betrayal: Callable[[], Response],
    server: Server,
    judge: MakeJudge,
    cache: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)  # of all loggers: openai's, and of what it sends with
    for name in ("openai", "httpx2", "httpcore2"):
        caplog.set_level(logging.DEBUG, logger=name)
    server.respond = lambda prompt, _: betrayal()
    one = judge(workers=1, retries=1)
    seen = [repr(one), str(vars(one)), repr(one.settings), one.settings.model_dump_json()]
    try:
        seen.append(repr(one.ask(["p"])))
    except JudgeError as error:
        seen += ["".join(traceback.format_exception(error)), *chained(error), repr(pickle.dumps(error))]
    output = capsys.readouterr()
    seen += [cache.read_text(encoding="utf-8"), caplog.text, output.out, output.err]

    assert server.asked[0].headers["authorization"] == f"Bearer {KEY}"
    assert not [text for text in seen if KEY in text]


def chained(error: BaseException) -> list[str]:
    """All that an exception holds, and those it was raised from or while handling."""
    found = []
    while True:
        found += [repr(error), str(vars(error)), str(getattr(error, "request", ""))]
        following = error.__cause__ or error.__context__
        if following is None:
            return found
        assert type(following).__module__.split(".")[0] not in ("openai", "httpx2", "httpcore2"), "it holds the request"
        error = following


def test_a_short_key_is_no_secret_and_answers_stay_as_they_are(
    server: Server, judge: MakeJudge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_ENV, "EMPTY")
    server.respond = lambda prompt, _: says("the list is EMPTY")
    assert judge().ask(["p"])[0].text == "the list is EMPTY"


@pytest.mark.parametrize(
    "values",
    [
        {"key_env": KEY},
        {"key_env": "gsk_abcdef"},
        {"url": f"https://user:{KEY}@example.org/v1"},
        {"url": f"https://example.org/v1?key={KEY}"},
        {"key": KEY},
        {"api_key": KEY},
        {"seed": KEY},
        {"url": KEY},
        {"url": f"https://example.org:{KEY}/v1"},
    ],
)
def test_a_key_in_the_settings_is_refused_and_not_repeated(values: dict[str, str]) -> None:
    (value,) = values.values()
    with pytest.raises((SettingsError, ValidationError)) as caught:
        JudgeSettings(model="m", **values)  # type: ignore[arg-type]
    with pytest.raises(SettingsError) as told:
        JudgeSettings.from_values({"model": "m", **values})
    for error in (caught.value, told.value):
        assert value not in "".join(traceback.format_exception(error))
