"""A reward that needs no labels: an answer should be one short sentence."""

import re
from collections.abc import Sequence
from typing import Any


def one_short_sentence(prompts: Any, completions: Sequence[str], records: Any) -> list[float]:
    """1 for one sentence of 3 to 20 words that ends, half for a text as short that does not, else 0."""
    return [_score(text.strip()) for text in completions]


def _score(text: str) -> float:
    n_words, ends = len(text.split()), re.findall(r"[.!?](?=\s|$)", text)
    if not 3 <= n_words <= 20 or len(ends) > 1 or "\n" in text:
        return 0.0
    return 1.0 if ends and text[-1] in ".!?" else 0.5
