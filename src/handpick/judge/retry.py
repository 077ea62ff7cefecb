"""How long to wait before a request is sent again."""

import math
import random
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

LONGEST_BACKOFF = 60.0  # seconds

_jitter = random.Random()  # its own, so that a caller's seeded random numbers stay what they are


def backoff(attempt: int, base: float) -> float:
    """Return seconds to wait after a failure, counted from 0: doubled each time, anything from half of that to all."""
    return min(base * 2.0 ** min(attempt, 32), LONGEST_BACKOFF) * _jitter.uniform(0.5, 1)


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Return the seconds that a server asks to be left alone for, from its ``Retry-After``: a number, or a date.

    None where it asks for nothing, or for something that cannot be read.
    """
    value = headers.get("retry-after", "").strip()
    try:
        seconds = float(value)
    except ValueError:
        try:
            until = parsedate_to_datetime(value)
        except ValueError:
            return None
        seconds = ((until if until.tzinfo else until.replace(tzinfo=UTC)) - now).total_seconds()
    return max(seconds, 0.0) if math.isfinite(seconds) else None
