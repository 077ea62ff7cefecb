"""Which examples of a pool repeat an item of a test set, read from files and written down."""

import json
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from handpick.data.examples import Example
from handpick.data.overlap import HeldOut, Overlap, overlaps
from handpick.data.pool import Pool
from handpick.data.quarantine import Quarantine
from handpick.data.reading import TABLE_ALONE, Reading, check_columns
from handpick.files import atomic_write, write_parts
from handpick.layout import OverlapLayout
from handpick.own_folder import check_inputs, hold_folder
from handpick.progress import log, progress


class OverlapResult(NamedTuple):
    """A pool, and its rows that repeat a test item, each with the share of the item that stands in it."""

    pool: Pool
    rows: list[tuple[int, float]]


def find_overlaps(
    pool: Pool, test_sets: Sequence[str], folder: Path, threshold: float, reading: Reading = TABLE_ALONE
) -> list[Overlap]:
    """Find the examples that repeat an item, in the pool's order; also written to ``overlap.jsonl`` in ``folder``.

    Items of one ``example`` (a record under several templates) count as one.

    Raises:
        DataError: a test set cannot be read.
        StoreError: the file cannot be written.
    """
    items: list[Example] = []
    groups: list[Hashable] = []
    layout = OverlapLayout(folder)
    quarantine = Quarantine(layout.quarantine("test"), None)
    for test_set in test_sets:  # each by itself: two may number their items alike
        tests = Pool.open([test_set], cache=layout.parsed, quarantine=quarantine, reading=reading, unwanted="keep")
        own = tests.examples(0, len(tests))
        groups += [(test_set, _group(item, row)) for row, item in enumerate(own)]
        items += own
    quarantine.report()
    held_out = HeldOut(items, groups)
    if held_out.unjudged:
        log(f"{len(held_out.unjudged)} of {len(items)} test items have no wording of their own to be found by")
    with progress("overlap with the test sets", total=len(pool)) as advance:

        def each() -> Iterator[Example]:
            for start in range(0, len(pool), 1024):
                examples = pool.examples(start, start + 1024)
                yield from examples
                advance(len(examples))

        found = list(overlaps(each(), held_out, threshold))
    lines = [{"id": pool[each.row].id, "repeats": items[each.item].id, "share": round(each.share, 4)} for each in found]
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    atomic_write(layout.overlap, text.encode())
    return found


def _group(item: Example, row: int) -> Hashable:
    """Return what items of one ``example`` have in common; an item that names none stands alone."""
    named = json.loads(item.raw).get("example")
    return named if isinstance(named, str | int) else ("row", row)


def run_overlap(
    pool: Sequence[str], test_sets: Sequence[str], folder: Path, threshold: float, reading: Reading = TABLE_ALONE
) -> OverlapResult:
    """Look through a pool by itself: ``overlap.jsonl`` with what repeats an item, ``clean.jsonl`` with the rest.

    Raises:
        DataError: the pool or a test set cannot be read.
        StoreError: a file cannot be written.
    """
    layout = OverlapLayout(folder)
    check_inputs(layout, {"pool": list(pool), "test": list(test_sets)})
    with hold_folder(folder):
        return _look_through(pool, test_sets, layout, threshold, reading)


def _look_through(
    pool: Sequence[str], test_sets: Sequence[str], layout: OverlapLayout, threshold: float, reading: Reading
) -> OverlapResult:
    quarantine = Quarantine(layout.quarantine(), None)
    opened = Pool.open(list(pool), cache=layout.parsed, quarantine=quarantine, reading=reading, unwanted="keep")
    check_columns(reading, [opened.columns])
    quarantine.report()
    found = find_overlaps(opened, test_sets, layout.folder, threshold, reading)
    repeated = {each.row for each in found}
    write_parts(layout.clean, (opened.raw(row) + b"\n" for row in range(len(opened)) if row not in repeated))
    return OverlapResult(opened, [(each.row, each.share) for each in found])
