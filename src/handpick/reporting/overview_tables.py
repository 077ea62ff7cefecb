"""What ``handpick look`` found as tables: the terminal and the page show the same ones."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from handpick.evaluation.estimate import Estimate
from handpick.overview.counts import Counts
from handpick.overview.look import Overview, Side
from handpick.overview.sample import TokenCounts
from handpick.reporting.page import count, percent

NONE = "–"
_SAID = 200  # characters of a reason; quarantine.jsonl has it whole
FACTS = "facts"  # the table of what is no list


@dataclass(frozen=True, slots=True)
class OverviewTable:
    """A table: a heading a column, texts of rows, the most common first, and what to know of them.

    ``bars`` has the share of each row in the pool, where there is one, and ``is_text`` the columns that are no numbers.
    """

    name: str
    title: str
    note: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    bars: Sequence[float] = ()
    is_text: frozenset[int] = frozenset({0})

    def head(self, most: int) -> tuple[Sequence[Sequence[str]], int]:
        """Return the first rows, and how many are left out; of the facts none is."""
        if self.name == FACTS:
            return self.rows, 0
        return self.rows[:most], max(0, len(self.rows) - most)


def tables_of(found: Overview) -> list[OverviewTable]:
    """Return all tables that have anything in them, in the order in which they are shown."""
    sides = found.sides
    fields = "Records that carry a field which is not null; [] stands for the elements of a list, such as its turns."
    made = [
        _facts(found),
        _set_aside(sides),
        _template(sides),
        _by_name(
            "formats", "Formats", "format", "The shape that each record was read as.", sides, lambda s: s.counts.formats
        ),
        _sources(sides),
        _roles(sides),
        _by_name(
            "shapes",
            "Turns",
            "turns in order",
            "Records by the roles of their turns.",
            sides,
            lambda s: s.counts.shapes,
        ),
        _by_name("fields", "Fields", "field", fields, sides, lambda s: s.counts.fields),
        _languages(sides),
    ]
    return [table for table in made if table.rows]


def format_estimate(value: Estimate, form: Callable[[float], str] = percent) -> str:
    """Return a value with its interval: "96.6% (96.3%–96.9%)"; alone where all was looked at, or one record."""
    if not value.low < value.high:
        return form(value.value)
    return f"{form(value.value)} ({form(value.low)}–{form(value.high)})"


def how_sampled(found: Overview) -> str:
    """Return what was looked at one by one: "a sample of 20,000 of 106,504 records of the pool (seed 0)"."""
    looked = []
    for name, side in found.sides.items():
        n, of = side.sample.records, side.counts.records
        whole = f"all {of:,} records of the {name}"
        drawn = (
            f"a sample of {n:,} of the {of:,} records of the {name}, with 95% intervals (seed {found.settings.seed})"
        )
        looked.append(whole if side.sample.whole else drawn)
    return " and ".join(looked)


_LABELLED: dict[str, Callable[[Counts], int]] = {  # said where there are any
    "have a rejected answer beside the preferred one": lambda counts: counts.preferences,
    "have an answer labelled as unwanted": lambda counts: counts.unwanted,
    "have turns or parts that are not to be learnt": lambda counts: counts.not_learnt,
}


def _facts(found: Overview) -> OverviewTable:
    sides = found.sides
    rows: list[tuple[str, Callable[[Side], str]]] = [
        ("records", lambda s: count(s.counts.records)),
        ("set aside", lambda s: count(s.n_set_aside)),
        ("turns", lambda s: count(sum(role.turns for role in s.counts.roles.values()))),
        ("characters", lambda s: count(int(s.counts.characters_N.sum()))),
        ("characters per record: median", lambda s: count(round(float(np.median(s.counts.characters_N))))),
        ("– 90% are at most", lambda s: count(round(float(np.quantile(s.counts.characters_N, 0.9))))),
        ("– the longest", lambda s: count(int(s.counts.characters_N.max()))),
        ("characters of the answers: median", lambda s: count(round(float(np.median(s.counts.answer_characters_N))))),
        ("repeat an earlier record word for word", lambda s: _of_records(s.counts.repeated, s)),
        ("– the commonest of them", _commonest),
    ]
    rows += [(label, _cell_of(n)) for label, n in _LABELLED.items() if any(n(side.counts) for side in sides.values())]
    if found.settings.model is not None:
        rows += _token_rows(found.settings.max_length)
    texts = [[label, *(cell(side) for side in sides.values())] for label, cell in rows]
    if found.query is not None:
        texts.append(["stand in the pool word for word", "", _of_records(found.queries_in_pool, found.query)])
    note = "Counted over all records."
    if found.settings.model is not None:
        note += f" Tokens: {how_sampled(found)}."
    return OverviewTable(FACTS, "What there is", note, ["", *sides], texts)


def _cell_of(n_of: Callable[[Counts], int]) -> Callable[[Side], str]:
    return lambda side: _of_records(n_of(side.counts), side)


def _commonest(side: Side) -> str:
    most = side.counts.most_repeated
    return NONE if most is None else f"{most[0]}, {most[1]:,} times"


def _of_records(n: int, side: Side) -> str:
    return f"{count(n)} ({percent(n / side.counts.records)})" if n else "0"


def _token_rows(max_length: int) -> list[tuple[str, Callable[[Side], str]]]:
    def of(value: Callable[[TokenCounts], Estimate | None], form: Callable[[float], str]) -> Callable[[Side], str]:
        def cell(side: Side) -> str:
            found = None if side.sample.tokens is None else value(side.sample.tokens)
            return NONE if found is None else format_estimate(found, form)

        return cell

    return [
        ("tokens per record, mean", of(lambda t: t.tokens, _one_decimal)),
        ("– that have a loss", of(lambda t: t.loss_tokens, _one_decimal)),
        (f"longer than {max_length:,} tokens, so cut", of(lambda t: t.cut, percent)),
        ("end without an answer", of(lambda t: t.prompts, percent)),
    ]


def _one_decimal(value: float) -> str:
    return f"{value:,.1f}"


def _set_aside(sides: Mapping[str, Side]) -> OverviewTable:
    rows = []
    for name, side in sides.items():
        for kind, each in side.set_aside.items():
            where = each.file if each.line is None else f"{each.file}, line {each.line:,}"
            rows.append([name, kind, count(each.records), where, _details(each.reason)])
    headings = ["of", "why", "records", "the first", "what is wrong with it"]
    note = "Records that cannot be used; a run writes them to quarantine.jsonl and goes on."
    return OverviewTable("set-aside", "Set aside", note, headings, rows, is_text=frozenset({0, 1, 3, 4}))


def _template(sides: Mapping[str, Side]) -> OverviewTable:
    rows = []
    for name, side in sides.items():
        tokens = side.sample.tokens
        if tokens is None:
            continue
        for what, (share, each) in tokens.unwritten.items():
            rows.append(
                [name, f"{what}: not written", format_estimate(share), each.first, "carried, and left out of the text"]
            )
        for kind, refused in tokens.refused.items():
            rows.append([name, kind, format_estimate(refused.share), refused.first, _details(refused.reason)])
    headings = ["of", "what", "records", "the first", "what becomes of it"]
    note = "What the model's chat template does not write, and records that leave nothing to learn from."
    return OverviewTable("template", "What the template loses", note, headings, rows, is_text=frozenset({0, 1, 3, 4}))


def _details(reason: str) -> str:
    """Return the beginning of what stands behind the kind, which has a column of its own."""
    said = reason.partition(": ")[2] or reason
    return said if len(said) <= _SAID else f"{said[: _SAID - 1]}…"


def _by_name(
    name: str,
    title: str,
    what: str,
    note: str,
    sides: Mapping[str, Side],
    counts_of: Callable[[Side], Mapping[str, int]],
) -> OverviewTable:
    """Make a table of names with the records of each side."""
    counts = {side: counts_of(found) for side, found in sides.items()}
    names = _in_order(counts.values())
    rows = [[each, *_cells([(counts[side].get(each, 0), found) for side, found in sides.items()])] for each in names]
    return OverviewTable(name, title, note, [what, *_headings(sides)], rows, _bars(counts, names, sides))


def _in_order(counts: Iterable[Mapping[str, int]]) -> list[str]:
    return list(dict.fromkeys(name for each in counts for name in each))


def _headings(sides: Mapping[str, Side]) -> list[str]:
    return [heading for side in sides for heading in (side, "share")]


def _cells(counts: Iterable[tuple[int, Side]]) -> list[str]:
    return [text for n, side in counts for text in (count(n), percent(n / side.counts.records))]


def _bars(counts: Mapping[str, Mapping[str, int]], names: Iterable[str], sides: Mapping[str, Side]) -> list[float]:
    return [counts["pool"].get(name, 0) / sides["pool"].counts.records for name in names]


def _sources(sides: Mapping[str, Side]) -> OverviewTable:
    counts = {name: {s: each.records for s, each in side.counts.sources.items()} for name, side in sides.items()}
    names = _in_order(counts.values())
    pool = sides["pool"].counts.sources
    rows = []
    for name in names:
        own = pool.get(name)
        about = [NONE, NONE] if own is None else [count(round(own.median_characters)), count(own.repeated)]
        cells = _cells([(counts[side].get(name, 0), found) for side, found in sides.items()])
        rows.append([name, *cells[:2], *about, *cells[2:]])
    both = _headings(sides)
    headings = ["source", *both[:2], "median characters", "repeated", *both[2:]]
    note = "By the field source, or else by file. Repeated: records that say what an earlier one of the pool says."
    return OverviewTable("sources", "Sources", note, headings, rows, _bars(counts, names, sides))


def _roles(sides: Mapping[str, Side]) -> OverviewTable:
    names = _in_order(dict.fromkeys(side.counts.roles, 0) for side in sides.values())
    rows = []
    for name in names:
        row = [name]
        for side in sides.values():
            own = side.counts.roles.get(name)
            n = 0 if own is None else own.records
            a_turn = NONE if own is None else count(round(own.characters / own.turns))
            row += [count(0 if own is None else own.turns), percent(n / side.counts.records), a_turn]
        rows.append(row)
    headings = [heading for side in sides for heading in (f"turns ({side})", "in records", "characters per turn")]
    counts = {name: {role: each.records for role, each in side.counts.roles.items()} for name, side in sides.items()}
    return OverviewTable(
        "roles", "Roles", "As handpick reads them: human is user.", ["role", *headings], rows,
        _bars(counts, names, sides),
    )  # fmt: skip


def _languages(sides: Mapping[str, Side]) -> OverviewTable:
    names = list(dict.fromkeys(name for side in sides.values() for name in side.sample.languages))
    rows = []
    for name in names:
        shares = [side.sample.languages.get(name) for side in sides.values()]
        rows.append([name, *(NONE if share is None else format_estimate(share) for share in shares)])
    pool = sides["pool"].sample.languages
    bars = [pool[name].value if name in pool else 0.0 for name in names]
    note = (
        "Guessed from the script and, among languages that share one, from their commonest words: a short or formal "
        "text stays undecided, and a language that is not known is taken for its nearest relation."
    )
    return OverviewTable("languages", "Languages", note, ["language or script", *sides], rows, bars)
