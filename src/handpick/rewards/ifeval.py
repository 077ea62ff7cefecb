"""IFEval: whether an answer follows instructions that can be checked by rule (Zhou et al. 2023, arXiv 2311.07911).

Each of the 25 instructions of the paper's table 1 is a function here and a line in ``INSTRUCTIONS``; its arguments are
those of a record's ``kwargs``. The rules are written anew from the paper's definitions, and where those leave it open
they decide as the authors' program does (google-research, ``instruction_following_eval``), sentences and words in
capitals as nltk cuts them (``handpick.rewards.punkt``). Two rules are ours, and results differ by them:

- Languages are told apart by script and common words (``handpick.rewards.language``), and not by langdetect, whose
  answer may change from run to run.
- ``keywords:letter_frequency`` counts the letter that a record names. Where that is none from a to z, such as # and !,
  the program draws a letter at random and counts that.

docs/evaluation.md has by how much, counted by benchmarks/against_sources.py.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from handpick.errors import DataError
from handpick.rewards.language import is_in
from handpick.rewards.protocol import Prompt, Record
from handpick.rewards.punkt import sentences
from handpick.rewards.reference import record_name

ACCURACIES = ("prompt-strict", "instruction-strict", "prompt-loose", "instruction-loose")

_CONSTRAINED = ("My answer is yes.", "My answer is no.", "My answer is maybe.")


# How nltk's word tokenizer cuts the words of a sentence, as far as it decides which are in capitals alone: what stands
# between them, and which fall in two ("DO N'T", "CAN NOT").
_CUTS = (
    (re.compile(r"(?<=[^.])\.(?=[\])}>\"'»”’ ]*\s*$)"), " "),
    (re.compile(r"[\s;@#$%&?!*()\[\]{}<>\"`«»“”‘’„\u2012-\u2015]|--|''|\.{2,}|[:,](?!\d)"), " "),
    (re.compile(r"(?<!\w)'(?!(?:re|ve|ll|[mtsdn])\b)(?=\w)", re.IGNORECASE), " "),
    (re.compile(r"(?<=[^'\s])(?='(?!\S))"), " "),
    (re.compile(r"(?<=[^'\s])(?='[sSmMdD](?!\S))"), " "),
    (re.compile(r"(?<=[^'\s])(?=(?:'(?:ll|LL|re|RE|ve|VE)|n't|N'T)(?!\S))"), " "),
    *(
        (re.compile(rf"\b({one})({two})\b", re.IGNORECASE), r" \1 \2 ")
        for one, two in (
            ("can", "not"),
            ("d", "'ye"),
            ("gim", "me"),
            ("gon", "na"),
            ("got", "ta"),
            ("lem", "me"),
            ("more", "'n"),
        )
    ),
    (re.compile(r"\b(wan)(na)(?!\S)", re.IGNORECASE), r" \1 \2 "),
)


def follows(answer: str, record: Record, *, loose: bool = False) -> list[bool]:
    """Return, for each of a record's instructions, whether an answer follows it.

    Args:
        answer: the text; an empty one follows nothing.
        record: with ``instruction_id_list`` and ``kwargs``, a mapping an instruction.
        loose: whether it is enough that the answer does so without its first line, its last, or its asterisks
            (section 2.2 of the paper: an opening remark and emphasis are forgiven).

    Raises:
        DataError: the record has no such lists, or names an instruction that does not exist or lacks an argument.
    """
    answers = [each for each in _variants(answer) if each.strip()] if loose else [answer] if answer.strip() else []
    followed = []
    for name, given in _instructions(record):
        try:
            followed.append(any(INSTRUCTIONS[name](each, **given) for each in answers))
        except (TypeError, DataError) as error:
            raise DataError(f"an instruction cannot be checked: {name} of {record_name(record)}, {error}") from error
    return followed


@dataclass(frozen=True, slots=True)
class IFEval:
    """From 0 to 1: the share of the record's instructions that the answer follows, strictly."""

    def check(self, record: Record) -> None:
        """Raise DataError where the instructions cannot be checked."""
        follows("x", record)

    def __call__(
        self, prompts: Sequence[Prompt], completions: Sequence[str], records: Sequence[Record], /
    ) -> list[float]:
        """Score completions; a DataError names a record whose instructions cannot be checked."""
        each = [follows(completion, record) for completion, record in zip(completions, records, strict=True)]
        return [sum(one) / len(one) for one in each]


def _instructions(record: Record) -> list[tuple[str, dict[str, Any]]]:
    names, given = record.get("instruction_id_list"), record.get("kwargs")
    if not isinstance(names, list) or not names or not isinstance(given, list) or len(names) != len(given):
        raise DataError(
            f"no instructions to check: none in {record_name(record)}; IFEval needs `instruction_id_list` and "
            "`kwargs`, two lists of the same length"
        )
    for name in names:
        if name not in INSTRUCTIONS:
            raise DataError(f"there is no such instruction: {name!r} of {record_name(record)}; mend it or leave it out")
    # tables give every record every argument, null where it is another instruction's
    return [(n, {k: v for k, v in (g or {}).items() if v is not None}) for n, g in zip(names, given, strict=True)]


def _variants(answer: str) -> Iterator[str]:
    lines = answer.split("\n")
    for kept in (lines, lines[1:], lines[:-1], lines[1:-1]):
        text = "\n".join(kept).strip()
        yield text
        yield text.replace("*", "")


def _holds(relation: str, found: int, number: int) -> bool:
    if relation not in ("at least", "less than"):
        raise DataError(f"the relation {relation!r} is neither 'at least' nor 'less than'")
    return found >= number if relation == "at least" else found < number


# --- keywords ---


def has_keywords(answer: str, *, keywords: Sequence[str]) -> bool:
    """Return whether every keyword occurs, whatever its case, also within a word."""
    return all(word.lower() in answer.lower() for word in keywords)


def has_keyword_often(answer: str, *, keyword: str, frequency: int, relation: str) -> bool:
    """Return whether a keyword occurs so often, whatever its case, also within words."""
    return _holds(relation, answer.lower().count(keyword.strip().lower()), frequency)


def lacks_words(answer: str, *, forbidden_words: Sequence[str]) -> bool:
    """Return whether none of some words occurs as a word by itself, whatever its case."""
    return not any(re.search(rf"(?<!\w){re.escape(word)}(?!\w)", answer, re.IGNORECASE) for word in forbidden_words)


def has_letter_often(answer: str, *, letter: str, let_frequency: int, let_relation: str) -> bool:
    """Return whether a letter occurs so often, whatever its case."""
    return _holds(let_relation, answer.lower().count(letter.strip().lower()), let_frequency)


# --- language and length ---


def is_in_language(answer: str, *, language: str) -> bool:
    """Return whether the whole answer is in a language; one without a letter is in any."""
    return is_in(answer, language)


def has_sentences(answer: str, *, num_sentences: int, relation: str) -> bool:
    """Return whether there are so many sentences."""
    return _holds(relation, count_sentences(answer), num_sentences)


def count_sentences(text: str) -> int:
    """Count sentences as nltk's punkt cuts them: the number of a list's item is one by itself ("1. Eat." is two)."""
    return len(sentences(text))


def has_paragraphs(answer: str, *, num_paragraphs: int) -> bool:
    """Return whether there are exactly so many paragraphs, with a line *** between every two, none of them empty."""
    parts = [part.strip() for part in re.split(r"\s?\*\*\*\s?", answer)]
    inner = parts[1:-1] if len(parts) > 1 else []
    return all(inner) and sum(map(bool, parts)) == num_paragraphs


def has_words(answer: str, *, num_words: int, relation: str) -> bool:
    """Return whether there are so many words: runs of letters and digits."""
    return _holds(relation, len(re.findall(r"\w+", answer)), num_words)


def paragraph_begins_with(answer: str, *, num_paragraphs: int, nth_paragraph: int, first_word: str) -> bool:
    """Return whether there are exactly so many paragraphs, an empty line between every two, and one begins with a word.

    An empty one is not counted, but has its place: behind it the next is the third. The word may stand in straight
    quotes, and ends at one, at a stop, a comma, a question or an exclamation mark; any other mark is part of it.
    """
    parts = [part.strip() for part in answer.split("\n\n")]
    if sum(map(bool, parts)) != num_paragraphs or not 1 <= nth_paragraph <= num_paragraphs:
        return False
    paragraph = parts[nth_paragraph - 1]
    word = re.match(r"'*\"*([^\s.,?!'\"]*)", paragraph)
    return bool(paragraph) and word is not None and word[1].lower() == first_word.lower()


# --- content and format ---


def has_placeholders(answer: str, *, num_placeholders: int) -> bool:
    """Return whether there are at least so many placeholders in square brackets."""
    return len(re.findall(r"\[[^\]\n]*\]", answer)) >= num_placeholders


def has_postscript(answer: str, *, postscript_marker: str) -> bool:
    """Return whether there is a postscript with this marker, spaces between its letters allowed."""
    marker = r"\s?".join(re.escape(letter) for letter in postscript_marker.strip() if not letter.isspace())
    return re.search(rf"(?<!\w){marker}", answer, re.IGNORECASE) is not None


def has_bullets(answer: str, *, num_bullets: int) -> bool:
    """Return whether there are exactly so many bullet points: lines that begin with one asterisk or a hyphen.

    An asterisk alone on its line is one too, where a line follows: the program's pattern takes the line break for what
    stands behind it.
    """
    asterisks, hyphens = (re.findall(mark, answer, re.MULTILINE) for mark in (r"^\s*\*[^\*].*$", r"^\s*-.*$"))
    return len(asterisks) + len(hyphens) == num_bullets


def is_constrained(answer: str) -> bool:
    """Return whether one of the three answers allowed is given."""
    return any(allowed in answer for allowed in _CONSTRAINED)


def has_highlights(answer: str, *, num_highlights: int) -> bool:
    """Return whether there are at least so many sections *highlighted* or **highlighted**.

    Each kind is looked for by itself, so text between two asterisks counts as the one and as the other where no other
    asterisk stands in the way.
    """
    marked = re.findall(r"\*([^*\n]*)\*", answer) + re.findall(r"\*\*([^*\n]*)\*\*", answer)
    return sum(bool(inside.strip()) for inside in marked) >= num_highlights


def has_sections(answer: str, *, section_spliter: str, num_sections: int) -> bool:
    """Return whether there are at least so many sections, each begun by a word and a number."""
    return len(re.findall(rf"{re.escape(section_spliter.strip())}\s?\d+", answer)) >= num_sections


def is_json(answer: str) -> bool:
    """Return whether the whole answer is JSON; a Markdown fence around it is allowed."""
    text = re.sub(r"\A```(?:json)?|```\Z", "", answer.strip(), flags=re.IGNORECASE)
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def has_title(answer: str) -> bool:
    """Return whether there is a title in double angular brackets, not empty."""
    return any(title.strip(" <>") for title in re.findall(r"<<([^\n]+)>>", answer))


# --- combinations, case, start and end, punctuation ---


def has_two_responses(answer: str) -> bool:
    """Return whether there are two different responses with six asterisks between them."""
    parts = [part.strip() for part in answer.split("******")]
    parts = parts[1 if not parts[0] else 0 :]
    parts = parts[: -1 if parts and not parts[-1] else None]
    return len(parts) == 2 and all(parts) and parts[0] != parts[1]


def repeats_prompt(answer: str, *, prompt_to_repeat: str) -> bool:
    """Return whether the answer begins with the request, word for word."""
    return answer.strip().lower().startswith(prompt_to_repeat.strip().lower())


def ends_with(answer: str, *, end_phrase: str) -> bool:
    """Return whether the answer ends with this phrase and nothing behind it but quotation marks."""
    return answer.strip().strip('"').lower().endswith(end_phrase.strip().lower())


def has_capital_words(answer: str, *, capital_frequency: int, capital_relation: str) -> bool:
    """Return whether there are so many words in capitals alone."""
    return _holds(capital_relation, count_capital_words(answer), capital_frequency)


def count_capital_words(text: str) -> int:
    """Count words in capitals alone, as nltk's tokenizer cuts words: "I'LL" is two, "U.S." and "AI/ML" are one each."""
    count = 0
    for sentence in sentences(text):
        for where, instead in _CUTS:
            sentence = where.sub(instead, sentence)
        count += sum(word.isupper() for word in sentence.split())
    return count


def is_english_capital(answer: str) -> bool:
    """Return whether the answer is English, in capitals alone."""
    return answer.isupper() and is_in(answer, "en")


def is_english_lowercase(answer: str) -> bool:
    """Return whether the answer is English, in small letters alone."""
    return answer.islower() and is_in(answer, "en")


def lacks_commas(answer: str) -> bool:
    """Return whether there is not one comma."""
    return "," not in answer


def is_quoted(answer: str) -> bool:
    """Return whether the whole answer stands in double quotation marks."""
    text = answer.strip()
    return len(text) > 1 and text[0] == text[-1] == '"'


INSTRUCTIONS: dict[str, Callable[..., bool]] = {
    "keywords:existence": has_keywords,
    "keywords:frequency": has_keyword_often,
    "keywords:forbidden_words": lacks_words,
    "keywords:letter_frequency": has_letter_often,
    "language:response_language": is_in_language,
    "length_constraints:number_sentences": has_sentences,
    "length_constraints:number_paragraphs": has_paragraphs,
    "length_constraints:number_words": has_words,
    "length_constraints:nth_paragraph_first_word": paragraph_begins_with,
    "detectable_content:number_placeholders": has_placeholders,
    "detectable_content:postscript": has_postscript,
    "detectable_format:number_bullet_lists": has_bullets,
    "detectable_format:constrained_response": is_constrained,
    "detectable_format:number_highlighted_sections": has_highlights,
    "detectable_format:multiple_sections": has_sections,
    "detectable_format:json_format": is_json,
    "detectable_format:title": has_title,
    "combination:two_responses": has_two_responses,
    "combination:repeat_prompt": repeats_prompt,
    "startend:end_checker": ends_with,
    "change_case:capital_word_frequency": has_capital_words,
    "change_case:english_capital": is_english_capital,
    "change_case:english_lowercase": is_english_lowercase,
    "punctuation:no_comma": lacks_commas,
    "startend:quotation": is_quoted,
}
