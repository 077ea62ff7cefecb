"""What a person sees when a selection is made."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from handpick.algorithms import ALGORITHMS
from handpick.data.examples import Example
from handpick.methods import METHODS
from handpick.rewards import REWARDS

if TYPE_CHECKING:  # the pipeline is slow to load, and the list of methods needs none
    from handpick.pipeline import Run

_ROWS = 12  # of the table of composition
console = Console(highlight=False)


def show_selection(run: "Run", *, first_picks: bool) -> None:
    """The table of composition, the first picks if asked for, and where everything is."""
    row_of = {example_id: row for row, example_id in enumerate(run.pool.ids())}
    chosen = [row_of[example_id] for example_id in run.selection.ids]
    console.print(_composition(_kinds(run), chosen))
    if first_picks and run.query is not None:
        console.print(_first_picks(run, chosen[:5]))
    folder = run.settings.folder
    by = " and ".join(name for name in (run.settings.method, run.settings.algorithm) if name)
    console.print(f"{len(chosen):,} of {len(run.pool):,} examples chosen by {by}")
    for name, what in {
        "selected.jsonl": "the chosen records, as they came, in order of choice",
        "selection.json": "their ids, scores, the query each was picked for, settings, fingerprints",
        "settings.yaml": "what was used: `handpick run` takes it",
        "features": "the feature stores, for the next selection: --store",
    }.items():
        if (folder / name).exists():
            console.print(Text(f"  {folder / name}", style="bold") + Text(f"  {what}", style="dim"), soft_wrap=True)


def _kinds(run: "Run") -> list[str]:
    """Source and category of every row of the pool."""
    columns = zip(run.pool.column("source"), run.pool.column("category"), strict=True)
    return [f"{source or '?'} / {category}" if category else str(source) for source, category in columns]


def _composition(kinds: Sequence[str], chosen: Sequence[int]) -> Table:
    pool, picked = Counter(kinds), Counter(kinds[row] for row in chosen)
    table = Table(title="What was chosen", title_justify="left")
    table.add_column("source / category", no_wrap=True, overflow="ellipsis", max_width=36)
    for heading in ("chosen", "share", "in pool", "ratio"):
        table.add_column(heading, justify="right", no_wrap=True, min_width=len(heading) + 1)
    by_count = sorted(pool, key=lambda kind: (-picked[kind], -pool[kind]))
    for kind in by_count[:_ROWS]:
        share, base = picked[kind] / len(chosen), pool[kind] / len(kinds)
        table.add_row(Text(kind), str(picked[kind]), f"{share:.1%}", f"{base:.1%}", f"{share / base:.1f} ×")
    rest = by_count[_ROWS:]
    if rest:
        count, base = sum(picked[kind] for kind in rest), sum(pool[kind] for kind in rest) / len(kinds)
        share = count / len(chosen)
        table.add_row(f"{len(rest)} others", str(count), f"{share:.1%}", f"{base:.1%}", f"{share / base:.1f} ×")
    return table


def _first_picks(run: "Run", rows: Sequence[int]) -> Table:
    assert run.query is not None
    query_row = {query_id: row for row, query_id in enumerate(run.query.ids())}
    table = Table(
        title="The first picks, each beside the query it was picked for", title_justify="left", show_lines=True
    )
    table.add_column("score", justify="right")
    table.add_column("picked", ratio=1)
    table.add_column("for the query", ratio=1)
    for place, row in enumerate(rows):
        query_id = run.selection.picked_for[place]
        asked = _shortened(run.query[query_row[query_id]]) if query_id else ""
        table.add_row(f"{run.selection.scores[place]:.3f}", _shortened(run.pool[row]), asked)
    return table


def _shortened(example: Example, length: int = 220) -> Text:
    """An example's last user turn, enough of it to recognise."""
    asked = next((m.content for m in reversed(example.messages) if m.role == "user"), example.messages[0].content)
    folded = " ".join(asked.split())
    return Text(folded if len(folded) <= length else folded[: length - 1] + "…")


def methods_table() -> None:
    """The tables of methods and algorithms, as the code has them."""
    table = Table(title="Methods", title_justify="left")
    for heading in ("method", "pool side", "query side", "algorithm"):
        table.add_column(heading, no_wrap=True)
    table.add_column("what it does, and whose it is")
    for name, method in METHODS.items():
        sides = (method.optimizer, method.objective) if method.optimizer else ("–", "–")
        table.add_row(name, *sides, method.algorithm, f"{method.summary} ({method.source})")
    console.print(table)
    table = Table(title="Selection algorithms", title_justify="left")
    for heading in ("algorithm", "what it does", "source"):
        table.add_column(heading)
    for name, algorithm in ALGORITHMS.items():
        table.add_row(name, algorithm.summary, algorithm.source)
    console.print(table)
    table = Table(title="Rewards, for --method nice", title_justify="left")
    for heading in ("reward", "what it is"):
        table.add_column(heading)
    for name, entry in REWARDS.items():
        argument = f":{entry.argument}" if entry.argument else ""
        table.add_row(
            Text(name + (argument if entry.needs_argument or not argument else f"[{argument}]")), entry.summary
        )
    table.add_row("FILE.py:FUNCTION", "a function of your own: (prompts, completions, records) -> scores")
    console.print(table)
