"""What a person sees of a selection, a similarity, a comparison."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.table import Table
from rich.text import Text

from handpick.cli.next_steps import quote_path, say_next
from handpick.compare import Comparison
from handpick.data.examples import Example
from handpick.data.pool import Pool
from handpick.distance import Distances
from handpick.errors import DataError
from handpick.layout import OverlapLayout, RunLayout
from handpick.overlap import OverlapResult
from handpick.pipeline import Run
from handpick.reporting.lead import describe_method
from handpick.selection import Selection
from handpick.terminal import as_one_line, console, escape_controls

_ROWS = 12  # of the table of composition
_PICKS = 5  # that are shown


def show_selection(run: Run) -> None:
    """Show the table of composition, the first picks, and where everything is."""
    place_of = {example_id: place for place, example_id in enumerate(run.selection.ids)}
    chosen = [0] * len(place_of)
    for row, example_id in enumerate(run.pool.ids()):  # without a dict of the whole pool
        if example_id in place_of:
            chosen[place_of[example_id]] = row
    console.print(_composition(_kinds(run), chosen))
    console.print(_first_picks(run, run.query, chosen[:_PICKS]))
    if run.distances is not None:
        show_distances(run.distances)
    for remark in run.remarks:
        console.print(f"{'warning: ' if remark.warns else ''}{remark.said}", soft_wrap=True)
    layout = RunLayout(run.settings.folder)
    console.print(f"{len(chosen):,} of {len(run.pool):,} examples chosen by {describe_method(run.settings)}")
    if run.missed is not None:
        console.print(run.missed.describe(), soft_wrap=True)
    for path, what in {
        layout.records: "the chosen records, as they came, in order of choice",
        layout.selection: "their ids, scores, the query each was picked for, settings, fingerprints",
        layout.settings: "what was used: `handpick run` takes it",
        layout.remarks: "what the method says of its result, query by query",
        layout.distances: "how far they are from the queries, beside a random draw",
        layout.report: "all of it on one page, for a browser",
        **dict.fromkeys(layout.pool_stores(), "the pool's features, for the next selection: --store"),
    }.items():
        if path.exists():
            console.print(
                Text(f"  {run.settings.name_of(path)}", style="bold") + Text(f"  {what}", style="dim"), soft_wrap=True
            )
    if not layout.report.exists():
        console.print(f"one page for a browser: handpick report {quote_path(layout.folder)}", soft_wrap=True)
    say_next(f"handpick train --selection {quote_path(layout.folder)}")


def _kinds(run: Run) -> list[str]:
    """Return source and category of every row of the pool."""
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


def _first_picks(run: Run, query: Pool | None, rows: Sequence[int]) -> Table:
    """Return a line a pick, cut to the terminal's width, and beside it its query where there are any."""
    names = run.selection.picked_for[: len(rows)]
    queries = query if any(names) else None
    beside = "" if queries is None else ", each beside the query it was picked for"
    table = Table(title=f"The first picks{beside}", title_justify="left", expand=True)
    table.add_column("source", no_wrap=True, overflow="ellipsis", max_width=20)
    for heading in ("picked",) if queries is None else ("picked", "for the query"):
        table.add_column(heading, no_wrap=True, overflow="ellipsis", ratio=1)
    row_of = {} if queries is None else {query_id: row for row, query_id in enumerate(queries.ids())}
    for name, example in zip(names, run.pool.take(rows), strict=True):
        asked = [] if queries is None else [_shorten(queries[row_of[name]]) if name in row_of else Text(name or "")]
        table.add_row(Text(as_one_line(example.source or "?")), _shorten(example), *asked)
    return table


def _shorten(example: Example, length: int = 220) -> Text:
    """Return an example's last user turn, enough of it to recognise."""
    asked = next((m.content for m in reversed(example.messages) if m.role == "user"), example.messages[0].content)
    folded = escape_controls(" ".join(asked.split()))  # before it is cut, so that a row is as wide as it looks
    return Text(folded if len(folded) <= length else folded[: length - 1] + "…")


def show_similarity(folder: Path) -> None:
    """Show how the similarities of each query lie, and where the matrix is."""
    layout = RunLayout(folder)
    names = json.loads(layout.similarity_ids.read_text(encoding="utf-8"))
    similarity_QN = np.load(layout.similarity, mmap_mode="r")
    table = Table(title="Similarity to the pool", title_justify="left")
    table.add_column("query", no_wrap=True, overflow="ellipsis", max_width=32)
    for heading in ("median", "99%", "largest"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("nearest example", no_wrap=True, overflow="ellipsis", max_width=40)
    for query in range(min(_ROWS, len(similarity_QN))):
        row_N = np.asarray(similarity_QN[query])
        name = names["queries"][query] if names["queries"] else "every query"
        values = (f"{value:.3f}" for value in (*np.quantile(row_N, [0.5, 0.99]), row_N.max()))
        table.add_row(Text(name), *values, Text(names["examples"][int(row_N.argmax())]))
    if len(similarity_QN) > _ROWS:
        table.add_row(f"{len(similarity_QN) - _ROWS} others", "", "", "", "")
    console.print(table)
    shape = " × ".join(f"{n:,}" for n in similarity_QN.shape)
    console.print(f"{shape}: {layout.similarity}, with the ids in {layout.similarity_ids.name}", soft_wrap=True)


def show_comparison(found: Comparison, a: str, b: str) -> None:
    """Show what two selections share, and by source and query what each has alone."""
    console.print(
        f"{found.common:,} examples in both, of {found.n_a:,} and {found.n_b:,}: Jaccard {found.jaccard:.3f}"
        + ("" if found.rank_correlation is None else f", rank correlation of the common {found.rank_correlation:.3f}")
    )
    if found.same_pool is False:
        console.print("The two were chosen from different pools: equal ids need not be equal examples.")
    table = Table(title="Overlap of the first", title_justify="left")
    for head in found.heads:
        table.add_column(f"{head.percent}%", justify="right")
    table.add_row(*(f"{head.overlap:.0%}" for head in found.heads))
    console.print(table)
    for what, counts_a, counts_b in (
        ("source", found.only_a.sources, found.only_b.sources),
        ("query", found.only_a.queries, found.only_b.queries),
    ):
        table = Table(title=f"Only in one, by {what}", title_justify="left")
        table.add_column(what, no_wrap=True, overflow="ellipsis", max_width=40)
        for heading in (a, b):
            table.add_column(heading, justify="right", overflow="fold")
        total = Counter(counts_a) + Counter(counts_b)
        for name, _ in total.most_common(_ROWS):
            table.add_row(Text(name or "–"), str(counts_a.get(name, 0)), str(counts_b.get(name, 0)))
        if len(total) > _ROWS:
            table.add_row(f"{len(total) - _ROWS} others", "", "")
        if total:
            console.print(table)


def show_distances(found: Mapping[str, Distances]) -> None:
    """Show a line per subset; smaller is nearer to the queries."""
    table = Table(title="Distance to the queries: 0 is the same, larger is farther", title_justify="left")
    table.add_column("subset", overflow="fold")
    for heading in ("query to nearest", "to nearest query", "Wasserstein", "MMD", "energy"):
        table.add_column(heading, justify="right")
    for name, each in found.items():
        values = (each.query_to_subset, each.subset_to_query, each.wasserstein, each.mmd, each.energy)
        table.add_row(Text(name), *(f"{value:.4f}" for value in values))
    console.print(table)
    console.print(
        "query to nearest: how well the queries are covered; to nearest query: how far off the subset is; the others: "
        "both sets as wholes. Smaller than a random draw's is nearer than chance.",
        soft_wrap=True,
    )
    if any(each.wasserstein_by == "sinkhorn" for each in found.values()):
        console.print("Wasserstein by Sinkhorn where the sets are large: somewhat too large.")


def show_overlap(found: OverlapResult, folder: Path) -> None:
    """Show how many repeat a test item, by source, and where they are."""
    layout = OverlapLayout(folder)
    sources = found.pool.column("source")
    counts = Counter(sources[row] or "?" for row, _ in found.rows)
    table = Table(title="Examples that repeat a test item", title_justify="left")
    for heading in ("source", "examples", "of"):
        table.add_column(heading, justify="left" if heading == "source" else "right")
    of_source = Counter(source or "?" for source in sources)
    for source, count in counts.most_common():
        table.add_row(Text(source), f"{count:,}", f"{of_source[source]:,}")
    if counts:
        console.print(table)
    console.print(f"{len(found.rows):,} of {len(found.pool):,} examples repeat a test item: {layout.overlap}")
    console.print(f"the others, as they came: {layout.clean}", soft_wrap=True)


def read_ids(path: Path) -> list[str]:
    """Read the ids of a selection's folder, or of a file with one a line.

    Raises:
        DataError: there is no such file.
        StoreError: the folder holds no selection.
    """
    if path.is_dir():
        return Selection.open(path).ids
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}; give a file of ids, one a line") from error
