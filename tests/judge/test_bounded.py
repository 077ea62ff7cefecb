"""A judge's server that leads elsewhere, or sends without end, is cut off."""

import gzip
import json
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from handpick.errors import JudgeError
from handpick.judge import Judge, bounded
from tests.judge.server import Response, Server, says

MakeJudge = Callable[..., Judge]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(status: int, server: Server, judge: MakeJudge) -> None:
    with_elsewhere = {"Location": f"{server.url}/elsewhere"}
    server.respond = lambda prompt, before: Response(b"{}", status, with_elsewhere)
    with pytest.raises(JudgeError, match="it sends elsewhere: give the URL that it stands at"):
        judge().ask(["p"])
    assert [asked.path for asked in server.asked] == ["/v1/chat/completions"]


def test_an_answer_that_is_too_long_is_cut_off(
    server: Server, judge: MakeJudge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded, "MOST_BYTES", 2000)
    server.respond = lambda prompt, _: says("x" * (3000 if prompt == "long" else 100))
    long, short = judge(retries=0).ask(["long", "short"])
    assert short.text == "x" * 100
    assert long.text is None
    assert "the answer is longer than 2,000 bytes" in str(long.failure)


def test_one_that_unpacks_to_much_is_cut_off(server: Server, judge: MakeJudge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "MOST_PACKED_BYTES", 1000)
    small, large = gzip.compress(says("fine").body), gzip.compress(json.dumps(list(range(5000))).encode())
    headers = {"Content-Encoding": "gzip"}
    server.respond = lambda prompt, _: Response(large if prompt == "large" else small, headers=headers)
    much, fine = judge(retries=0).ask(["large", "small"])
    assert fine.text == "fine"
    assert "longer than 1,000 bytes" in str(much.failure)


def test_one_that_takes_without_end_is_cut_off(
    server: Server, judge: MakeJudge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded, "TIMES", 0)
    assert judge(retries=0).ask(["p"])[0].failure == "no answer in time"


def test_what_a_judge_was_asked_is_for_its_owner_alone(judge: MakeJudge, cache: Path) -> None:
    judge().ask(["p"])
    assert stat.S_IMODE(cache.stat().st_mode) == 0o600
