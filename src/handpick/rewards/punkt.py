"""English sentences as punkt cuts them (Kiss and Strunk, Computational Linguistics 32, 2006), with nltk's parameters.

IFEval's program counts sentences and cuts words by nltk's tokenizers. This is the half of ``nltk.tokenize.punkt`` that
cuts (of nltk 3.10), written anew, so that neither nltk nor a download is needed; the parameters are those of its
``punkt_tab``, learnt from newspapers (``bundled/LICENSES.md``). Held to nltk's own in ``tests/rewards/test_punkt.py``.

A stop, question or exclamation mark before white space or a closing mark may end a sentence. A stop does not behind an
abbreviation, an initial or a number, where the next word's case, as the newspapers had it, speaks against it.
"""

import gzip
import json
import re
import string
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from typing import NamedTuple

from handpick.bundled import punkt_path

_NOT_IN_WORDS = r"(?:[)\";}\]*:@'({\[‘’“”«»?!])"
_SEVERAL = r"(?:\-{2,}|\.{2,}|(?:\.\s){2,}\.)"
_WORD = re.compile(
    rf"{_SEVERAL}|(?=[^(\"`{{\[:;&#*@)}}\]\-,])\S+?(?=\s|$|{_NOT_IN_WORDS}|{_SEVERAL}|,(?=$|\s|{_NOT_IN_WORDS}|{_SEVERAL}))|\S"
)
_MAY_END = re.compile(rf"[.?!](?=(?P<behind>{_NOT_IN_WORDS}|\s+(?P<next>\S+)))")
_CLOSING = re.compile(r"[\"')\]}‘’“”«»]+?(?:\s+|(?=--)|$)", re.MULTILINE)
_ELLIPSIS = re.compile(r"\.\.+$")
_NUMBER = re.compile(r"^-?[.,]?\d[\d,.-]*\.?$")
_INITIAL = re.compile(r"[^\W\d]\.$")

# Where a word was seen, and how it was written there: at the start of a sentence or elsewhere, in capitals or small.
_START_SMALL, _INSIDE_CAPITAL = 16, 4
_SMALL, _CAPITAL = 16 | 32 | 64, 2 | 4 | 8


class _Parameters(NamedTuple):
    abbreviations: frozenset[str]
    collocations: frozenset[tuple[str, str]]
    starters: frozenset[str]
    contexts: dict[str, int]


@cache
def _parameters() -> _Parameters:
    with gzip.open(punkt_path(), "rt", encoding="utf-8") as file:
        found = json.load(file)
    return _Parameters(
        frozenset(found["abbreviations"]),
        frozenset((one, two) for one, two in found["collocations"]),
        frozenset(found["starters"]),
        found["contexts"],
    )


class _Token:
    """A word or mark, and what is decided of it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.type = _NUMBER.sub("##number##", text.lower())
        shortened = text[:-1].lower()
        known = _parameters().abbreviations
        has_stop = text.endswith(".") and not text.endswith("..")
        self.is_abbreviation = has_stop and (shortened in known or shortened.split("-")[-1] in known)
        self.is_ellipsis = text not in (".", "?", "!") and _ELLIPSIS.match(text) is not None
        self.ends = text in (".", "?", "!") or (has_stop and not self.is_abbreviation)

    @property
    def type_without_stop(self) -> str:
        return self.type[:-1] if len(self.type) > 1 and self.type.endswith(".") else self.type

    @property
    def type_in_sentence(self) -> str:
        return self.type_without_stop if self.ends else self.type

    def starts(self) -> bool | None:
        """Return whether it looks like the first word of a sentence (section 4.1.1); None where that cannot be told."""
        if self.text in (";", ":", ",", ".", "!", "?"):
            return False
        seen = _parameters().contexts.get(self.type_in_sentence, 0)
        if self.text[0].isupper() and seen & _SMALL and not seen & _INSIDE_CAPITAL:
            return True
        if self.text[0].islower() and (seen & _CAPITAL or not seen & _START_SMALL):
            return False
        return None


def _decide(token: _Token, following: _Token) -> None:
    """Decide again whether a token ends a sentence, by the word behind it (sections 4.1 to 4.3)."""
    if not token.text.endswith("."):
        return
    of, initial = token.type_without_stop, _INITIAL.match(token.text) is not None
    next_type, known = following.type_in_sentence, _parameters()
    if (of, next_type) in known.collocations:
        token.ends = False
        return
    is_capital, starts = following.text[0].isupper(), following.starts()
    may_start = starts or (is_capital and next_type in known.starters)
    if (token.is_abbreviation or token.is_ellipsis) and not initial and may_start:
        token.ends = True
        return
    is_name = initial and starts is None and is_capital and not known.contexts.get(next_type, 0) & _SMALL
    if (initial or of == "##number##") and (starts is False or is_name):
        token.ends = False


def _has_end(text: str) -> bool:
    """Return whether a token of some text ends a sentence, but for the last."""
    tokens = [_Token(word) for line in text.split("\n") for word in _WORD.findall(line)]
    for token, following in pairwise(tokens):
        _decide(token, following)
    return any(token.ends for token in tokens[:-1])


def _candidates(text: str) -> Iterator[tuple[re.Match[str], str]]:
    """Yield marks that may end a sentence, the last of a word's alone, with the word before and what is behind."""
    word, last = slice(0, 0), None
    for match in _MAY_END.finditer(text):
        before = text[word.stop : match.start()]
        space = max(map(before.rfind, string.whitespace))
        here = slice(word.stop + space + 1 if space > 0 else word.start, match.start())
        if last is not None and word.stop <= here.start:
            yield last, text[word] + last[0] + last["behind"]
        last, word = match, here
    if last is not None:
        yield last, text[word] + last[0] + last["behind"]


def _pieces(text: str) -> Iterator[tuple[int, int]]:
    """Yield where sentences begin and end, closing marks still in the next one."""
    start = 0
    for match, context in _candidates(text):
        if _has_end(context):
            yield start, match.end()
            start = match.start("next") if match["next"] else match.end()
    yield start, len(text.rstrip())


def sentences(text: str) -> list[str]:
    """Return the sentences of a text as ``nltk.tokenize.PunktTokenizer("english").tokenize`` does."""
    found, closed = [], 0
    pieces = list(_pieces(text))
    for (start, stop), (next_start, next_stop) in pairwise(pieces):
        start, closing = start + closed, _CLOSING.match(text[next_start:next_stop])
        closed = 0
        if closing is not None:  # a closing mark behind the stop belongs to the sentence that it closes
            stop, closed = next_start + len(closing[0].rstrip()), closing.end()
        if closing is not None or text[start:stop]:
            found.append(text[start:stop])
    start, stop = pieces[-1]
    return found + ([text[start + closed : stop]] if text[start + closed : stop] else [])
