"""The words that two texts share, and where they stand: what a person sees first when two texts lie side by side.

Of words that nearly every text has nothing is learnt, so those are left unmarked. Ours.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from handpick.data.unspaced import separate_characters
from handpick.data.words import word_pattern, words_of

_COMMON = 0.1  # of the texts that were counted: a word that more of them have is not marked
_LETTERS = 4  # that a word has at least, where none were counted

Pieces = list[tuple[str, bool]]


@dataclass(frozen=True)
class TellingWords:
    """Which words say something of a text. ``n_with`` counts, of ``n`` texts, those that have a word; none were
    counted where ``n`` is 0, and then every longer word counts."""

    n: int = 0
    n_with: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def count(cls, texts: Iterable[str]) -> "TellingWords":
        """Count the words of some texts, each once a text."""
        n, n_with = 0, Counter[str]()
        for n, text in enumerate(texts, 1):  # noqa: B007 (the last number is the count)
            n_with.update(set(words_of(text)))
        return cls(n, n_with)

    @property
    def rule(self) -> str:
        """Which words are marked, for the page."""
        if not self.n:
            return f"Marked are the words of {_LETTERS} letters or more that both have, in capitals or not."
        return (
            "Marked are the words that both have, in capitals or not, unless more than "
            f"{_COMMON:.0%} of the pool has them (counted in {self.n:,} of its examples)."
        )

    def shared(self, a: str, b: str) -> set[str]:
        """Return the telling words that both texts have."""
        both = set(words_of(a)) & set(words_of(b))
        if not self.n:
            return {word for word in both if len(word) >= _LETTERS}
        return {word for word in both if self.n_with.get(word, 0) <= _COMMON * self.n}


def mark_words(text: str, words: set[str]) -> Pieces:
    """Cut a text into pieces, each with whether it is one of the words; joined they are the text."""
    pieces: Pieces = []
    read, done, plain = 0, 0, text.replace("_", " ")
    for word in word_pattern().findall(separate_characters(plain)):
        at = plain.index(word, read)  # between two words none begins, so that this is the place
        read = at + len(word)
        if words.isdisjoint(words_of(word)):
            continue
        if at > done:
            pieces.append((text[done:at], False))
        pieces.append((text[at:read], True))
        done = read
    if done < len(text):
        pieces.append((text[done:], False))
    return pieces
