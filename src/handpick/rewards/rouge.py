"""ROUGE-L: the longest common subsequence of words (Lin 2004), as the package rouge-score computes it.

That package's own tokenizer keeps a-z and 0-9 alone: an answer in Russian or Chinese would be empty, and score 0
against itself. So it is given one that knows letters and digits of every script. On ASCII text both cut alike.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from handpick.data.unspaced import separate_characters
from handpick.errors import DataError, SettingsError
from handpick.rewards.protocol import Prompt, Record
from handpick.rewards.reference import record_name, reference_answers


@dataclass(frozen=True, slots=True)
class RougeL:
    """From 0 to 1: the F-measure of ROUGE-L without stemming, for the best reference.

    Raises:
        SettingsError: the package rouge-score is not installed.
    """

    def __post_init__(self) -> None:
        _scorer()

    def check(self, record: Record) -> None:
        """Raise DataError where there is no reference, or none with a word."""
        references = reference_answers(record)
        if not any(_Words().tokenize(reference) for reference in references):
            raise DataError(
                f"no reference answer: there is no word in {references[0][:60]!r}, the reference of "
                f"{record_name(record)}; mend the record, or take exact-match"
            )

    def __call__(
        self, prompts: Sequence[Prompt], completions: Sequence[str], records: Sequence[Record], /
    ) -> list[float]:
        """Score completions; a DataError names a record without a reference."""
        return [
            max(rouge_l(completion, reference) for reference in reference_answers(record))
            for completion, record in zip(completions, records, strict=True)
        ]


def rouge_l(completion: str, reference: str) -> float:
    """Compute the F-measure of the longest common subsequence of two texts' words; 0.0 where one has no words.

    Raises:
        SettingsError: the package rouge-score is not installed.
    """
    return float(_scorer().score(reference, completion)["rougeL"].fmeasure)


class _Words:
    """The tokenizer that rouge-score is given."""

    def tokenize(self, text: str) -> list[str]:
        """Return runs of letters, digits and the marks on them, in lower case.

        One character each where words run together.
        """
        # Vowel signs of Indic scripts are marks, and part of the word.
        kept = (c if c.isalnum() or unicodedata.category(c)[0] == "M" else " " for c in text.lower())
        return separate_characters("".join(kept)).split()


@cache
def _scorer() -> Any:
    try:
        from rouge_score.rouge_scorer import RougeScorer  # type: ignore[import-untyped]
    except ImportError as error:
        raise SettingsError("the reward rouge-l needs rouge-score: pip install 'handpick[rouge]'") from error
    return RougeScorer(["rougeL"], use_stemmer=False, tokenizer=_Words())
