"""The picks of a selection as records, and as the data of the page's table."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from handpick.data.examples import Message
from handpick.data.formats import parse_record
from handpick.data.formats.mapped import source_of
from handpick.data.read import FileInput
from handpick.data.reading import reading_of
from handpick.documents import WRONG_CONTENT
from handpick.errors import DataError, StoreError
from handpick.reporting.iterated import HOW, TakenPick
from handpick.selection import Selection

# What a page can hold and still open at once: characters of all picks, of one at most and at least, and picks.
_ALL, _LONGEST, _SHORTEST = 20_000_000, 20_000, 500
_PICKS = 20_000


@dataclass(frozen=True, slots=True)
class ReportedPick:
    """One choice. ``source`` is the record's, or the name of its file less the suffixes; rank counts from 1."""

    rank: int
    id: str
    score: float
    source: str
    category: str | None
    picked_for: str | None
    messages: tuple[Message, ...]


def parse_picks(selection: Selection) -> list[ReportedPick]:
    """Parse every choice.

    Raises:
        StoreError: a record cannot be read: the folder is damaged.
    """
    found = []
    reading = reading_of(selection.settings)
    for choice, example_id in enumerate(selection.ids):
        try:
            record = json.loads(selection.record(choice))
            messages = parse_record(record, reading).messages
            source = source_of(record, reading)
        except (*WRONG_CONTENT, DataError) as error:
            raise StoreError(
                f"line {choice + 1} of selected.jsonl cannot be read as a record ({error}); select again"
            ) from error
        category = record.get("category")
        if not source:
            source = FileInput(Path(selection.origins[choice][0])).stem if selection.origins else "?"
        found.append(
            ReportedPick(
                choice + 1,
                example_id,
                selection.scores[choice],
                source,
                category if isinstance(category, str) else None,
                selection.picked_for[choice],
                messages,
            )
        )
    return found


def response(messages: Sequence[Message]) -> str:
    """Return what is learnt: all that the assistant says."""
    return "\n".join(message.content for message in messages if message.role == "assistant")


def table_data(
    picks: Sequence[ReportedPick],
    queries: Mapping[str, Sequence[Message]],
    taken: Mapping[str, TakenPick] | None = None,
) -> dict[str, Any]:
    """Return what the page's script makes the table of; JSON values.

    ``taken`` says of every pick of ``handpick iterselect`` how it was taken; its ``queries`` are hard examples.
    A text that is too long for the page is cut, and says how long it is: ``turns`` end with the number of characters
    that are left out. Sources and queries stand once, and rows have their places.
    """
    shown = picks[:_PICKS]
    room = min(_LONGEST, max(_SHORTEST, _ALL // max(1, len(shown))))
    sources = sorted({_kind(pick) for pick in shown})
    served = list(dict.fromkeys(pick.picked_for for pick in shown if pick.picked_for is not None))
    place_of_source, place_of_query = _places(sources), _places(served)
    beside = ("query", "For the query") if taken is None else ("hard example", "The nearest hard example")
    return {
        "total": len(picks),
        "beside": dict(zip(("kind", "title"), beside, strict=True)),
        "ways": None if taken is None else list(HOW.values()),
        "sources": sources,
        "queries": [
            {"id": each, "turns": cut_turns(queries[each], room) if each in queries else None} for each in served
        ],
        "rows": [
            {
                "rank": pick.rank,
                "id": pick.id,
                "score": pick.score,
                "source": place_of_source[_kind(pick)],
                "query": None if pick.picked_for is None else place_of_query[pick.picked_for],
                "turns": cut_turns(pick.messages, room),
                **_describe_taken(pick, taken),
            }
            for pick in shown
        ],
    }


def _describe_taken(pick: ReportedPick, taken: Mapping[str, TakenPick] | None) -> dict[str, Any]:
    """Describe how a pick was taken, for its row; nothing of a pick of ``handpick select``."""
    if taken is None:
        return {}
    how = taken.get(pick.id)
    if how is None:
        return {"way": "", "said": "", "hardness": None, "similarity": None}
    return {"way": HOW[how.how], "said": how.said, "hardness": how.hardness, "similarity": how.similarity}


def composition(kinds: Sequence[tuple[str, str]], pool: Sequence[tuple[str, str]] | None) -> list[dict[str, Any]]:
    """Return for every (source, category) how many are chosen, their share, and the pool's, most chosen first."""
    chosen_count, pool_count = Counter(kinds), Counter(pool or [])
    rows = []
    for kind in sorted(chosen_count | pool_count, key=lambda kind: (-chosen_count[kind], -pool_count[kind], kind)):
        share = chosen_count[kind] / len(kinds)
        base = pool_count[kind] / len(pool) if pool else None
        rows.append(
            {
                "source": kind[0],
                "category": kind[1],
                "chosen": chosen_count[kind],
                "share": share,
                "in_pool": pool_count[kind] if pool else None,
                "pool_share": base,
                "ratio": share / base if base else None,
            }
        )
    return rows


def _kind(pick: ReportedPick) -> str:
    return f"{pick.source} / {pick.category}" if pick.category else pick.source


def _places(names: Sequence[str]) -> dict[str, int]:
    return {name: place for place, name in enumerate(names)}


def cut_turns(messages: Sequence[Message], room: int) -> list[Any]:
    """Return [role, text] of each turn until the room is used up, then the number of characters left out."""
    turns: list[Any] = []
    left_out = 0
    for message in messages:
        text = message.content[:room]
        room -= len(text)
        left_out += len(message.content) - len(text)
        if text or not message.content:
            turns.append([message.role, text])
    return [*turns, left_out]
