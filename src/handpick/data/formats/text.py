"""A field's text: a string, or the parts of a content list joined, with what of them is not to be learnt."""

from typing import NamedTuple, NoReturn

from handpick.data.examples import Json, Span
from handpick.data.formats.loss import is_learnt
from handpick.data.formats.record import is_null
from handpick.data.reading import Reading
from handpick.errors import DataError

# content parts that are no text, and what they are called in a refusal
_MEDIA = {"image": "images", "audio": "audio", "video": "video"}
_TEXT_KINDS = ("text", "input_text", "output_text")
THINKING_KINDS = ("thinking", "reasoning")
_TEXT_FIELDS = ("text", "content", "value")


class Text(NamedTuple):
    """A text and its stretches that are not to be learnt."""

    text: str
    no_loss: tuple[Span, ...] = ()


def text_of(value: Json, field: str) -> str:
    """Return a string, or the joined text parts of a content list.

    Raises:
        DataError: it is no text.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(part_text(part, field) for part in value)
    if isinstance(value, int | float) and not isinstance(value, bool) and not is_null(value):
        raise DataError(f"missing text: {field} is {type(value).__name__}, not text; write it as text, in quotes")
    raise DataError(f"missing text: {field} is {'null' if is_null(value) else type(value).__name__}, not text")


def content_of(value: Json, field: str, reading: Reading) -> Text:
    """Return a turn's content; parts with ``train`` or ``weight`` say for themselves whether they are learnt.

    Raises:
        DataError: it is no text.
    """
    if not isinstance(value, list):
        return Text(text_of(value, field))
    text, spans = "", list[Span]()
    for part in value:
        said = part_text(part, field)
        if said and isinstance(part, dict) and not _part_is_learnt(part, field, reading):
            begins_at_last = bool(spans) and spans[-1][1] == len(text)
            spans.append((spans.pop()[0] if begins_at_last else len(text), len(text) + len(said)))
        text += said
    return Text(text, tuple(spans))


def _part_is_learnt(part: dict[str, Json], field: str, reading: Reading) -> bool:
    """Ask ``train`` before ``weight``, as axolotl does."""
    said = next((name for name in ("train", "weight", "loss") if not is_null(part.get(name))), None)
    return said is None or is_learnt(part, (said,), f"a part of {field}", reading)


def part_text(part: Json, field: str) -> str:
    """Return the text of one part of a content list.

    Raises:
        DataError: it is an image, a sound or a film, or nothing that is known.
    """
    kind = part.get("type") if isinstance(part, dict) else type(part).__name__
    if isinstance(part, dict) and (kind in _TEXT_KINDS or is_null(kind)):
        found = next((part[name] for name in _TEXT_FIELDS if isinstance(part.get(name), str)), None)
        if isinstance(found, str):
            return found
        if not is_null(kind):
            raise DataError(f"missing text: the text part of {field} has no text")
    _refuse(kind, part, field)


def _refuse(kind: Json, part: Json, field: str) -> NoReturn:
    for media, name in _MEDIA.items():
        if media in str(kind) or (is_null(kind) and isinstance(part, dict) and any(media in each for each in part)):
            refuse_media(name, f"{field} holds a part of type {kind if not is_null(kind) else media}")
    raise DataError(f"not text: {field} holds a part of type {kind}, and handpick reads text only")


def refuse_media(kind: str, found: str) -> NoReturn:
    """Refuse a record that is not text alone."""
    raise DataError(
        f"{kind}: {found}, and handpick reads text only; take the record out, or the column if no turn speaks of it"
    )
