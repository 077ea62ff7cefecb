"""Seconds, as people read them."""


def format_duration(seconds: float) -> str:
    """Format seconds as 4.2 s, 3 min 20 s, 5 h, 5 h 10 min, 3 d 4 h."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    seconds = round(seconds)
    for limit, large, small, units in ((3600, 60, 1, ("min", "s")), (86400, 3600, 60, ("h", "min"))):
        if seconds < limit:
            return _join(seconds // large, units[0], seconds % large // small, units[1])
    return _join(seconds // 86400, "d", seconds % 86400 // 3600, "h")


def _join(first: int, large: str, second: int, small: str) -> str:
    return f"{first:,} {large} {second} {small}" if second else f"{first:,} {large}"
