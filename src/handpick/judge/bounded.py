"""A connection that a server cannot lead elsewhere, nor keep open for ever, nor fill memory through.

The client of a server follows its redirects and reads what it sends to the end, unless it is told otherwise: prompts
would go wherever the server points, and an answer that never ends would be read for ever. Its time-out starts anew with
every byte, of headers too, of which it takes any number that announce an answer yet to come (status 103).
"""

import time
from collections.abc import Callable, Iterator
from threading import local
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx2

MOST_BYTES = 16 << 20  # of an answer, as it is sent
MOST_PACKED_BYTES = 1 << 18  # of one that is compressed, which unpacks to a thousand times as much at most
MOST_READ_BYTES = 2 * MOST_BYTES  # of an answer with all that is around it: headers, and what frames its parts
TIMES = 10  # how many of the seconds that a server may be silent a request and its answer may take in all
PIECE_BYTES = 1 << 14  # that are sent at a time


def bounded_client(timeout_s: float) -> "httpx2.Client":
    """Return what the openai client sends with: no redirects, and answers of bounded size and time.

    A thread has one request at a time under way, as the openai client does.

    Args:
        timeout_s: seconds without a byte after which a server is given up.
    """
    import httpcore2
    import httpx2
    from openai import DefaultHttpxClient

    class Body(httpx2.SyncByteStream):
        """What a server sends as its answer, up to a limit."""

        def __init__(self, stream: Any, most: int) -> None:
            self._stream, self._most = stream, most

        def __iter__(self) -> Iterator[bytes]:
            size = 0
            for part in self._stream:
                size += len(part)
                if size > self._most:
                    raise httpx2.ReadError(f"the answer is longer than {self._most:,} bytes")
                yield part

        def close(self) -> None:
            self._stream.close()

    request = local()  # the one that this thread has under way

    def left_s(silent_s: float | None, kind: type[Exception]) -> float:
        """Return how long to wait for the next byte."""
        left: float = request.until - time.monotonic()
        if left <= 0:
            raise kind(f"the answer takes longer than {TIMES} times the time-out")
        return left if silent_s is None else min(left, silent_s)

    def bound_stream(event: str, info: dict[str, Any]) -> None:
        """Hold a connection to the limits of whatever request is sent over it, once it stands."""
        stream = info.get("return_value")
        if not isinstance(stream, httpcore2.NetworkStream):
            return
        read, write = stream.read, stream.write

        def read_bounded(max_bytes: int, timeout: float | None = None) -> bytes:
            data: bytes = read(max_bytes, left_s(timeout, httpcore2.ReadTimeout))
            request.n_read += len(data)
            if request.n_read > MOST_READ_BYTES:
                raise httpcore2.ReadError(f"the server sends more than {MOST_READ_BYTES:,} bytes for an answer")
            return data

        def write_bounded(buffer: bytes, timeout: float | None = None) -> None:
            for start in range(0, len(buffer), PIECE_BYTES):
                write(buffer[start : start + PIECE_BYTES], left_s(timeout, httpcore2.WriteTimeout))

        # its own attributes, not those of its class, which is everybody's
        stream.read, stream.write = read_bounded, write_bounded  # type: ignore[method-assign]

    def begin(sent: httpx2.Request) -> None:
        request.until, request.n_read = time.monotonic() + TIMES * timeout_s, 0
        sent.extensions["trace"] = bound_stream

    def bound_body(response: httpx2.Response) -> None:
        packed = response.headers.get("content-encoding", "identity") != "identity"
        response.stream = Body(response.stream, MOST_PACKED_BYTES if packed else MOST_BYTES)

    # hooks, and no transport of our own, which would pass over the proxies of the environment
    hooks: dict[str, list[Callable[..., Any]]] = {"request": [begin], "response": [bound_body]}
    return DefaultHttpxClient(event_hooks=hooks, follow_redirects=False, timeout=timeout_s)
