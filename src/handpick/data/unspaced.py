"""Writing without spaces between words: Chinese, Japanese, Thai, Lao, Burmese, Khmer."""

import re

UNSPACED_LANGUAGES = frozenset({"zh", "ja", "th", "lo", "my", "km"})

_CHARACTER = re.compile(
    "(["
    "\u0e00-\u0e7f\u0e80-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Burmese, Khmer
    "\u3040-\u30ff"  # Hiragana, Katakana
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Chinese characters
    "])"
)


def separate_characters(text: str) -> str:
    """Return the text with a space around each character of a script that has none between its words."""
    return _CHARACTER.sub(r" \1 ", text)
