"""Two selections side by side: what they share, in which order, and what each has that the other has not."""

import json
import math
from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass

import numpy as np

from handpick.data.formats.mapped import source_of
from handpick.data.reading import Reading, reading_of
from handpick.errors import DataError
from handpick.selection import Selection

_TENTHS = range(1, 11)


@dataclass(frozen=True)
class Heads:
    """The first ``percent`` of both selections, rounded up to whole examples."""

    percent: int
    n_a: int
    n_b: int
    common: int

    @property
    def overlap(self) -> float:
        """The part of the shorter head that is in the other, from 0 to 1."""
        return self.common / min(self.n_a, self.n_b)


@dataclass(frozen=True)
class Alone:
    """What one selection has and the other has not.

    ``ids`` in order of choice. ``sources`` and ``queries`` count them by the record's source and by the query they
    were picked for, most first and equals in order of appearance; None stands for those without.
    """

    ids: list[str]
    sources: dict[str | None, int]
    queries: dict[str | None, int]


@dataclass(frozen=True)
class Comparison:
    """How alike two selections are.

    ``rank_correlation`` is Spearman's between the two orders of the examples they share, from −1 to 1; None where
    they share fewer than two. ``heads`` are of 10, 20, … 100 percent. ``same_pool`` says whether both were chosen
    from files of the same bytes: if not, equal ids need not be equal examples; None where a selection does not say.
    """

    n_a: int
    n_b: int
    common: int
    jaccard: float
    rank_correlation: float | None
    only_a: Alone
    only_b: Alone
    heads: list[Heads]
    same_pool: bool | None


def compare(a: Selection, b: Selection) -> Comparison:
    """Compare two selections by the ids of their examples.

    The records are read of those examples alone that only one has.

    Raises:
        DataError: a selection is empty, or has an id twice.
    """
    place_in_a, place_in_b = _places(a, "first"), _places(b, "second")
    common = [example_id for example_id in a.ids if example_id in place_in_b]
    return Comparison(
        n_a=len(a),
        n_b=len(b),
        common=len(common),
        jaccard=len(common) / (len(a) + len(b) - len(common)),
        rank_correlation=_spearman([place_in_a[each] for each in common], [place_in_b[each] for each in common]),
        only_a=_alone(a, place_in_b.keys()),
        only_b=_alone(b, place_in_a.keys()),
        heads=[_heads(a, b, 10 * tenth) for tenth in _TENTHS],
        same_pool=_same_pool(a, b),
    )


def _places(selection: Selection, which: str) -> dict[str, int]:
    places = {example_id: place for place, example_id in enumerate(selection.ids)}
    if not places:
        raise DataError(f"the {which} selection is empty, so there is nothing to compare; select again")
    if len(places) < len(selection.ids):
        twice = next(each for place, each in enumerate(selection.ids) if places[each] != place)
        raise DataError(f"the {which} selection has the id {twice!r} twice; select again")
    return places


def _spearman(place_in_a: Sequence[int], place_in_b: Sequence[int]) -> float | None:
    """Compute 1 − 6 Σ d² / (k (k² − 1)), d the difference of an example's ranks among the k common ones: none tie."""
    k = len(place_in_a)
    if k < 2:
        return None
    rank_a, rank_b = (np.argsort(np.argsort(places)) for places in (place_in_a, place_in_b))
    squares = float(np.square(rank_a - rank_b, dtype=np.float64).sum())
    return 1 - 6 * squares / (k * (k**2 - 1))


def _alone(selection: Selection, others: Container[str]) -> Alone:
    own = [choice for choice, example_id in enumerate(selection.ids) if example_id not in others]
    reading = reading_of(selection.settings)
    return Alone(
        ids=[selection.ids[choice] for choice in own],
        sources=dict(Counter(_source(selection.record(choice), reading) for choice in own).most_common()),
        queries=dict(Counter(selection.picked_for[choice] for choice in own).most_common()),
    )


def _source(raw: bytes, reading: Reading) -> str | None:
    try:
        record = json.loads(raw)
        return source_of(record, reading) if isinstance(record, dict) else None
    except (ValueError, RecursionError, DataError):
        return None


def _heads(a: Selection, b: Selection, percent: int) -> Heads:
    n_a, n_b = (math.ceil(len(each) * percent / 100) for each in (a, b))
    return Heads(percent, n_a, n_b, len(set(a.ids[:n_a]) & set(b.ids[:n_b])))


def _same_pool(a: Selection, b: Selection) -> bool | None:
    digests = [
        [file.get("sha256") for file in selection.fingerprints.get("pool", {}).get("files", [])] for selection in (a, b)
    ]
    return digests[0] == digests[1] if all(digests) else None
