"""The Hub is asked only where it can be reached."""

import socket

import datasets
import pytest
from huggingface_hub import constants

from handpick.data import hub


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "getproxies", dict)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


def test_a_host_that_takes_connections_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        assert hub.hub_answers()
    assert not hub.hub_answers()


def test_a_proxy_is_trusted_to_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "https://127.0.0.1:9")
    monkeypatch.setattr(hub, "getproxies", lambda: {"https": "http://proxy:3128"})
    assert hub.hub_answers()


def test_nobody_is_asked_where_the_user_said_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(socket, "create_connection", lambda *_: pytest.fail("the Hub was asked"))
    assert not hub.hub_answers()


@pytest.mark.parametrize("answers", [True, False])
def test_the_libraries_are_offline_only_while_the_hub_is_away(answers: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "hub_answers", lambda: answers)
    with hub.hub_or_cache():
        assert constants.HF_HUB_OFFLINE is not answers
        assert datasets.config.HF_HUB_OFFLINE is not answers
    assert not constants.HF_HUB_OFFLINE
    assert not datasets.config.HF_HUB_OFFLINE
