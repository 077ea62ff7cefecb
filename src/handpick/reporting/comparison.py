"""One page of two selections: what both chose, what each has alone, query by query, and what either took.

Examples are the same where their ids are.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from handpick.compare import compare
from handpick.data.plain_text import begin_text, contents
from handpick.durations import format_duration
from handpick.files import atomic_write
from handpick.layout import RunLayout
from handpick.magnitudes import format_bytes
from handpick.reporting.beside import MarkedText, count_telling_words, mark
from handpick.reporting.iterated import Iterated
from handpick.reporting.lead import lead_of
from handpick.reporting.page import count, page
from handpick.reporting.picks import ReportedPick
from handpick.reporting.run_folder import RunFolder, open_run
from handpick.reporting.settings_groups import group_settings
from handpick.reporting.shared_words import TellingWords

_QUERIES, _EACH, _ROWS, _OPEN = 60, 3, 100, 4  # shown: queries, picks of a query, rows of a table, queries at once
_ASKED, _SHOWN, _LINE = 500, 350, 160  # characters of a query, of a pick beside it, of a line in a table


@dataclass(frozen=True)
class RankedPick:
    """An example with its rank in either selection, None where it is not in it; ``text`` begins what it says."""

    id: str
    a: int | None
    b: int | None
    text: str
    marked: MarkedText | None = None

    @property
    def movement(self) -> int:
        """By how many ranks it stands earlier in the second than in the first."""
        return 0 if self.a is None or self.b is None else self.a - self.b


@dataclass(frozen=True)
class ComparedQuery:
    """What either selection picked for one query: some of the picks of both, of A alone and of B alone, and how many
    there are of each."""

    id: str
    text: MarkedText | None
    groups: dict[str, tuple[list[RankedPick], int]]


def write_comparison(folder_a: Path, folder_b: Path, out: Path | None = None) -> Path:
    """Write a page that lays two selections beside each other.

    Args:
        folder_a: of a finished ``handpick select`` or ``handpick iterselect``.
        folder_b: of another.
        out: folder to write into, made if need be; without it the first selection's.

    Returns:
        The page: ``comparison.html``. Equal folders give equal bytes.

    Raises:
        StoreError: a folder holds no selection or a damaged one, or cannot be written.
        SettingsError: a selection's settings cannot be read.
        DataError: a selection has an id twice.
    """
    a, b = open_run(folder_a), open_run(folder_b)
    found = compare(a.selection, b.selection)
    rank_a, rank_b = ({pick.id: pick.rank for pick in run.picks} for run in (a, b))
    names = name_folders(folder_a, folder_b)

    def rank_pick(pick: ReportedPick) -> RankedPick:
        return RankedPick(pick.id, rank_a.get(pick.id), rank_b.get(pick.id), begin_text(pick.messages, _LINE))

    both = sorted((rank_pick(pick) for pick in a.picks if pick.id in rank_b), key=lambda each: -abs(each.movement))
    alone = [[rank_pick(pick) for pick in run.picks if not (pick.id in rank_a and pick.id in rank_b)] for run in (a, b)]
    words = count_telling_words(a.pool if a.pool is not None else b.pool)
    queries, n_queries = _queries(a, b, words, rank_pick)
    text = page(
        "comparison.html.jinja",
        title=f"{names[0]} and {names[1]}",
        names=names,
        leads=[lead_of(a), lead_of(b)],
        found=found,
        sides=_sides(a, b),
        sources=_table(found.only_a.sources, found.only_b.sources),
        queries=queries,
        n_queries=n_queries,
        rule=words.rule,
        open=_OPEN,
        moved=both[:_ROWS],
        alone=[(side[:_ROWS], len(side)) for side in alone],
        missing=[*a.missing, *b.missing],
    )
    path = RunLayout(folder_a if out is None else out).comparison
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, text)
    return path


def name_folders(a: Path, b: Path) -> tuple[str, str]:
    """Return the folders' own names, or, of two that are called the same, their paths as they were given."""
    names = a.resolve().name, b.resolve().name
    return names if names[0] != names[1] else (str(a), str(b))


def _queries(
    a: RunFolder, b: RunFolder, words: TellingWords, rank_pick: Callable[[ReportedPick], RankedPick]
) -> tuple[list[ComparedQuery], int]:
    """Return the queries that either has a pick for, those first for which they differ most, and how many there are."""
    messages = {**(b.queries or {}), **(a.queries or {})}
    of = [_by_query(run) for run in (a, b)]
    ids = list(dict.fromkeys([*of[0], *of[1]]))

    def differing(query: str) -> int:
        own = [{pick.id for pick in side.get(query, [])} for side in of]
        return len(own[0] ^ own[1])

    found = []
    for query in sorted(ids, key=lambda each: -differing(each))[:_QUERIES]:
        sides = [{pick.id: pick for pick in side.get(query, [])} for side in of]
        asked = contents(messages[query]) if query in messages else ""
        all_shared: set[str] = set()
        groups = {}
        for name, picks in (
            ("both", [pick for example_id, pick in sides[0].items() if example_id in sides[1]]),
            ("a", [pick for example_id, pick in sides[0].items() if example_id not in sides[1]]),
            ("b", [pick for example_id, pick in sides[1].items() if example_id not in sides[0]]),
        ):
            shown = []
            for pick in picks[:_EACH]:
                shared = words.shared(asked, contents(pick.messages))
                all_shared |= shared
                shown.append(replace(rank_pick(pick), marked=mark(pick.messages, shared, _SHOWN)))
            groups[name] = (shown, len(picks))
        text = mark(messages[query], all_shared, _ASKED) if query in messages else None
        found.append(ComparedQuery(query, text, groups))
    return found, len(ids)


def _by_query(run: RunFolder) -> dict[str, list[ReportedPick]]:
    found: dict[str, list[ReportedPick]] = {}
    if not isinstance(run.made_by, Iterated):  # whose picks are for examples of the pool
        for pick in run.picks:
            if pick.picked_for is not None:
                found.setdefault(pick.picked_for, []).append(pick)
    return found


def _sides(a: RunFolder, b: RunFolder) -> list[tuple[str, str, str]]:
    """Return what was asked for and what it took, of both, where they differ or it says what they are."""
    asked_a, asked_b = (group_settings(run) for run in (a, b))
    whole_a, whole_b = (asked["said"] | asked["rest"] for asked in (asked_a, asked_b))
    names = dict.fromkeys([*asked_a["said"], *asked_b["said"], *whole_a, *whole_b])
    rows = [
        (name, whole_a.get(name, "–"), whole_b.get(name, "–"))
        for name in names
        if name in ("method", "budget") or whole_a.get(name) != whole_b.get(name)
    ]
    costs = [_cost_of(run) for run in (a, b)]
    return [
        *rows,
        *((name, costs[0].get(name, "–"), costs[1].get(name, "–")) for name in dict.fromkeys([*costs[0], *costs[1]])),
    ]


def _cost_of(run: RunFolder) -> dict[str, str]:
    found = {}
    if run.seconds:
        found["time, last run"] = f"{format_duration(run.seconds['total'])} on {run.machine}"
        found |= {f"of it {name}": format_duration(time) for name, time in run.seconds.items() if name != "total"}
    found["on disk"] = format_bytes(sum(run.disk.values()))
    found["records set aside"] = count(sum(run.set_aside.values()))
    return found


def _table(a: Mapping[str | None, int], b: Mapping[str | None, int]) -> Sequence[tuple[str, int, int]]:
    rows = [(name or "–", a.get(name, 0), b.get(name, 0)) for name in dict.fromkeys([*a, *b])]
    return sorted(rows, key=lambda row: -row[1] - row[2])[:_ROWS]
