"""A connection that a server cannot lead elsewhere, nor keep open for ever, nor fill memory through.

The client of a server follows its redirects and reads what it sends to the end, unless it is told otherwise: prompts
would go wherever the server points, and an answer that never ends would be read for ever.
"""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx2

MOST_BYTES = 16 << 20  # of an answer, as it is sent
MOST_PACKED_BYTES = 1 << 18  # of one that is compressed, which unpacks to a thousand times as much at most
TIMES = 10  # how many of the seconds that a server may be silent an answer may take in all


def bounded_client(timeout_s: float) -> "httpx2.Client":
    """Return what the openai client sends with: no redirects, and answers of bounded size and time.

    Args:
        timeout_s: seconds without a byte after which a server is given up.
    """
    import httpx2
    from openai import DefaultHttpxClient

    class Body(httpx2.SyncByteStream):
        """What a server sends, up to a limit."""

        def __init__(self, stream: Any, most: int, until: float) -> None:
            self._stream, self._most, self._until = stream, most, until

        def __iter__(self) -> Iterator[bytes]:
            size = 0
            for part in self._stream:
                size += len(part)
                if size > self._most:
                    raise httpx2.ReadError(f"the answer is longer than {self._most:,} bytes")
                if time.monotonic() > self._until:
                    raise httpx2.ReadTimeout(f"the answer takes longer than {TIMES} times the time-out")
                yield part

        def close(self) -> None:
            self._stream.close()

    def bound(response: httpx2.Response) -> None:
        packed = response.headers.get("content-encoding", "identity") != "identity"
        most = MOST_PACKED_BYTES if packed else MOST_BYTES
        response.stream = Body(response.stream, most, time.monotonic() + TIMES * timeout_s)

    # a hook, and no transport of our own, which would pass over the proxies of the environment
    return DefaultHttpxClient(event_hooks={"response": [bound]}, follow_redirects=False, timeout=timeout_s)
