"""A page that needs nothing but itself: styles, script, plots and data are in the one file, and it may load nothing.

All that comes from data is escaped by the template engine, or put into the document by the script as text. The page's
own policy (Content-Security-Policy) allows no request, and no script but the one whose digest it names.
"""

import base64
import hashlib
import json
import math
import re
from importlib.resources import files
from typing import Any

from markupsafe import Markup

from handpick.durations import format_duration
from handpick.magnitudes import format_bytes

_UNSHOWABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def page(template: str, **values: Any) -> bytes:
    """Render a template of this folder with these values, as the bytes of a file.

    Numbers and texts are escaped; ``Markup`` stands as it is.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("handpick.reporting", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=replace_unprintable,
    )
    environment.filters |= {"count": count, "percent": percent, "number": number, "signed": signed} | {
        "bytes": format_bytes,
        "duration": format_duration,
        "half": half,
        "middle": middle,
    }
    script = _resource("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    own = {"style": Markup(_resource("page.css")), "script": Markup(script), "script_digest": digest}
    return environment.get_template(template).render(own | values).encode()


def replace_unprintable(value: Any) -> Any:
    """Return text without the characters that HTML and XML cannot hold: each becomes U+FFFD."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return _UNSHOWABLE.sub("\ufffd", value)
    return value


def data_block(value: Any) -> Markup:
    """Return JSON to stand inside a ``script`` element: without < > & it can neither end it nor open a comment."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def count(value: int) -> str:
    """Format as 1,234."""
    return f"{value:,}"


def percent(value: float) -> str:
    """Format as 12.3%, and 0.04% where one digit would say 0."""
    return f"{value:.1%}" if value == 0 or abs(value) >= 0.001 else f"{value:.2%}"


def number(value: float | None, digits: int = 4) -> str:
    """Format with four significant digits; a dash where there is none."""
    if value is None or value != value:
        return "–"
    if abs(value) >= 10**digits:
        return f"{value:,.0f}"
    return f"{value:#.{digits}g}".rstrip(".").replace("-", "−")


def signed(value: float | None) -> str:
    """Format as ``number`` does, with the sign."""
    if value is None or value != value:
        return "–"
    return f"+{number(value)}" if value > 0 else number(value)


def middle(row: Any, sign: bool = False) -> str:
    """Format the mean of a row, to the decimals that its interval has two digits at.

    Four digits where there is none.
    """
    decimals = _decimals(row)
    if decimals is None:
        return signed(row.mean) if sign else number(row.mean)
    return f"{row.mean:{'+' if sign else ''},.{decimals}f}".replace("-", "−")


def half(row: Any) -> str:
    """Format ± half of an interval that is as wide to either side, to two digits; nothing where there is none."""
    decimals = _decimals(row)
    return "" if decimals is None else f"± {(row.high - row.low) / 2:,.{decimals}f}"


def _decimals(row: Any) -> int | None:
    if row.low is None or row.high is None or row.high <= row.low:
        return None
    return max(0, 1 - math.floor(math.log10((row.high - row.low) / 2)))


def _resource(name: str) -> str:
    return files("handpick.reporting").joinpath("templates", name).read_text(encoding="utf-8")
