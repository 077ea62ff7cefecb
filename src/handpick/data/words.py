"""The words of a text, in any script."""

import re
import unicodedata
from functools import cache

from handpick.data.unspaced import separate_characters

_ASCII_WORD = re.compile(r"[^\W_]+")


def words_of(text: str) -> list[str]:
    """Return runs of letters and digits with their marks, case folded, one character each where writing has no spaces.

    An accent counts the same whether it is part of its letter or stands behind it.
    """
    if text.isascii():
        return _ASCII_WORD.findall(text.casefold())
    text = separate_characters(unicodedata.normalize("NFC", text.casefold()))
    return word_pattern().findall(text.replace("_", " "))


@cache
def word_pattern() -> re.Pattern[str]:
    """Match a word, of any script: Python's own letters leave the vowel signs of Hindi, Tamil or Bengali out."""
    marks = "".join(c for c in map(chr, range(0x10000)) if unicodedata.category(c) in ("Mn", "Mc"))
    return re.compile(rf"[^\W_][\w{marks}]*")
