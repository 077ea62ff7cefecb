"""Large numbers and bytes, as people read them."""


def format_scaled(number: float) -> str:
    """Format a number as 12, 1.2k, 3.4M, 5.6G, 7.8T, 9.0P, 1.2E."""
    return "".join(_scale(number))


def format_bytes(number: float) -> str:
    """Format bytes as 12 B, 1.2 kB, 3.4 MB, in powers of 1000, as disks are sold."""
    value, suffix = _scale(number)
    return f"{value} {suffix}B"


def _scale(number: float) -> tuple[str, str]:
    """Return a number to three digits, and the suffix of its power of 1000."""
    for suffix in ("", "k", "M", "G", "T", "P"):
        if abs(number) < 999.5:
            return f"{number:.0f}" if not suffix else f"{number:.3g}", suffix
        number /= 1000
    return f"{number:.3g}", "E"
