"""What is counted over every record, in passes over Arrow columns: no Python object is made of a record or a turn.

Shapes: N records, T turns of a batch, S sources, D records that stand in the pool more than once.
"""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from handpick.data.pool import Pool
from handpick.data.turn_columns import TurnColumns

_COLUMNS = ["messages", "rejected", "tools", "wanted", "format", "fields", "source"]
_COUNTED = ("format", "fields", "source", "wanted")
ROLES = ("system", "developer", "user", "assistant", "tool")


@dataclass(frozen=True, slots=True)
class RoleCount:
    """How many turns have a role, how many records such a turn, and the characters of all of them."""

    turns: int
    records: int
    characters: int


@dataclass(frozen=True, slots=True)
class SourceCount:
    """The records of one source: how many, the median characters of a record, how many repeat an earlier record."""

    records: int
    median_characters: float
    repeated: int


@dataclass(frozen=True, slots=True)
class Counts:
    """What all records of a pool are.

    ``formats`` counts records by the shape they were read as, ``fields`` records that carry a field (see
    ``handpick.data.field_names``), ``shapes`` records by their roles in order, each the most common first.
    ``characters_N`` and ``answer_characters_N`` are the characters of each record's turns and of its assistant turns,
    int64; ``content_N`` tells contents apart, uint64: equal for equal turns, tools and rejected turns. ``repeated`` are
    records that say what an earlier one says, ``contents_repeated`` how many different contents those have, and
    ``most_repeated`` the id of the first record of the commonest content and how often that is there, None where
    nothing is repeated. ``preferences`` are records with a rejected answer, ``unwanted`` answers that are labelled so,
    ``not_learnt`` records with turns or parts of turns that are not to be learnt.
    """

    records: int
    formats: dict[str, int]
    roles: dict[str, RoleCount]
    shapes: dict[str, int]
    fields: dict[str, int]
    sources: dict[str, SourceCount]
    preferences: int
    unwanted: int
    not_learnt: int
    characters_N: NDArray[np.int64]
    answer_characters_N: NDArray[np.int64]
    content_N: NDArray[np.uint64]
    repeated: int
    contents_repeated: int
    most_repeated: tuple[str, int] | None


@dataclass(frozen=True, slots=True)
class _BatchCounts:
    """Of one batch, arrays that are put together in the end."""

    characters: NDArray[np.int64]
    answer_characters: NDArray[np.int64]
    content: NDArray[np.uint64]
    source: NDArray[np.int64]


def count_records(pool: Pool) -> Counts:
    """Count all records of a pool; a million of ordinary length take some ten seconds."""
    tallies: dict[str, Counter[Any]] = {name: Counter() for name in _COUNTED}
    shapes: Counter[str] = Counter()
    turns: Counter[tuple[str, str]] = Counter()
    preferences = not_learnt = 0
    parts: list[_BatchCounts] = []
    source_place: dict[str, int] = {}
    for batch in pool.batches(_COLUMNS):
        for name in _COUNTED:
            tallies[name].update(_tally(batch[name]))
        said, rejected = TurnColumns.of(batch["messages"]), TurnColumns.of(batch["rejected"])
        roles_N = said.roles_N
        shapes.update(_tally(roles_N))
        turns.update(_count_roles(said))
        preferences += len(batch) - batch["rejected"].null_count
        not_learnt += int(_has_unlearnt(said).sum())
        parts.append(
            _BatchCounts(
                said.characters(),
                said.characters(_is_role(said, "assistant")),
                _hash_contents(said, rejected, batch),
                _place_sources(batch["source"], source_place),
            )
        )
    characters_N, answers_N, content_N, source_N = (
        np.concatenate([getattr(part, name) for part in parts]) for name in _BatchCounts.__slots__
    )
    is_repeat_N, contents_repeated, most = _find_repeats(content_N)
    return Counts(
        records=len(pool),
        formats=_sort_names(tallies["format"]),
        roles={
            role: RoleCount(*(turns[role, what] for what in RoleCount.__slots__))
            for role in ROLES
            if turns[role, "turns"]
        },
        shapes=dict(shapes.most_common()),
        fields=_count_fields(tallies["fields"]),
        sources=_describe_sources(list(source_place), source_N, characters_N, is_repeat_N),
        preferences=preferences,
        unwanted=tallies["wanted"][False],
        not_learnt=not_learnt,
        characters_N=characters_N,
        answer_characters_N=answers_N,
        content_N=content_N,
        repeated=int(is_repeat_N.sum()),
        contents_repeated=contents_repeated,
        most_repeated=None if most is None else (pool[most[0]].id, most[1]),
    )


def _tally(column: pa.Array) -> dict[Any, int]:
    return {each["values"]: each["counts"] for each in pc.value_counts(column).to_pylist()}


def _sort_names(tally: "Counter[Any]") -> dict[str, int]:
    return dict(tally.most_common())


def _is_role(turns: TurnColumns, role: str) -> NDArray[np.bool_]:
    is_role_T: NDArray[np.bool_] = pc.equal(turns.role_T, role).to_numpy(zero_copy_only=False)
    return is_role_T


def _count_roles(turns: TurnColumns) -> dict[tuple[str, str], int]:
    found: dict[tuple[str, str], int] = {}
    for role in pc.unique(turns.role_T).to_pylist():
        is_role_T = _is_role(turns, role)
        found[role, "turns"] = int(is_role_T.sum())
        found[role, "records"] = len(np.unique(turns.record_T[is_role_T]))
        found[role, "characters"] = int(turns.characters(is_role_T).sum())
    return found


def _has_unlearnt(turns: TurnColumns) -> NDArray[np.bool_]:
    return turns.any_of(pc.invert(turns.loss_T)) | turns.any_of(pc.greater(pc.list_value_length(turns.no_loss_T), 0))


def _hash_contents(said: TurnColumns, rejected: TurnColumns, batch: pa.RecordBatch) -> NDArray[np.uint64]:
    """Return 64 bits a record; of a million different records two are alike with a chance of 1 in 40 million.

    Lengths stand beside the texts, so that no text can be taken for the end of one and the beginning of the next.
    """
    from pandas.util import hash_array

    texts = [batch["tools"]]
    for turns in (said, rejected):
        lengths_T = pc.binary_join_element_wise(
            turns.role_T,
            *(pc.cast(pc.binary_length(column_T), pa.string()) for column_T in (turns.content_T, turns.extra_T)),
            " ",
        )
        texts += [turns.joined(column_T, "\n") for column_T in (lengths_T, turns.content_T, turns.extra_T)]
    whole_N = pc.binary_join_element_wise(*texts, "\x1e")
    hashed: NDArray[np.uint64] = hash_array(whole_N.to_numpy(zero_copy_only=False), categorize=False)
    return hashed


def _place_sources(column: pa.Array, place_of: dict[str, int]) -> NDArray[np.int64]:
    """Return the place of each record's source, in the order in which sources first come."""
    coded = pc.dictionary_encode(column)
    places = [place_of.setdefault(name, len(place_of)) for name in coded.dictionary.to_pylist()]
    place_N: NDArray[np.int64] = np.array(places, dtype=np.int64)[coded.indices.to_numpy()]
    return place_N


def _count_fields(tally: "Counter[Any]") -> dict[str, int]:
    fields: Counter[str] = Counter()
    for names, n in tally.items():
        fields.update(dict.fromkeys(json.loads(names), n))
    return dict(fields.most_common())


def _find_repeats(content_N: NDArray[np.uint64]) -> tuple[NDArray[np.bool_], int, tuple[int, int] | None]:
    """Return which records repeat an earlier one, how many contents are repeated, and the commonest: row, times."""
    _, first_D, count_D = np.unique(content_N, return_index=True, return_counts=True)
    is_repeat_N = np.ones(len(content_N), dtype=bool)
    is_repeat_N[first_D] = False
    several = count_D > 1
    if not several.any():
        return is_repeat_N, 0, None
    most = int(count_D.max())
    return is_repeat_N, int(several.sum()), (int(first_D[count_D == most].min()), most)


def _describe_sources(
    names: Iterable[str], source_N: NDArray[np.int64], characters_N: NDArray[np.int64], is_repeat_N: NDArray[np.bool_]
) -> dict[str, SourceCount]:
    order_N = np.argsort(source_N, kind="stable")
    ends_S = np.cumsum(np.bincount(source_N))
    found = {}
    for name, rows in zip(names, np.split(order_N, ends_S[:-1]), strict=True):
        found[name] = SourceCount(len(rows), float(np.median(characters_N[rows])), int(is_repeat_N[rows].sum()))
    return dict(sorted(found.items(), key=lambda item: -item[1].records))
