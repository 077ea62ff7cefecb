"""Choosing by likelihood: which of some answers the model finds likeliest.

Each choice is rendered as the assistant's whole answer, its end of turn with it. Summed (``sum``, the default), a
choice's log-probability is that of giving exactly this answer and ending there, so "company" gains nothing from being
the beginning of "company building". Length-normalised (``mean``, a token's on average), it no longer falls with every
token; take it where the choices are of very different lengths.
"""

from collections.abc import Sequence

from handpick.data.examples import Example, Message
from handpick.data.render import Rendered, Renderer
from handpick.errors import DataError
from handpick.evaluation.task import prompt_of
from handpick.rewards.extractors import normalise_text
from handpick.rewards.protocol import Record
from handpick.rewards.reference import record_name, reference_answers


def choices_of(record: Record, given: Sequence[str]) -> list[str]:
    """Return a record's own choices, else those given for all.

    Raises:
        DataError: there are none, only one, or two are the same.
    """
    found = record.get("choices") or list(given)
    if not isinstance(found, list) or not all(isinstance(each, str) and each.strip() for each in found):
        raise DataError(f"`choices` is no list of texts: in {record_name(record)}; write the words of each choice")
    if len(set(found)) < 2 or len(set(found)) < len(found):
        raise DataError(
            f"no choices: {record_name(record)} has {len(set(found))} different ones in `choices`; add them to the "
            "record, or give --choice for all, several times"
        )
    return found


def right_choices(record: Record, example: Example, choices: Sequence[str]) -> set[int]:
    """Return which choices are right: those that are a reference, by word or by letter, or the assistant's own turn.

    So choices may be whole sentences ("the correct answer is true") where the record's turn is one and its ``answer``
    a word.

    Raises:
        DataError: none is.
    """
    references = reference_answers(record)
    if example.messages[-1].role == "assistant":
        references = [*references, example.messages[-1].content]
    said = {normalise_text(reference) for reference in references}
    right = {i for i, choice in enumerate(choices) if normalise_text(choice) in said}
    right |= {i for i in range(len(choices)) if not right and chr(ord("a") + i) in said}
    if not right:
        raise DataError(
            f"the reference is none of the choices: in {record_name(record)} ({references[0][:60]!r}, of "
            f"{', '.join(choices)[:120]}); mend the record, or give other choices"
        )
    return right


def render_with_choice(renderer: Renderer, example: Example, choice: str, max_length: int) -> Rendered:
    """Render a record's prompt with a choice as its answer, whole.

    Raises:
        DataError: it does not fit into ``max_length``, or cannot be rendered.
    """
    prompt = prompt_of(example)
    answered = prompt.with_turns([*prompt, Message("assistant", choice)])
    rendered = renderer(answered, max_length, labelled_from=len(prompt))
    if rendered.full_length > max_length:
        raise DataError(
            f"too long: with the choice {choice[:40]!r} the record has {rendered.full_length} tokens, more than "
            f"{max_length}; raise --max-length"
        )
    return rendered
