"""A judge's server that leads elsewhere, or sends without end, is cut off."""

import gzip
import json
import socket
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread

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


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
WITHOUT_END: dict[str, tuple[bytes, bytes]] = {  # first, then again and again
    "a first line": (b"HTTP/1.1 200 ", b"O"),
    "headers": (HEAD, b"X-%d: x\r\n"),
    "one header": (HEAD + b"X: ", b"x"),
    "answers that are yet to come": (b"", b"HTTP/1.1 103 Early Hints\r\nLink: </>\r\n\r\n"),
    "a body of a length": (HEAD + b"Content-Length: 99999999999\r\n\r\n", b" "),
    "a body without a length": (HEAD + b"Connection: close\r\n\r\n", b" "),
    "parts": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "a length of a part": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;", b"x"),
    "headers behind the body": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n \r\n0\r\n", b"X: x\r\n"),
    "nothing": (b"", b""),
}


@contextmanager
def sending(first: bytes, again: bytes, pause_s: float) -> Iterator[str]:
    """A server that sends something, and something more without end, in pieces with pauses, to each who asks."""
    over = Event()

    def serve(caller: socket.socket) -> None:
        with caller, suppress(OSError):
            caller.recv(1 << 16)
            caller.sendall(first)
            while not over.wait(pause_s):
                caller.sendall(again if pause_s else again * (1 << 12))

    def accept() -> None:
        with suppress(OSError):
            while True:
                Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        Thread(target=accept, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        finally:
            over.set()
            listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("pause_s", [0, 0.05])
@pytest.mark.parametrize("what", WITHOUT_END)
def test_whatever_is_sent_without_end_is_cut_off(
    what: str, pause_s: float, judge: MakeJudge, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, again = WITHOUT_END[what]
    timeout_s = 0.4 if pause_s or not again else 60  # what comes at once is cut off by its size
    monkeypatch.setattr(bounded, "TIMES", 2)
    monkeypatch.setattr(bounded, "MOST_BYTES", 1 << 17)
    monkeypatch.setattr(bounded, "MOST_READ_BYTES", 1 << 18)
    with sending(first, again, pause_s) as url:
        start = time.monotonic()
        (answer,) = judge(url=url, retries=0, timeout_s=timeout_s).ask(["p"])
        took = time.monotonic() - start
    assert answer.text is None
    assert (answer.failure == "no answer in time") == (timeout_s < 1), answer.failure
    assert took < timeout_s * 2 + 30  # of a machine that is busy


def test_a_server_that_reads_nothing_is_given_up(judge: MakeJudge) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        (answer,) = judge(url=url, retries=0, timeout_s=0.4).ask(["p" * (16 << 20)])
    assert answer.failure == "no answer in time"


def test_a_server_that_reads_a_little_at_a_time_is_cut_off(judge: MakeJudge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "TIMES", 2)
    over = Event()

    def sip() -> None:
        with suppress(OSError), listener.accept()[0] as caller:
            while not over.wait(0.05):
                caller.recv(1 << 12)

    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        Thread(target=sip, daemon=True).start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        start = time.monotonic()
        (answer,) = judge(url=url, retries=0, timeout_s=0.4).ask(["p" * (16 << 20)])
        over.set()
    assert answer.failure == "no answer in time"
    assert time.monotonic() - start < 0.4 * 2 + 30


def test_connections_are_used_again_and_their_limits_begin_anew(
    server: Server, judge: MakeJudge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded, "MOST_READ_BYTES", 2000)
    callers: set[object] = set()
    handle = server.handle
    monkeypatch.setattr(server, "handle", lambda request: (callers.add(request.client_address), handle(request)))
    answers = judge(workers=1).ask([str(number) for number in range(20)])
    assert all(answer.text is not None for answer in answers)
    assert len(callers) == 1
