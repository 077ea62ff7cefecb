"""What the folder of a finished selection tells: the picks, what they were chosen from and for, what lies on disk.

Nothing is computed that a run would have to compute: no model is loaded and no gradient taken. What cannot be read any
more (a pool that was moved, or changed since) is left out, and the reason is kept for the page.
"""

import json
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handpick.data.examples import Example, Message
from handpick.data.plain_text import contents
from handpick.data.pool import Pool
from handpick.data.quarantine import Quarantine
from handpick.data.reading import reading_of
from handpick.data.unwanted import Unwanted
from handpick.data.unwritten import Unwritten, read_unwritten
from handpick.distance import Distances
from handpick.documents import DAMAGED, as_kind, as_object, reading
from handpick.errors import DataError, StoreError
from handpick.layout import DataLayout, OverlapLayout, RunLayout, StoreLayout
from handpick.listing import files_below
from handpick.methods import ITERSELECT
from handpick.pipeline.missed import Missed, read_missed
from handpick.reporting.iterated import Iterated, read_iterated
from handpick.reporting.picks import ReportedPick, parse_picks, response
from handpick.scorers.finished_run import FinishedRun
from handpick.scorers.inputs import target_labels
from handpick.scorers.provenance import pool_store_path, read_run_settings
from handpick.scorers.scoring_problem import Remark
from handpick.selection import Selection
from handpick.settings import Settings
from handpick.settings.constraints import Constraints
from handpick.store.manifest import contents_of

SAMPLE = 20_000  # of a larger pool, so many examples are read for lengths and similarities
_SEED = 0


@dataclass(frozen=True)
class PoolFacts:
    """What was chosen from. ``kinds``: (source, category) of every example, "" for no category.

    ``sample`` are the rows whose lengths are in ``responses`` and ``conversations``, in characters, int64: all rows of
    a pool of ``SAMPLE`` at most.
    """

    pool: Pool
    kinds: list[tuple[str, str]]
    sample: NDArray[np.int64]
    responses: NDArray[np.int64]
    conversations: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.pool)

    def find(self, ids: Collection[str]) -> dict[str, tuple[tuple[str, str], Example]]:
        """Return kind and example of some ids, of those that are there."""
        wanted = set(ids)
        rows = [row for row, example_id in enumerate(self.pool.ids()) if example_id in wanted]
        return {each.id: (self.kinds[row], each) for row, each in zip(rows, self.pool.take(rows), strict=True)}


@dataclass(frozen=True)
class RunFolder:
    """A finished selection. ``pool`` and ``queries`` are None where they cannot be read; ``missing`` says why.

    ``made_by`` has the settings of ``handpick select``, or what ``handpick iterselect`` did; the latter has no queries,
    and its picks were picked for hard examples of the pool. ``target_of`` has the name of the target of every query
    where there are several. ``missed`` says what prefilters left, where there were any. ``set_aside`` counts the
    records of pool and queries that could not be used, ``read`` all that there were; ``unwritten`` what they carry and
    the chat template does not write, by pool and query. ``disk`` has the bytes of every part of the folder, ``seconds``
    what the parts of the last run took and the ``total``, ``machine`` what it ran on; both are empty of an older
    handpick. ``remarks`` are what the method says of its result.
    """

    path: Path
    selection: Selection
    made_by: Settings | Iterated
    picks: list[ReportedPick]
    pool: PoolFacts | None
    queries: dict[str, tuple[Message, ...]] | None
    query_ids: list[str]
    target_of: dict[str, str]
    missing: list[str]
    distances: dict[str, dict[str, Any]]
    missed: Missed | None
    remarks: list[Remark]
    set_aside: dict[str, int]
    unwritten: dict[str, dict[str, Unwritten]]
    read: dict[str, int]
    disk: dict[str, int]
    seconds: dict[str, float]
    machine: str

    @property
    def method(self) -> str:
        """By its name."""
        return ITERSELECT if isinstance(self.made_by, Iterated) else self.made_by.method

    @property
    def ranked_by(self) -> str:
        """What the scores are, in words."""
        if isinstance(self.made_by, Iterated):
            return "Q = α·M + (1 − α)·R when each was taken; of two rounds M is not by the same classifier"
        return f"What {self.made_by.used_algorithm} ranked on"


def open_run(folder: Path) -> RunFolder:
    """Read a folder that ``handpick select`` or ``handpick iterselect`` wrote.

    Raises:
        StoreError: it holds no selection, or a damaged one.
        SettingsError: its settings cannot be read.
    """
    selection = Selection.open(folder)
    layout = RunLayout(folder)
    seconds, machine = _cost(layout.cost)
    if not len(selection):
        raise StoreError(f"the selection in {folder} is empty, so there is nothing to report; select again")
    missing: list[str] = []
    query, labels = None, []
    made_by: Settings | Iterated
    if selection.settings.get("method") == ITERSELECT:
        made_by = read_iterated(folder, selection.settings, missing)
        pool = _open_pool("pool", selection.settings["pool"], _records_folder(folder, made_by), selection, missing)
    else:
        made_by = read_run_settings(selection, folder)
        pool = _open_pool("pool", made_by.pool, _records_folder(folder, made_by), selection, missing)
        sources = made_by.query or [file for files in made_by.target.values() for file in files]
        if sources:
            parsed = _records_folder(folder, made_by)
            query = _open_pool("query", sources, parsed, selection, missing, made_by.unwanted_queries)
        labels = target_labels(made_by, query) if query is not None and len(made_by.target) > 1 else []
    query_ids = query.ids() if query is not None else []
    bad = {name: _read_quarantine(layout.quarantine(name)) for name in ("pool", "query")}
    pools = {"pool": pool, "query": query}
    return RunFolder(
        path=folder,
        selection=selection,
        made_by=made_by,
        picks=parse_picks(selection),
        pool=None if pool is None else _facts(pool),
        queries=None if query is None else {each.id: each.messages for each in query.examples(0, len(query))},
        query_ids=query_ids,
        target_of=dict(zip(query_ids, labels, strict=True)) if labels else {},
        missing=missing,
        distances=_distances(layout.distances),
        missed=read_missed(layout.prefilter_check),
        remarks=_remarks(layout.remarks),
        set_aside={name: len(own) for name, own in bad.items()},
        unwritten=read_unwritten(layout.unwritten),
        read={name: len(own) + _count_outside(own, bad[name]) for name, own in pools.items() if own is not None},
        disk=_disk(folder),
        seconds=seconds,
        machine=machine,
    )


def as_finished(run: RunFolder, settings: Settings) -> FinishedRun:
    """Return a run of ``handpick select`` as its scorer opens it again."""
    return FinishedRun(
        run.path,
        settings,
        run.selection.fingerprints,
        None if run.pool is None else run.pool.pool,
        None if run.queries is None else [contents(messages) for messages in run.queries.values()],
    )


def _records_folder(folder: Path, made_by: Settings | Iterated) -> Path:
    """Return where the run has kept the parsed records: beside the pool's features."""
    if isinstance(made_by, Iterated):
        store = made_by.settings.get("store")
        return RunLayout(folder).parsed if store is None else StoreLayout(Path(store)).parsed
    return StoreLayout(pool_store_path(made_by)).parsed


def _open_pool(
    name: str,
    sources: Sequence[str],
    cache: Path,
    selection: Selection,
    missing: list[str],
    unwanted: Unwanted = "aside",
) -> Pool | None:
    """Open the pool or the queries as the selection had them.

    None, with a reason in ``missing``, where they are gone.
    """
    with tempfile.TemporaryDirectory() as scratch:  # the run's own lists of bad records stay as they are
        try:
            quarantine = Quarantine(DataLayout(Path(scratch)).quarantine(), None)
            pool = Pool.open(
                list(sources),
                cache=cache,
                quarantine=quarantine,
                reading=reading_of(selection.settings),
                unwanted=unwanted,
            )
        except DataError as error:
            missing.append(f"The {name} could not be read: {error}.")
            return None
    there = selection.fingerprints.get(name, {}).get("files")
    if there is not None and there != json.loads(json.dumps(contents_of(pool.files))):
        changed = [file["sha256"] for file in there] != [file.sha256 for file in pool.files]
        how = "have changed" if changed else "are read otherwise"
        missing.append(f"The {name}'s files ({', '.join(sources)}) {how} since the selection was made.")
        return None
    return pool


def _facts(pool: Pool) -> PoolFacts:
    columns = zip(pool.column("source"), pool.column("category"), strict=True)
    sample = np.arange(len(pool))
    if len(pool) > SAMPLE:
        sample = np.sort(np.random.Generator(np.random.PCG64(_SEED)).choice(len(pool), SAMPLE, replace=False))
        examples = [pool[row] for row in sample.tolist()]
    else:
        examples = pool.examples(0, len(pool))
    return PoolFacts(
        pool,
        [(str(source), category or "") for source, category in columns],
        sample,
        np.array([len(response(each.messages)) for each in examples], dtype=np.int64),
        np.array([n_characters(each.messages) for each in examples], dtype=np.int64),
    )


def n_characters(messages: Sequence[Message]) -> int:
    """Count the characters of a whole conversation."""
    return sum(len(message.content) for message in messages)


def _cost(path: Path) -> tuple[dict[str, float], str]:
    """Return what a run took, and on which machine; nothing where the folder does not say it."""
    cost = _json(path)
    with reading(path, StoreError, "remove it, or select again"):
        seconds = {name: float(each) for name, each in as_object(cost.get("seconds", {})).items()}
        return seconds, f"{cost['device']}, {cost['threads']} thread{'s' * (cost['threads'] != 1)}" if cost else ""


def _remarks(path: Path) -> list[Remark]:
    with reading(path, StoreError, "remove it, or select again"):
        return [as_kind(Remark, each) for each in _json(path).get("remarks", [])]


def _distances(path: Path) -> dict[str, dict[str, Any]]:
    found = _json(path)
    with reading(path, StoreError, "remove it, or select again"):
        return {name: asdict(as_kind(Distances, own)) for name, own in found.items()}


def _json(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        found = as_object(json.loads(path.read_bytes()))
    except DAMAGED as error:
        raise StoreError(f"{path} cannot be read ({error}); remove it, or select again") from error
    return found


def _read_quarantine(path: Path) -> list[tuple[str | None, str, int | None]]:
    """Read id, file and line of every record that was set aside."""
    try:
        lines = [json.loads(line) for line in path.read_bytes().splitlines()]
        return [_place_of(line) for line in lines]
    except FileNotFoundError:
        return []
    except DAMAGED as error:
        raise StoreError(f"{path} cannot be read ({error}); remove it, or select again") from error


def _place_of(line: dict[str, Any]) -> tuple[str | None, str, int | None]:
    own_id, at = line["id"], line["line"]
    if not isinstance(own_id, str | None) or not isinstance(at, int | None):
        raise TypeError("a line that says no record")
    return own_id, str(line["file"]), at


def _count_outside(pool: Pool, quarantined: Sequence[tuple[str | None, str, int | None]]) -> int:
    """Count how many of them were set aside when they were read, and are not in the pool."""
    wanted = {example_id for example_id, _, _ in quarantined}
    row_of = {example_id: row for row, example_id in enumerate(pool.ids()) if example_id in wanted}
    return sum(i not in row_of or pool.location(row_of[i]) != (file, line) for i, file, line in quarantined)


def _disk(folder: Path) -> dict[str, int]:
    """Return the bytes of each part of the folder, but for an earlier report."""
    sizes: dict[str, int] = {}
    layout = RunLayout(folder)
    reports = {layout.report.name, layout.report_folder.name, layout.comparison.name}
    for path in files_below(folder):
        part = path.relative_to(folder).parts[0]
        if part not in reports:
            sizes[part] = sizes.get(part, 0) + path.stat().st_size
    return sizes


def overlap_of(run: RunFolder, tests: Sequence[str]) -> tuple[Mapping[str, tuple[str, float]] | None, str]:
    """Find which picks repeat a test item, as {pick's id: (item's id, share of the item)}, and what was looked at.

    With ``tests`` the picks are held against these files now. Without, the run's own ``overlap.jsonl`` is read, of
    ``--exclude-overlap``; None where there is none either.

    Raises:
        DataError: a test set cannot be read.
        StoreError: ``overlap.jsonl`` is damaged.
    """
    chosen = set(run.selection.ids)
    if tests:
        return _compare_with_tests(run, tests), f"the picks were held against {', '.join(tests)}"
    path = RunLayout(run.path).overlap
    if not path.exists():
        when_selecting = "" if isinstance(run.made_by, Iterated) else " or with --exclude-overlap when selecting"
        return None, f"no test set was named, here with --test{when_selecting}"
    try:
        lines = [json.loads(line) for line in path.read_bytes().splitlines()]
        found = {line["id"]: (str(line["repeats"]), float(line["share"])) for line in lines}
    except DAMAGED as error:
        raise StoreError(f"{path} cannot be read ({error}); run `handpick overlap` or select again") from error
    n = f"{len(found):,} examples of the pool" if len(found) != 1 else "1 example of the pool"
    return {each: found[each] for each in found if each in chosen}, f"overlap.jsonl names {n}"


def _compare_with_tests(run: RunFolder, tests: Sequence[str]) -> dict[str, tuple[str, float]]:
    from handpick.overlap import find_overlaps

    constraints = run.made_by if isinstance(run.made_by, Constraints) else Constraints()
    with tempfile.TemporaryDirectory() as scratch:
        layout = OverlapLayout(Path(scratch))
        unread = Quarantine(layout.quarantine(), None)
        reading = reading_of(run.selection.settings)
        chosen = Pool.open([RunLayout(run.path).records], cache=layout.parsed, quarantine=unread, reading=reading)
        found = find_overlaps(chosen, tests, layout.folder, constraints.overlap_threshold, reading)
        lines = [json.loads(line) for line in layout.overlap.read_bytes().splitlines()]
        place = [chosen.location(each.row)[1] - 1 for each in found]  # read alone, records may have other ids
    return {
        run.selection.ids[at]: (str(line["repeats"]), float(line["share"]))
        for at, line in zip(place, lines, strict=True)
    }
