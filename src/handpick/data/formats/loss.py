"""What a record says is not to be learnt: whole turns, parts of a content, and stretches of its characters."""

from collections.abc import Sequence
from typing import TypeGuard

from handpick.data.examples import Json, Span
from handpick.data.formats.record import is_null, parse_json, truth_of
from handpick.data.reading import Reading
from handpick.errors import DataError

# OpenAI, Mistral and axolotl; ms-swift's two; axolotl's
WEIGHTS = ("weight", "loss", "loss_scale", "train")
DETAIL = "train_detail"


def is_learnt(fields: dict[str, Json], names: Sequence[str], where: str, reading: Reading) -> bool:
    """Return whether something is to be learnt, by whichever of ``names`` says so; by none it is.

    Raises:
        DataError: a weight is neither 0 nor 1, and weights are not to be rounded.
    """
    said = [_weight(fields[name], f"`{name}` of {where}", reading) for name in names if not is_null(fields.get(name))]
    return all(said)


def _weight(value: Json, field: str, reading: Reading) -> bool:
    learnt = truth_of(value)
    if learnt is not None:
        return learnt
    number = _number(value)
    if number is not None and 0 <= number < float("inf") and reading.rounds_weights:
        return number >= 0.5
    advice = "a turn is learnt or it is not: give 0 or 1, or --turn-weights round"
    raise DataError(f"turn weight: {field} is {value!r}; {advice}")


def _number(value: Json) -> float | None:
    """Return a number, which CSV files write as text."""
    try:
        return float(value) if isinstance(value, int | float | str) else None
    except (ValueError, OverflowError):  # a whole number may be of more digits than a float
        return None


def untrained_spans(value: Json, content: str, where: str) -> tuple[Span, ...]:
    """Return what axolotl's ``train_detail`` leaves out of a content.

    It is a list of ``{begin_offset, end_offset, train}``: offsets count characters, the one at ``end_offset`` belongs
    to the stretch, and what no stretch trains is not trained.

    Raises:
        DataError: it is no such list.
    """
    field = f"`{DETAIL}` of {where}"
    if isinstance(value, str):
        value = parse_json(value, field, "turn weight")
    if not isinstance(value, list):
        raise DataError(f"turn weight: {field} is {type(value).__name__}, not a list of offsets")
    trained = bytearray(len(content))
    for detail in value:
        begin, end, train = _stretch(detail, field)
        if train:
            trained[begin : end + 1] = b"\1" * len(trained[begin : end + 1])
    return _spans_without(trained)


def _stretch(detail: Json, field: str) -> tuple[int, int, bool]:
    said = detail if isinstance(detail, dict) else {}
    begin, end, train = said.get("begin_offset"), said.get("end_offset"), truth_of(said.get("train"))
    if not _is_offset(begin) or not _is_offset(end) or train is None:
        raise DataError(f"turn weight: {field} holds {detail!r}; it takes begin_offset, end_offset and train")
    return int(begin), int(end), train


def _is_offset(value: Json) -> TypeGuard[float]:
    """Return whether a value counts characters; data frames make floats of whole numbers."""
    return isinstance(value, int | float) and value >= 0 and (isinstance(value, int) or value.is_integer())


def _spans_without(trained: bytearray) -> tuple[Span, ...]:
    spans: list[Span] = []
    start = trained.find(0)
    while start >= 0:
        end = trained.find(1, start)
        spans.append((start, end if end >= 0 else len(trained)))
        start = trained.find(0, end) if end >= 0 else -1
    return tuple(spans)
