"""How long is waited."""

from datetime import UTC, datetime

import pytest

from handpick.judge.retry import backoff, retry_after

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7),
        (" 0.5 ", 0.5),
        ("0", 0),
        ("-3", 0),
        ("Sun, 01 Mar 2026 12:00:30 GMT", 30),
        ("Sun, 01 Mar 2026 12:00:30 -0000", 30),
        ("Sun, 01 Mar 2026 13:00:30 +0100", 30),
        ("Sun, 01 Mar 2026 11:00:00 GMT", 0),
        ("soon", None),
        ("nan", None),
        ("inf", None),
        ("", None),
    ],
)
def test_retry_after(value: str, seconds: float | None) -> None:
    assert retry_after({"retry-after": value}, NOW) == seconds


def test_no_retry_after() -> None:
    assert retry_after({}, NOW) is None


def test_backoff_doubles_up_to_a_minute() -> None:
    for attempt, longest in [(0, 2), (1, 4), (3, 16), (5, 60), (10_000, 60)]:
        waits = [backoff(attempt, 2) for _ in range(50)]
        assert longest / 2 <= min(waits) < max(waits) <= longest
    assert backoff(3, 0) == 0
