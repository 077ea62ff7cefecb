"""A server, a key that must not show, and a judge that waits no time at all."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from handpick.judge import Judge, JudgeSettings
from tests.judge.server import KEY, KEY_ENV, Server, running


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("OPENAI_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv(KEY_ENV, KEY)


@pytest.fixture
def server() -> Iterator[Server]:
    with running() as server:
        yield server


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "answers" / "judge.jsonl"


@pytest.fixture
def settings(server: Server) -> Callable[..., JudgeSettings]:
    def make(**values: Any) -> JudgeSettings:
        given = {"model": "m", "url": server.url, "key_env": KEY_ENV, "backoff_s": 0.001, "retries": 2, "timeout_s": 5}
        return JudgeSettings(**given | values)

    return make


@pytest.fixture
def judge(settings: Callable[..., JudgeSettings], cache: Path) -> Callable[..., Judge]:
    """Each call is what a new run would make of the same file."""
    return lambda **values: Judge(settings(**values), cache)
