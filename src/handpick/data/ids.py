"""Ids: what a record without one is called, and how ids are kept unique over a whole pool.

Shapes: N records.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from handpick.data.examples import Json, Message
from handpick.data.formats import Conversations, Record
from handpick.data.formats.mapped import with_nested
from handpick.data.reading import TABLE_ALONE, Reading
from handpick.errors import DataError

_OTHERS = 1000  # records that only share their ids, of which a file is believed to have no others
_WHOLE_NUMBER = re.compile(r"-?\d+")


class RepeatedIds(NamedTuple):
    """What becomes of the rows whose id an earlier row has."""

    occurrence: dict[int, int]  # a row without an id of its own → which record of that content it is, from 2
    first_of: dict[int, int]  # a row that repeats an id explicitly, to be set aside → the first row with it


def own_id(record: Record, reading: Reading = TABLE_ALONE) -> tuple[str, Json]:
    """Return the field that holds a record's own id, and what is in it: a user's column for it, else ``id``.

    A column that is null or empty is none, so that queries may have ids of another name than their pool.
    """
    column = reading.column("id")
    value = None if column is None else with_nested(record, reading).get(column)
    return ("id", record.get("id")) if column is None or value is None or value == "" else (column, value)


def explicit_id(record: Record, reading: Reading = TABLE_ALONE) -> str | None:
    """Return the record's own id, None if it has none.

    Raises:
        DataError: it is neither text nor a whole number.
    """
    name, id = own_id(record, reading)
    if id is None or id == "":
        return None
    if isinstance(id, float) and id.is_integer():  # pandas makes floats of a column with a gap
        id = int(id)
    if isinstance(id, bool) or not isinstance(id, str | int):
        raise DataError(f"unusable id: `{name}` is a {type(id).__name__}, not text or a whole number")
    return str(id)


def content_id(conversations: Conversations) -> str:
    """Return 16 hex digits that depend on what is said and by whom, and on nothing else."""

    def turns(messages: Sequence[Message] | None) -> list[list[str]] | None:
        return None if messages is None else [[m.role, m.content, *filter(None, [m.extra])] for m in messages]

    content: list[object] = [turns(conversations.messages), turns(conversations.rejected)]
    if conversations.messages.tools:
        content.append(conversations.messages.tools)
    canonical = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return hashlib.blake2b(canonical.encode("utf-8"), digest_size=8).hexdigest()


def id_key(id: str) -> int:
    """Return an unsigned 64-bit digest of an id, small enough to compare ten million of them in memory."""
    return int.from_bytes(hashlib.blake2b(id.encode("utf-8"), digest_size=8).digest(), "little")


def numbered_id(id: str, n: int) -> str:
    """Return the id of the ``n``-th record with the same content."""
    return f"{id}-{n}"


def counts(id: str) -> bool:
    """Return whether an id is made of digits, as one is that counts records."""
    return _WHOLE_NUMBER.fullmatch(id) is not None


def file_id(label: str, id: str) -> str:
    """Return the id, in a pool, of a record whose own id counts within its file alone."""
    return f"{label}/{id}"


class FileIds(NamedTuple):
    """Ids that count within their file alone, and are no identity in a pool of several."""

    sources: frozenset[int]  # whose ids that count repeat an earlier source's for other records
    same: frozenset[int]  # rows of these that do repeat the record that has the id


def find_file_ids(
    first_of: Mapping[int, int],
    source_of: Callable[[int], int],
    is_number: Callable[[int], bool],
    is_same: Callable[[int, int], bool],
) -> FileIds:
    """Find the sources whose ids only count: one of their numbers is an earlier source's, for another record.

    Args:
        first_of: rows that repeat an explicit id, and the first row with it.
        source_of: the source of a row.
        is_number: whether the id of a row is a number, and no text.
        is_same: whether two rows are the same record.
    """
    numbers: dict[int, bool] = {}
    others, same = Counter[int](), dict[int, list[int]]()
    for row, first in first_of.items():
        source = source_of(row)
        if source == source_of(first):
            continue
        if source not in numbers:  # one column has one type
            numbers[source] = is_number(row)
        if not numbers[source]:
            continue
        # Where so many stand for other records, and none for the same, that is not looked for any longer.
        if (others[source] < _OTHERS or source in same) and is_same(row, first):
            same.setdefault(source, []).append(row)
        else:
            others[source] += 1
    found = frozenset(source for source in others if others[source])
    return FileIds(found, frozenset(row for source in found for row in same.get(source, ())))


def settle_ids(keys_N: NDArray[np.uint64], explicit_N: NDArray[np.bool_], id_of: Callable[[int], str]) -> RepeatedIds:
    """Find repeated ids and say what becomes of each, in the order of the rows.

    The first row with an id keeps it. A later one is set aside if its id is explicit, else it is
    numbered. Takes 25 bytes per record (digest, sorted digest, order, flag) and some 200 more for each
    repetition; ids are fetched, and compared as text, only where two digests are equal.

    Args:
        keys_N: ``id_key`` of every id; at least one.
        explicit_N: whether the record came with the id.
        id_of: the id of a row.
    """
    order_N = np.argsort(keys_N, kind="stable")
    sorted_N = keys_N[order_N]
    equal = sorted_N[1:] == sorted_N[:-1]
    repeated = np.append(equal, False) | np.insert(equal, 0, False)

    def is_taken(id: str) -> bool:
        key = np.uint64(id_key(id))
        at = int(np.searchsorted(sorted_N, key))
        return at < len(sorted_N) and bool(sorted_N[at] == key)

    settled = RepeatedIds({}, {})
    first_row: dict[str, int] = {}
    latest: dict[str, int] = {}
    for row in np.sort(order_N[repeated]).tolist():
        id = id_of(row)
        if id not in first_row:
            first_row[id], latest[id] = row, 1
        elif explicit_N[row]:
            settled.first_of[row] = first_row[id]
        else:
            latest[id] += 1
            while is_taken(numbered_id(id, latest[id])):  # somebody wrote that very id into another record
                latest[id] += 1
            settled.occurrence[row] = latest[id]
    return settled
