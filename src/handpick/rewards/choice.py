"""Choice accuracy: the completion picks the right one of some choices, by its letter or by its words."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial

from handpick.errors import DataError
from handpick.rewards.extractors import choice_letter, find_named, lone_letter, marked_letter, normalise_text, truth
from handpick.rewards.protocol import Prompt, Record
from handpick.rewards.reference import record_name, reference_answers


@dataclass(frozen=True, slots=True)
class Choice:
    """1 where the completion picks the right choice, else 0; a completion that picks none gets 0.

    A record with a list ``choices`` may be answered by letter or in the words of a choice, and its reference may be
    either. Without one, the reference decides: a letter (MMLU), or one of true, false, yes, no (BoolQ).
    """

    def check(self, record: Record) -> None:
        """Raise DataError where no reference is a choice."""
        choice("", record)

    def __call__(
        self, prompts: Sequence[Prompt], completions: Sequence[str], records: Sequence[Record], /
    ) -> list[float]:
        """Score completions; a DataError names a record whose reference is none of the choices."""
        return [choice(completion, record) for completion, record in zip(completions, records, strict=True)]


def choice(completion: str, record: Record) -> float:
    """Return 1.0 if the completion picks the choice that one of the record's references is.

    Raises:
        DataError: no reference is a choice.
    """
    choices, references = _choices(record), reference_answers(record)
    readers: list[Callable[[str], Hashable]] = [partial(_find_picked, choices)] if choices else [choice_letter, truth]
    for read in readers:
        right = {read(reference) for reference in references} - {None}
        if right:
            return float(read(completion) in right)
    why = (
        f"it is none of {', '.join(choices)}, nor the letter of one"
        if choices
        else "it is neither a letter nor true, false, yes or no, and the record has no list `choices`"
    )
    raise DataError(
        f"the reference is no choice: in {record_name(record)} {why} ({references[0][:60]!r}); "
        "mend the record, or take exact-match"
    )


def _choices(record: Record) -> list[str]:
    choices = record.get("choices")
    if choices is None:
        return []
    if not isinstance(choices, list) or not all(isinstance(words, str) and normalise_text(words) for words in choices):
        raise DataError(f"`choices` is no list of texts: in {record_name(record)}; write the words of each choice")
    return choices


def _find_picked(choices: Sequence[str], text: str) -> int | None:
    """Find the choice that a text picks: it is one word for word, or gives a letter, or names one in a sentence."""
    words = [normalise_text(choice) for choice in choices]
    if normalise_text(text) in words:
        return words.index(normalise_text(text))
    if (index := _index(marked_letter(text), choices)) is not None:
        return index
    if (name := find_named(text, choices)) is not None:
        return choices.index(name)
    return _index(lone_letter(text), choices)  # last: "vitamin C" names a choice


def _index(letter: str | None, choices: Sequence[str]) -> int | None:
    index = ord(letter) - ord("A") if letter else len(choices)
    return index if index < len(choices) else None
