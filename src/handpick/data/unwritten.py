"""What records carry and a chat template does not write: named and counted once, before any work.

Most pools are turns of a role and a text, which every template writes. What else there is stands in columns of its own,
so that a million plain records are looked at in a moment, and only the others are asked about one by one.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from handpick.data.examples import Conversation, Example
from handpick.data.pool import Pool
from handpick.data.turn_columns import BETWEEN_ROLES, TurnColumns
from handpick.documents import DAMAGED, as_kind
from handpick.errors import DataError, StoreError
from handpick.files import open_atomically
from handpick.progress import log, progress

_READ = 1000  # records that are read together
_OF_EVERY_TEMPLATE = frozenset({"user", "assistant"})
_PLAIN = frozenset({"system", *_OF_EVERY_TEMPLATE})


@dataclass(frozen=True, slots=True)
class Unwritten:
    """How many records carry something that the template does not write, and the id of the first of them."""

    records: int
    first: str


class NamesUnwritten(Protocol):
    """What says which parts of a conversation it does not write, as ``handpick.data.render.Renderer`` does."""

    def unwritten(self, conversation: Conversation) -> tuple[str, ...]:
        """Return their names; a DataError where the conversation is refused."""
        ...


def count_unwritten(pool: Pool, renderer: NamesUnwritten, rows: Sequence[int] | None = None) -> dict[str, Unwritten]:
    """Count what is not written, by its name ("reasoning_content", "tools"), the most common first.

    A conversation that the template refuses is passed over: it is set aside, with the reason, where it is rendered. Of
    conversations of one structure (roles, fields, where there is a text) the first speaks for all.

    Args:
        pool: the records.
        renderer: whose template writes them.
        rows: of the pool, ascending; all by default.
    """
    carrying, alike = _rows_to_ask(pool)
    if rows is not None:
        carrying = np.intersect1d(carrying, np.asarray(rows), assume_unique=True)
        alike = [of_roles for each in alike if len(of_roles := np.intersect1d(each, rows, assume_unique=True))]
    asked = {int(row): 1 for row in carrying} | {int(each[0]): len(each) for each in alike}
    return _count(((asked[row], example) for row, example in _read(pool, sorted(asked))), renderer)


def count_unwritten_of(examples: Iterable[Example], renderer: NamesUnwritten) -> dict[str, Unwritten]:
    """Count as ``count_unwritten`` does, of examples that have been read; every one is asked about."""
    return _count(((1, example) for example in examples), renderer)


def _count(weighed: Iterable[tuple[int, Example]], renderer: NamesUnwritten) -> dict[str, Unwritten]:
    """Count, where an example may speak for several that are like it."""
    count: dict[str, int] = {}
    first: dict[str, str] = {}
    known: dict[object, set[str]] = {}
    for weight, example in weighed:
        structure = [_structure(side) for side in (example.messages, example.rejected or ())]
        names = known.get(key := str(structure))
        if names is None:
            names = known[key] = _names_in(example, renderer)
        for name in names:
            count[name] = count.get(name, 0) + weight
            first.setdefault(name, example.id)
    by_count = sorted(count, key=lambda name: (-count[name], name))
    return {name: Unwritten(count[name], first[name]) for name in by_count}


def _rows_to_ask(pool: Pool) -> tuple[NDArray[np.int64], list[NDArray[np.int64]]]:
    """Return the rows that carry more than a text a turn, and of plain records with a system turn those alike."""
    carrying: list[NDArray[np.int64]] = []
    alike: dict[str, list[NDArray[np.int64]]] = {}
    start = 0
    for batch in pool.batches(["messages", "rejected", "tools", "template_args"]):
        is_carrying_N = np.zeros(len(batch), dtype=bool)
        for name in ("tools", "template_args"):
            is_carrying_N |= pc.not_equal(batch[name], "").to_numpy(zero_copy_only=False)
        roles_N = []
        for name in ("messages", "rejected"):
            turns = TurnColumns.of(batch[name])
            is_carrying_N |= turns.any_of(pc.not_equal(turns.extra_T, ""))
            roles_N.append(turns.roles_N)
        both_N = pc.binary_join_element_wise(*roles_N, "|")
        for roles in pc.unique(both_N).to_pylist():
            said = {role for side in roles.split("|") for role in side.split(BETWEEN_ROLES) if role}
            if said <= _OF_EVERY_TEMPLATE:
                continue
            is_such_N = pc.equal(both_N, roles).to_numpy(zero_copy_only=False)
            if said <= _PLAIN:
                alike.setdefault(roles, []).append(start + np.flatnonzero(is_such_N & ~is_carrying_N))
            else:
                is_carrying_N |= is_such_N
        carrying.append(start + np.flatnonzero(is_carrying_N))
        start += len(batch)
    groups = [np.concatenate(each) for each in alike.values()]
    return np.concatenate(carrying), [group for group in groups if len(group)]


def _read(pool: Pool, rows: list[int]) -> Iterator[tuple[int, Example]]:
    if not rows:
        return
    few = len(rows) <= _READ
    with nullcontext(lambda n: None) if few else progress("what the template writes", total=len(rows)) as advance:
        for start in range(0, len(rows), _READ):
            chunk = rows[start : start + _READ]
            yield from zip(chunk, pool.take(chunk), strict=True)
            advance(len(chunk))


def _structure(side: Conversation | tuple[()]) -> Any:
    """Return what a template looks at before it writes a text: roles, fields, where there is a text or a thought."""
    if not isinstance(side, Conversation):
        return None
    turns = [
        (turn.role, bool(turn.content.strip()), "</think>" in turn.content, turn.extra and sorted(turn.fields))
        for turn in side
    ]
    return turns, bool(side.tools), side.template_args


def _names_in(example: Example, renderer: NamesUnwritten) -> set[str]:
    sides = [side for side in (example.messages, example.rejected) if side is not None]
    return {name for side in sides for name in _ask(renderer, side)}


def _ask(renderer: NamesUnwritten, conversation: Conversation) -> Sequence[str]:
    try:
        return renderer.unwritten(conversation)
    except DataError:
        return ()


def sentences(found: Mapping[str, Unwritten], what: str = "") -> list[str]:
    """Return a sentence each: "1,204 records of the pool carry tools; this template does not write it (first: a-17)".

    Args:
        found: what was counted.
        what: whose records they are: "pool", "query".
    """
    of = f" of the {what}" if what else ""
    return [
        f"{each.records:,} record{'s' if each.records != 1 else ''}{of} carr{'y' if each.records != 1 else 'ies'} "
        f"{name}; this template does not write it (first: {each.first})"
        for name, each in found.items()
    ]


def report_unwritten(found: Mapping[str, Mapping[str, Unwritten]], path: Path) -> None:
    """Say what was counted, a line each, and keep it in a file; where all is written no file is left.

    Args:
        found: what is not written, by whose records they are: "pool", "query".
        path: the file.

    Raises:
        DataError: the file cannot be written.
    """
    for what, counts in found.items():
        for sentence in sentences(counts, what):
            log(sentence)
    as_json = {what: {name: asdict(each) for name, each in counts.items()} for what, counts in found.items() if counts}
    try:
        if as_json:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open_atomically(path) as file:
                file.write((json.dumps(as_json, ensure_ascii=False, indent=1) + "\n").encode())
        else:
            path.unlink(missing_ok=True)  # of an earlier run
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror}; choose another output folder") from error


def read_unwritten(path: Path) -> dict[str, dict[str, Unwritten]]:
    """Read what ``report_unwritten`` kept, by what the records are; nothing where all was written.

    Raises:
        StoreError: the file is damaged.
    """
    try:
        found: dict[str, dict[str, dict[str, Any]]] = json.loads(path.read_bytes())
        return {what: {name: as_kind(Unwritten, each) for name, each in own.items()} for what, own in found.items()}
    except FileNotFoundError:
        return {}
    except DAMAGED as error:
        raise StoreError(f"{path} cannot be read ({error}); remove it, or run again") from error
