"""The words of a text, in any script."""

import re
import unicodedata
from functools import cache

from handpick.data.unspaced import set_apart

_ASCII_WORD = re.compile(r"[^\W_]+")


def words_of(text: str) -> list[str]:
    """Runs of letters and digits with the marks on them, case folded, one character each where writing has no spaces.

    An accent counts the same whether it is part of its letter or stands behind it.
    """
    if text.isascii():
        return _ASCII_WORD.findall(text.casefold())
    text = set_apart(unicodedata.normalize("NFC", text.casefold()))
    return _word().findall(text.replace("_", " "))


@cache
def _word() -> re.Pattern[str]:
    """Python's own letters leave the vowel signs of Hindi, Tamil or Bengali out, and would cut words at each."""
    marks = "".join(c for c in map(chr, range(0x10000)) if unicodedata.category(c) in ("Mn", "Mc"))
    return re.compile(rf"[^\W_][\w{marks}]*")
