"""Large numbers and bytes, as people read them."""

from handpick.magnitudes import format_bytes, format_scaled


def test_numbers() -> None:
    assert [format_scaled(n) for n in (0, 12, 999, 1000, 1234567, 2.5e12, 3e21)] == [
        "0", "12", "999", "1k", "1.23M", "2.5T", "3e+03E",
    ]  # fmt: skip


def test_bytes() -> None:
    assert [format_bytes(n) for n in (0, 999, 1000, 76_600_000, 999_600_000)] == [
        "0 B", "999 B", "1 kB", "76.6 MB", "1 GB",
    ]  # fmt: skip
