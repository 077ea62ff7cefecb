"""``handpick look``: a pool, and a query set beside it, counted before anything is chosen."""

import json
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any, TypeVar

import numpy as np

from handpick.data.pool import Pool
from handpick.data.quarantine import Quarantine
from handpick.data.reading import check_columns
from handpick.data.render import Renderer
from handpick.errors import DataError
from handpick.layout import DataLayout
from handpick.model import load_renderer
from handpick.overview.counts import Counts, count_records
from handpick.overview.sample import SampleFindings, look_at_sample
from handpick.overview.settings import LookSettings
from handpick.own_folder import check_page

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class SetAside:
    """Records that cannot be used, of one kind: how many, where the first one stands, and what is wrong with it."""

    records: int
    file: str
    line: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class Side:
    """A pool or a query set: what all its records are, and what a sample of them is.

    ``files`` has the records of each file, ``set_aside`` those that cannot be used, by kind, the most common first.
    ``parsing``, ``looking`` and ``sampling`` are the seconds that reading the files took (or opening what was read
    before), counting all records, and looking at the sample.
    """

    files: dict[str, int]
    counts: Counts
    set_aside: dict[str, SetAside]
    sample: SampleFindings
    parsing: float
    looking: float
    sampling: float

    @property
    def n_set_aside(self) -> int:
        """Records that cannot be used."""
        return sum(each.records for each in self.set_aside.values())


@dataclass(frozen=True, slots=True)
class Overview:
    """What ``look`` found; ``query`` is None where none was given.

    ``queries_in_pool`` counts the queries that stand in the pool word for word, the answer with them.
    """

    settings: LookSettings
    pool: Side
    query: Side | None = None
    queries_in_pool: int = 0

    @property
    def sides(self) -> dict[str, Side]:
        """The pool, and the query set where there is one."""
        return {"pool": self.pool} | ({} if self.query is None else {"query": self.query})


def run_look(settings: LookSettings) -> Overview:
    """Look at a pool and, where there is one, at a query set. Nothing is written but parsed records in ``cache``.

    Raises:
        ModelError: the tokenizer cannot be used.
        DataError: a source cannot be read, or has no usable record.
    """
    if settings.out is not None:
        check_page(Path(settings.out), {"pool": settings.pool, "query": settings.query})
    renderer = None if settings.model is None else load_renderer(settings.model, settings.template_args)
    with _parsed_records(settings.cache) as cache:
        pool = _look_at(settings.pool, settings, renderer, cache)
        query = _look_at(settings.query, settings, renderer, cache) if settings.query else None
    check_columns(settings.reading, [side.counts.fields for side in (pool, query) if side is not None])
    if query is None:
        return Overview(settings, pool)
    shared = np.isin(query.counts.content_N, pool.counts.content_N)
    return Overview(settings, pool, query, int(shared.sum()))


@contextmanager
def _parsed_records(folder: str | None) -> Iterator[Path]:
    """Open the folder of parsed records, one that is gone afterwards unless it was named."""
    if folder is not None:
        yield Path(folder)
        return
    with TemporaryDirectory(prefix="handpick-") as scratch:
        yield DataLayout(Path(scratch)).parsed


def _look_at(sources: Sequence[str], settings: LookSettings, renderer: Renderer | None, cache: Path) -> Side:
    began = perf_counter()
    with TemporaryDirectory(prefix="handpick-") as scratch:
        quarantine = Quarantine(DataLayout(Path(scratch)).quarantine())
        try:
            pool = Pool.open(list(sources), cache=cache, quarantine=quarantine, reading=settings.reading)
        except DataError as error:
            # the list that the pool's own sentence points to is gone in a moment
            if quarantine.count and str(error).startswith("no usable record"):
                raise _nothing_usable(sources, quarantine) from error
            raise
        set_aside = _read_set_aside(quarantine, _kind)
    opened = perf_counter()
    counts = count_records(pool)
    counted = perf_counter()
    size = None if settings.all else settings.sample
    sample = look_at_sample(pool, renderer, settings.max_length, size, settings.seed)
    files = {file.name: file.rows for file in pool.files}
    return Side(files, counts, set_aside, sample, opened - began, counted - opened, perf_counter() - counted)


def _kind(entry: Mapping[str, Any]) -> str:
    kind: str = entry["reason"].partition(":")[0]
    return kind


def _read_set_aside(quarantine: Quarantine, by: Callable[[Mapping[str, Any]], Key]) -> dict[Key, SetAside]:
    """Return what was set aside, in groups, the most common first, each with its first record."""
    first: dict[Key, Mapping[str, Any]] = {}
    counts: Counter[Key] = Counter()
    if quarantine.count:
        with quarantine.path.open(encoding="utf-8", newline="\n") as entries:
            for entry in map(json.loads, entries):
                key = by(entry)
                first.setdefault(key, entry)
                counts[key] += 1
    return {
        key: SetAside(n, first[key]["file"], first[key]["line"], first[key]["reason"])
        for key, n in counts.most_common()
    }


def _nothing_usable(sources: Sequence[str], quarantine: Quarantine) -> DataError:
    """Return what is wrong with each file, since two files are mended in two ways."""
    found = _read_set_aside(quarantine, lambda entry: (entry["file"], _kind(entry))).values()
    said = "; ".join(f"{each.records:,} × {each.reason} (first: line {each.line} of {each.file})" for each in found)
    return DataError(f"no usable record in {', '.join(map(str, sources))}: {said}")
