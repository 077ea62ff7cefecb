"""The picks beside what they were picked for: what a page begins with.

A query stands once, in the order in which the queries had their first pick, with its first picks beside it; texts are
cut, and of a large selection a part is shown. All of it is in the table of the picks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter

from handpick.data.examples import Message
from handpick.data.plain_text import contents
from handpick.reporting.picks import ReportedPick, cut_turns
from handpick.reporting.run_folder import PoolFacts
from handpick.reporting.shared_words import Pieces, TellingWords, mark_words

OPEN = 6  # queries whose picks are seen at once; the others are a click away
_QUERIES, _PICKS, _FOR_NONE = 100, 3, 12
_ASKED, _SHOWN = 700, 500  # characters of a query and of a pick
_COUNTED = 2_000  # examples of the pool whose words are counted


@dataclass(frozen=True)
class MarkedText:
    """Turns, each a role and the pieces of its text; ``left_out`` characters more are not shown."""

    turns: list[tuple[str, Pieces]]
    left_out: int


@dataclass(frozen=True)
class ShownPick:
    """A pick with the words marked that it shares with its query."""

    pick: ReportedPick
    text: MarkedText


@dataclass(frozen=True)
class ServedQuery:
    """A query, None where the picks are for none or its text is gone, and the first of its ``n_picks`` picks."""

    id: str | None
    text: MarkedText | None
    picks: list[ShownPick]
    n_picks: int


@dataclass(frozen=True)
class PicksBeside:
    """The ``served`` queries of ``n_served``; ``rule`` says which words are marked, and nothing where none can be."""

    served: list[ServedQuery]
    n_served: int
    rule: str


def count_telling_words(pool: PoolFacts | None) -> TellingWords:
    """Count the words of some of the pool, evenly spaced in it; of none where it cannot be read."""
    if pool is None:
        return TellingWords()
    rows = pool.sample[:: -(-len(pool.sample) // _COUNTED)].tolist()
    return TellingWords.count(contents(example.messages) for example in pool.pool.take(rows))


def put_beside(
    picks: Sequence[ReportedPick], queries: Mapping[str, Sequence[Message]], words: TellingWords
) -> PicksBeside:
    """Put the picks beside what they were picked for.

    Args:
        picks: all, in order of choice.
        queries: the messages of each by its id, of those that can be read.
        words: which are marked.
    """
    first: dict[str | None, int] = {}
    for place, pick in enumerate(picks):
        first.setdefault(pick.picked_for, place)
    in_turn = sorted(picks, key=lambda pick: (pick.picked_for is None, first[pick.picked_for]))
    groups = [(query, list(own)) for query, own in groupby(in_turn, key=attrgetter("picked_for"))]
    served = [_serve(query, own, queries, words) for query, own in groups[:_QUERIES]]
    is_marked = any(each.text is not None for each in served)
    return PicksBeside(served, len(groups), words.rule if is_marked else "")


def _serve(
    query: str | None,
    picks: Sequence[ReportedPick],
    queries: Mapping[str, Sequence[Message]],
    words: TellingWords,
) -> ServedQuery:
    shown = picks[: _FOR_NONE if query is None else _PICKS]
    if query is None or query not in queries:
        return ServedQuery(
            query, None, [ShownPick(each, mark(each.messages, set(), _SHOWN)) for each in shown], len(picks)
        )
    asked = contents(queries[query])
    shared = [words.shared(asked, contents(pick.messages)) for pick in shown]
    return ServedQuery(
        query,
        mark(queries[query], set[str]().union(*shared), _ASKED),
        [ShownPick(pick, mark(pick.messages, own, _SHOWN)) for pick, own in zip(shown, shared, strict=True)],
        len(picks),
    )


def mark(messages: Sequence[Message], words: set[str], room: int) -> MarkedText:
    """Return the first characters of a conversation with some words marked."""
    *turns, left_out = cut_turns(messages, room)
    return MarkedText([(role, mark_words(text, words)) for role, text in turns], left_out)
