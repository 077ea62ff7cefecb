"""F1 and exact match of short answers, as SQuAD and MLQA define them.

An answer is lower-cased, its punctuation and articles are dropped, and it is cut into words. Without a language these
are SQuAD's rules: ASCII punctuation and English articles (Rajpurkar et al. 2016, arXiv 1606.05250, and the evaluation
script of version 1.1). With one they are MLQA's: all of Unicode's punctuation, that language's articles, and Chinese
by characters (Lewis et al. 2020, arXiv 1910.07475, and its evaluation script). Where MLQA has no rule for a language
there are no articles to drop, and what is written without spaces is cut into characters as Chinese is.
"""

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from handpick.data.unspaced import UNSPACED_LANGUAGES, separate_characters
from handpick.errors import DataError
from handpick.rewards.protocol import Prompt, Record
from handpick.rewards.reference import record_name, reference_answers

_ARTICLES: dict[str, re.Pattern[str]] = {
    "en": re.compile(r"\b(?:a|an|the)\b"),
    "es": re.compile(r"\b(?:un|una|unos|unas|el|la|los|las)\b"),
    "de": re.compile(r"\b(?:ein|eine|einen|einem|eines|einer|der|die|das|den|dem|des)\b"),
    "vi": re.compile(r"\b(?:của|là|cái|chiếc|những)\b"),
    # A prefix; MLQA's script drops it wherever it stands in a word, and so do we, to be comparable.
    "ar": re.compile("ال"),
}

# The languages of MLQA, XQuAD and TyDi QA under the names that their records have for them.
_CODES = {
    "arabic": "ar",
    "bengali": "bn",
    "chinese": "zh",
    "english": "en",
    "finnish": "fi",
    "german": "de",
    "greek": "el",
    "hindi": "hi",
    "indonesian": "id",
    "japanese": "ja",
    "korean": "ko",
    "romanian": "ro",
    "russian": "ru",
    "spanish": "es",
    "swahili": "sw",
    "telugu": "te",
    "thai": "th",
    "turkish": "tr",
    "vietnamese": "vi",
}

# ISO 639-2 and 639-3 codes, with which FLORES's codes begin too ("eng_Latn"): those above, and what has no spaces
_THREE_LETTERS = {
    "ara": "ar",
    "arb": "ar",
    "ben": "bn",
    "zho": "zh",
    "chi": "zh",
    "cmn": "zh",
    "yue": "zh",
    "eng": "en",
    "fin": "fi",
    "deu": "de",
    "ger": "de",
    "ell": "el",
    "gre": "el",
    "hin": "hi",
    "ind": "id",
    "jpn": "ja",
    "kor": "ko",
    "ron": "ro",
    "rum": "ro",
    "rus": "ru",
    "spa": "es",
    "swa": "sw",
    "swh": "sw",
    "tel": "te",
    "tha": "th",
    "tur": "tr",
    "vie": "vi",
    "lao": "lo",
    "mya": "my",
    "bur": "my",
    "khm": "km",
}


@dataclass(frozen=True, slots=True)
class SquadF1:
    """From 0 to 1: the words that completion and reference share (F1), for the best reference.

    Args:
        language: a code such as "zh", "zho" or "zho_Hans"; None takes it from the record's ``language``, ``lang`` or
            ``subtask``.
    """

    language: str | None = None

    def check(self, record: Record) -> None:
        """Raise DataError where there is no reference, or none with a word that counts."""
        _check(record, self.language)

    def __call__(
        self, prompts: Sequence[Prompt], completions: Sequence[str], records: Sequence[Record], /
    ) -> list[float]:
        """Score completions; a DataError names a record without a reference."""
        return _best(f1, completions, records, self.language)


@dataclass(frozen=True, slots=True)
class SquadEM:
    """1 where completion and some reference are the same words, else 0.

    Args:
        language: as ``SquadF1`` has it.
    """

    language: str | None = None

    def check(self, record: Record) -> None:
        """Raise DataError where there is no reference, or none with a word that counts."""
        _check(record, self.language)

    def __call__(
        self, prompts: Sequence[Prompt], completions: Sequence[str], records: Sequence[Record], /
    ) -> list[float]:
        """Score completions; a DataError names a record without a reference."""
        return _best(same_words, completions, records, self.language)


def f1(completion: str, reference: str, language: str | None = None) -> float:
    """Compute the harmonic mean of the shares of words of each that the other has too; 0.0 if either has none.

    So it is in the scripts of SQuAD 1.1 and MLQA, where neither has any too, which is an exact match all the same; that
    of SQuAD 2.0, which has questions without an answer, gives 1 to both.
    """
    ours, theirs = words(completion, language), words(reference, language)
    if not ours or not theirs:
        return 0.0
    common = (Counter(ours) & Counter(theirs)).total()
    return 2 * common / (len(ours) + len(theirs))


def same_words(completion: str, reference: str, language: str | None = None) -> float:
    """Return 1.0 if both are the same words in the same order."""
    return float(words(completion, language) == words(reference, language))


def words(text: str, language: str | None = None) -> list[str]:
    """Return the words that count: in lower case, without punctuation and articles."""
    text = text.lower()
    if language is None:
        text = "".join(c for c in text if c not in string.punctuation)
    else:
        text = "".join(c for c in text if c not in string.punctuation and unicodedata.category(c)[0] != "P")
    articles = _ARTICLES.get(language or "en")
    if articles is not None:
        text = articles.sub(" ", text)
    return (separate_characters(text) if language in UNSPACED_LANGUAGES else text).split()


def language_code(name: str) -> str:
    """Return the code of a language given by code ("zh", "zho"), locale ("zh-CN", "zho_Hans") or English name."""
    name = name.strip().lower()
    code = re.split("[-_]", name)[0]
    return _CODES.get(name) or _THREE_LETTERS.get(code, code)


def record_language(record: Record) -> str | None:
    """Return the code of the language that a record says it is in, by ``language``, ``lang``, or a subtask named so."""
    for field in ("language", "lang"):
        if isinstance(name := record.get(field), str) and name.strip():
            return language_code(name)
    subtask = str(record.get("subtask")).lower()  # any text: it names a language only where it is one, whole
    if re.fullmatch("[a-z]{3}_[a-z]{4}", subtask):  # FLORES's; three letters alone may mean anything ("fin")
        return _THREE_LETTERS.get(subtask[:3])
    code = _CODES.get(subtask, subtask)
    return code if code in _CODES.values() else None


def _best(
    scorer: Callable[[str, str, str | None], float],
    completions: Sequence[str],
    records: Sequence[Record],
    language: str | None,
) -> list[float]:
    scores = []
    for completion, record in zip(completions, records, strict=True):
        spoken = _language_of(record, language)
        scores.append(max(scorer(completion, reference, spoken) for reference in reference_answers(record)))
    return scores


def _language_of(record: Record, language: str | None) -> str | None:
    return record_language(record) if language is None else language_code(language)


def _check(record: Record, language: str | None) -> None:
    references, spoken = reference_answers(record), _language_of(record, language)
    if not any(words(reference, spoken) for reference in references):
        raise DataError(
            f"no reference answer: no word of {references[0][:60]!r}, the reference of {record_name(record)}, counts, "
            "as articles and punctuation do not; mend the record, or take exact-match"
        )
