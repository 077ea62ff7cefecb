"""Which layers of a model are meant: all, the late ones, or a list such as ``12-23`` or ``0,5,11``."""

import re
from typing import Annotated, Any

from pydantic import BeforeValidator

from handpick.errors import SettingsError

ALL, LATE = "all", "late"


def _layers(value: Any) -> str:
    """Parse a word, or numbers and ranges with commas between them; the same layers are written in one way."""
    parts = [str(each) for each in value] if isinstance(value, list | tuple) else str(value).split(",")
    parts = [part.strip() for part in parts]
    if len(parts) == 1 and parts[0] in (ALL, LATE):
        return parts[0]
    if not parts or isinstance(value, bool) or not all(re.fullmatch(r"\d{1,5}(-\d{1,5})?", part) for part in parts):
        raise ValueError("should be all, late, or numbers of layers such as 12-23 or 0,5,11")
    numbers: set[int] = set()
    for part in parts:
        first, _, last = part.partition("-")
        if int(last or first) < int(first):
            raise ValueError(f"should have ranges from a lower to a higher layer, as {last}-{first}")
        numbers.update(range(int(first), int(last or first) + 1))
    return _as_ranges(sorted(numbers))


LayerNumbers = Annotated[str, BeforeValidator(_layers)]


def _as_ranges(numbers: list[int]) -> str:
    starts = [n for n in numbers if n - 1 not in numbers]
    ends = [n for n in numbers if n + 1 not in numbers]
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in zip(starts, ends, strict=True))


def layers_among(layers: str, n_layers: int) -> list[int]:
    """Return the numbers of the layers that are meant, of a model that has so many, from 0; ``late``: the last third.

    Raises:
        SettingsError: a layer is named that the model does not have.
    """
    if layers == ALL:
        return list(range(n_layers))
    if layers == LATE:
        return list(range(n_layers - -(-n_layers // 3), n_layers))
    numbers: list[int] = []
    for part in layers.split(","):
        first, _, last = part.partition("-")
        numbers += range(int(first), int(last or first) + 1)
    if numbers[-1] >= n_layers:
        raise SettingsError(
            f"--layers {layers} names layer {numbers[-1]}, and the model has {n_layers}, 0 to {n_layers - 1}"
        )
    return numbers
