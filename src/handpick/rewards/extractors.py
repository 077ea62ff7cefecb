r"""Finding the answer in a text: the last number, what follows ``####``, a letter, true or false.

An extractor takes any text and gives the answer in a form that can be compared with ``==``, or None where it finds
none. A new one is a function and one line in ``EXTRACTORS``.
"""

import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import NamedTuple, TypeAlias

from handpick.rewards.choice_letters import (
    OPENING,
    bracketed_labels,
    is_denied,
    leading_label,
    plain_forms,
    stated_letters,
)

Answer: TypeAlias = str | Decimal

# "1,234.50", "-$5", ".5"; a minus behind a letter, a digit or a bracket is a hyphen or a subtraction.
_NUMBER = re.compile(
    r"(?P<minus>(?<![\w.)\]])[-−])?(?:\\?[$€£¥₹])?(?P<minus_behind>(?<=[$€£¥₹])[-−])?"
    r"(?P<digits>\d+(?:,\d+)*+(?:\.\d+)?|(?<![\d.])\.\d+)"
)
_GROUPED = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?")

# "The answer is", "Answer:", "the correct option would be": what stands before an answer that is stated as such.
_STATED = (
    r"(?i:\b(?:answer|correct\s+(?:option|choice|one))[\s*_]*+"
    r"(?:[:=]|(?:is|was|would\s+be|should\s+be|must\s+be)\b)[\s:*_]*+(?:the\s+)?(?:(?:option|choice|letter)\s+)?)"
    + OPENING
)

# A capital that stands alone; a small letter only where nothing but a closing mark or the line's end follows.
_LETTER = r"(?:(?!I\s+[a-z])(?P<capital>[A-Z])(?![\w'’-])|(?P<small>[a-z])(?=[)\]}.*_`\"']*\s*$|\s*[)\]]))"
_STATED_LETTER = re.compile(_STATED + _LETTER, re.MULTILINE)
_LEADING_LETTER = re.compile(r"\A" + OPENING + r"(?P<letter>[A-Za-z])(?=[):\]}*]|\.(?!\w)|\s*$)", re.MULTILINE)
_BRACKETED_LETTER = re.compile(r"(?<![^\W\u0900-\uFFFF])\((?P<letter>[A-Za-z])\)")
# "A dog" and "I think" are no choices.
_LONE_CAPITAL = re.compile(r"(?<![\w'’.-])(?![AI]\s+[a-z])(?P<letter>[A-Z])(?![\w'’-]|\.\w)")

_NOT = r"(?:(?P<negated>\bnot|n['’]t)\s+)?"
_TRUTHS = {"true": "true", "yes": "true", "false": "false", "no": "false"}
_OPPOSITE = {"true": "false", "false": "true"}


class Extractor(NamedTuple):
    """How an answer is found.

    ``find`` reads a completion, or a reference that is a worked solution. ``bare`` reads a reference that is the
    answer alone, without the mark that ``find`` looks for; None where ``find`` looks for none.
    """

    find: Callable[[str], Answer | None]
    summary: str
    bare: Callable[[str], Answer | None] | None = None

    def of_reference(self, reference: str) -> Answer | None:
        """Return the answer in a reference, marked or bare."""
        found = self.find(reference)
        return self.bare(reference) if found is None and self.bare is not None else found


def last_number(text: str) -> Decimal | None:
    """Return the last number, without thousands separators, currency and percent sign: "1,234.50" is 1234.5, "50%" is
    50."""
    numbers = _numbers(text)
    return numbers[-1].value if numbers else None


def after_hash(text: str) -> Answer | None:
    """Return what follows ``####`` on its line, as GSM8K's solutions have it; the number, where there is just one.

    The first that a number follows counts, as in GSM8K's own code: a model may go on with another question. With none
    of that kind it is the last, for ``####`` is a heading in Markdown too.
    """
    lines = [after.strip().partition("\n")[0] for after in text.split("####")[1:]]
    if not lines:
        return None
    answers = (_number_or_text(line) for line in lines if _NUMBER.match(line))
    return next((answer for answer in answers if isinstance(answer, Decimal)), _number_or_text(lines[-1]))


def boxed(text: str) -> Answer | None:
    r"""Return what stands in the last ``\boxed{...}`` whose braces are balanced.

    As a number where it is nothing else.
    """
    start, end = -1, -1
    opened: list[int | None] = []  # where the content of an open \boxed starts; None for any other brace
    for brace in re.finditer(r"\\boxed\s*\{|\\.|[{}]", text, re.DOTALL):
        if brace[0] == "}":
            content = opened.pop() if opened else None
            if content is not None and content > start:
                start, end = content, brace.start()
        elif brace[0] == "{" or len(brace[0]) > 2:
            opened.append(None if brace[0] == "{" else brace.end())
        # else a backslash and what it escapes: \{ is no brace
    return _latex(text[start:end]) if start >= 0 else None


def choice_letter(text: str) -> str | None:
    """Return the letter of a multiple choice, as a capital: a marked one, else the only capital that stands alone."""
    return marked_letter(text) or lone_letter(text)


def marked_letter(text: str) -> str | None:
    """Return a letter that is clearly a choice, as a capital.

    Looked for in this order: the last one stated ("the answer is (D)", "答案是D"), one that the text begins with ("D.",
    "d) ...", "D"), the last in round brackets. What is denied is none ("not (D)").
    """
    text = plain_forms(text)
    stated = [(found.end(), found["capital"] or found["small"]) for found in _STATED_LETTER.finditer(text)]
    if stated := [*stated, *stated_letters(text)]:
        return max(stated)[1].upper()
    if (leading := _LEADING_LETTER.match(text)) and not is_denied(text, leading):
        return leading["letter"].upper()
    bracketed = [
        (found.end(), found["letter"].upper())
        for found in _BRACKETED_LETTER.finditer(text)
        if not is_denied(text, found)
    ]
    return leading_label(text) or max([*bracketed, *bracketed_labels(text)], default=(0, None))[1]


def lone_letter(text: str) -> str | None:
    """Return the only capital that stands alone in a text and is not denied, if there is just one."""
    text = plain_forms(text)
    alone: set[str] = set()
    for found in _LONE_CAPITAL.finditer(text):
        if found["letter"] not in alone and not is_denied(text, found):
            alone.add(found["letter"])
            if len(alone) > 1:
                return None
    return alone.pop() if alone else None


def truth(text: str) -> str | None:
    """Return what a text affirms or denies: "true" for true and yes, "false" for false and no.

    Looked for in this order: the last one stated ("the answer is no"), one that the text begins with, the last true
    or false, the last yes or no. "Not true" is false.
    """
    text = text.casefold()
    either = "true|false|yes|no"
    found = (
        _last(_words(either, _STATED + _NOT), text)
        or _words(either, r"\A\W*" + _NOT).match(text)
        or _last(_words("true|false", _NOT), text)
        or _last(_words("yes|no", _NOT), text)
    )
    if found is None:
        return None
    value = _TRUTHS[found["word"]]
    return _OPPOSITE[value] if found["negated"] else value


def find_named(text: str, words: Sequence[str]) -> str | None:
    """Return the one of some words or phrases that a text names, whatever its case.

    Looked for in this order: the last one stated ("the answer is sports"), one that the text begins with, the last
    one anywhere.
    """
    canonical = {normalise_text(word): word for word in words}
    either = "|".join(re.escape(word) for word in sorted(canonical, key=len, reverse=True) if word)
    if not either:
        return None
    text = normalise_text(text)
    found = (
        _last(_words(either, _STATED), text) or _words(either, r"\A\W*").match(text) or _last(_words(either, ""), text)
    )
    return None if found is None else canonical[found["word"]]


def normalise_text(text: str) -> str:
    """Return a text in one case and with single spaces, without the full stop it may end with.

    Empty where nothing is left.
    """
    text = " ".join(text.split()).casefold()
    return text.removesuffix(".").removesuffix("。").rstrip() or text


def whole_text(text: str) -> str | None:
    """Return the whole text, but for case, white space and a final full stop."""
    return normalise_text(text) or None


class _Number(NamedTuple):
    text: str
    value: Decimal


def _numbers(text: str) -> list[_Number]:
    """Return the numbers of a text, in order. "1,234" is one, "1,2" are two."""
    found = []
    for match in _NUMBER.finditer(text.replace("{,}", ",")):  # LaTeX's comma without a space behind it
        digits = match["digits"]
        if "," not in digits or _GROUPED.fullmatch(digits):
            value = Decimal(digits.replace(",", ""))
            is_negative = match["minus"] or match["minus_behind"]
            found.append(_Number(match[0], value.copy_negate() if is_negative else value))
        else:
            found.extend(_Number(part, Decimal(part)) for part in digits.split(","))
    return found


def _number_or_text(text: str) -> Answer | None:
    """Return the number of a text with just one, units and all; else the text."""
    numbers = _numbers(text)
    return numbers[0].value if len(numbers) == 1 else whole_text(text)


def _latex(text: str) -> Answer | None:
    """Return a number where the text is one, but for a currency or percent sign; else the text without white space."""
    text = "".join(text.split())
    numbers = _numbers(text)
    if len(numbers) == 1 and numbers[0].text == text.replace("{,}", ",").removesuffix("%").removesuffix("\\"):
        return numbers[0].value
    return text or None


def _words(either: str, before: str) -> re.Pattern[str]:
    # For text in one case: re.IGNORECASE takes "ı" for "i", which no look-up in a table does.
    return re.compile(before + rf"(?<!\w)(?P<word>{either})(?!\w)")


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    matches = list(pattern.finditer(text))
    return matches[-1] if matches else None


EXTRACTORS: dict[str, Extractor] = {
    "text": Extractor(whole_text, "the whole text, but for case, white space and a final full stop"),
    "last-number": Extractor(last_number, "the last number, compared by value"),
    "hash": Extractor(after_hash, "what follows ####, as in GSM8K", bare=_number_or_text),
    "boxed": Extractor(boxed, r"what stands in the last \boxed{...}, as in MATH", bare=_latex),
    "choice": Extractor(choice_letter, "a choice's letter"),
    "true-false": Extractor(truth, "true or yes, false or no"),
}
