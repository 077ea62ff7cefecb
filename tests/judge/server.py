"""A server that speaks as much of the OpenAI API as a judge needs, and misbehaves as it is told.

It counts what it is asked. As it runs in the test's own process, a client can be killed without losing the count.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Condition, Event, Thread
from typing import Any

KEY_ENV = "DECOY_KEY"
KEY = "sk-decoy-4f9a17c2e8b05d36"


@dataclass
class Response:
    """What the server does about a request."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0  # seconds
    claimed: int | None = None  # Content-Length, where it is not the truth
    drop: bool = False  # hang up without a word


def says(
    text: str | None, tokens: tuple[int, int] | None = (10, 5), finish: str = "stop", delay: float = 0
) -> Response:
    """A chat completion."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    body: dict[str, Any] = {"id": "1", "object": "chat.completion", "model": "m", "created": 0, "choices": [choice]}
    if tokens is not None:
        body["usage"] = {"prompt_tokens": tokens[0], "completion_tokens": tokens[1], "total_tokens": sum(tokens)}
    return Response(json.dumps(body).encode(), delay=delay)


def refuses(status: int, message: str = "", code: str | None = None, **headers: str) -> Response:
    """An error as OpenAI's servers word it."""
    body = json.dumps({"error": {"message": message, "type": "some_error", "code": code}}).encode()
    return Response(body, status, {name.replace("_", "-"): value for name, value in headers.items()})


@dataclass
class Asked:
    """One request."""

    prompt: str
    body: dict[str, Any]
    headers: dict[str, str]
    path: str


class Server:
    """``respond`` is given each prompt and how often it has been asked before, and says what is done."""

    def __init__(self) -> None:
        self.respond: Callable[[str, int], Response] = lambda prompt, before: says(f"on {prompt}")
        self.asked: list[Asked] = []
        self.answered: Counter[str] = Counter()  # prompts that a whole answer was sent to
        self.most_at_once = 0
        self.released = Event()  # ends all delays
        self.changed = Condition()
        self._at_once = 0
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                server.handle(self)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False
            request_queue_size = 64

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # clients are killed here

        self.http = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"

    @property
    def prompts(self) -> Counter[str]:
        """How often each prompt was asked."""
        return Counter(asked.prompt for asked in self.asked)

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        body = json.loads(request.rfile.read(int(request.headers["content-length"])))
        prompt = body["messages"][-1]["content"]
        headers = {name.lower(): value for name, value in request.headers.items()}
        with self.changed:
            before = self.prompts[prompt]
            self.asked.append(Asked(prompt, body, headers, request.path))
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            self.changed.notify_all()
        response = self.respond(prompt, before)
        if response.delay:
            self.released.wait(response.delay)
        with self.changed:
            self._at_once -= 1
        if response.drop:
            request.close_connection = True
            request.connection.close()
            return
        length = len(response.body) if response.claimed is None else response.claimed
        fields = {"Content-Type": "application/json", "Content-Length": str(length)} | response.headers
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        request.wfile.write(f"HTTP/1.1 {response.status} X\r\n{head}\r\n".encode() + response.body)
        if response.claimed is not None:
            request.close_connection = True
        with self.changed:
            self.answered[prompt] += response.status == 200
            self.changed.notify_all()

    def stop(self) -> None:
        self.released.set()
        self.http.shutdown()
        self.http.server_close()


@contextmanager
def running() -> Iterator[Server]:
    """A server on a free port of the loopback interface."""
    server = Server()
    thread = Thread(target=lambda: server.http.serve_forever(poll_interval=0.01), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join()
