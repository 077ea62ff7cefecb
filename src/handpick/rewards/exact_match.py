"""Exact match: the answer found in the completion is the one found in a reference."""

from collections.abc import Sequence
from dataclasses import dataclass

from handpick.choices import look_up
from handpick.errors import DataError
from handpick.rewards.extractors import EXTRACTORS, Answer, Extractor
from handpick.rewards.protocol import Prompt, Record
from handpick.rewards.reference import record_name, reference_answers


@dataclass(frozen=True, slots=True)
class ExactMatch:
    """1 where the completion's answer is a reference's, else 0; no answer found is 0.

    Args:
        extractor: a name in ``EXTRACTORS``: what is the answer in a longer text.

    Raises:
        SettingsError: there is no such extractor.
    """

    extractor: str = "text"

    def __post_init__(self) -> None:
        look_up(EXTRACTORS, self.extractor, "extractor")

    def check(self, record: Record) -> None:
        """Raise DataError where the extractor finds an answer in none of the references."""
        _reference_values(record, self.extractor, EXTRACTORS[self.extractor])

    def __call__(
        self, prompts: Sequence[Prompt], completions: Sequence[str], records: Sequence[Record], /
    ) -> list[float]:
        """Score completions; a DataError names a record whose references hold no answer."""
        return [
            exact_match(completion, record, self.extractor)
            for completion, record in zip(completions, records, strict=True)
        ]


def exact_match(completion: str, record: Record, extractor: str = "text") -> float:
    """Return 1.0 if the answer that the extractor finds in the completion is that of one of the record's references.

    Raises:
        DataError: the extractor finds an answer in none of the references.
    """
    how = EXTRACTORS[extractor]
    return float(how.find(completion) in _reference_values(record, extractor, how))


def _reference_values(record: Record, name: str, how: Extractor) -> list[Answer]:
    references = reference_answers(record)
    found = [answer for answer in map(how.of_reference, references) if answer is not None]
    if not found:
        raise DataError(
            f"no reference answer: exact-match:{name} finds none in {references[0][:60]!r}, the reference of "
            f"{record_name(record)}; mend the record, or take another of {', '.join(EXTRACTORS)}"
        )
    return found
