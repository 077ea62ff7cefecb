"""A pool or a query set: examples of one or several sources in one memory-mapped table.

Answers that were judged by themselves (KTO's ``label``) are no examples of what to learn where they are not wanted:
they are set aside, unless pairs are asked for (``data/unwanted.py``).
"""

import hashlib
import json
from bisect import bisect_right
from collections import Counter
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from handpick.data.cache import CachedSource, find_parsed, is_current, parse_into
from handpick.data.containers import has_no_types
from handpick.data.examples import Conversation, Example, Message
from handpick.data.ids import RepeatedIds, counts, file_id, find_file_ids, id_key, numbered_id, own_id, settle_ids
from handpick.data.memory import MemoryInput, held_records
from handpick.data.quarantine import Quarantine
from handpick.data.read import DatasetInput, FileInput, Source, open_source
from handpick.data.reading import TABLE_ALONE, Reading, check_columns
from handpick.data.unwanted import UNWANTED, JudgedAnswers, Unwanted, pair_answers
from handpick.data.version import RECORD_VERSION
from handpick.errors import DataError
from handpick.in_memory import is_in_memory
from handpick.progress import log

if TYPE_CHECKING:
    from datasets import Dataset

# what an example is made of; the other columns are for counting
_OF_EXAMPLES = [
    "id", "explicit_id", "messages", "rejected", "tools", "template_args", "document", "wanted", "source", "category",
    "subtask", "raw", "record_rule",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class DataFile:
    """A source of a pool: its path or name, the digest of its bytes, and how many good records it gave.

    ``record_rule`` is the newest rule by which one of its records is read as it is (``handpick.data.version``).
    """

    name: str
    sha256: str
    rows: int
    record_rule: int = 1


class Pool:
    """An immutable sequence of examples with unique ids.

    Examples stay on disk until asked for. In memory are, a record, 8 bytes if any record of the pool
    was set aside for its id and none otherwise; opening takes 25 bytes per record for a moment.
    """

    files: tuple[DataFile, ...]
    """The sources in the order given. The rows of one are contiguous and in its own order."""

    judged: JudgedAnswers
    """Answers that were judged by themselves (KTO) and are no records of the pool's own."""

    def __init__(
        self,
        sources: Sequence[CachedSource],
        tables: Sequence["Dataset"],
        quarantine: Quarantine | None,
        unwanted: Unwanted,
    ) -> None:
        """For ``open`` and ``reopen`` to call: ``tables`` are the opened tables of ``sources``."""
        from datasets import concatenate_datasets

        self._taken_from: tuple[Pool, NDArray[np.int64]] | None = None
        self._table = concatenate_datasets(list(tables)).with_format("arrow")
        self._of_examples = self._table.select_columns(_OF_EXAMPLES)
        self._sources = list(sources)
        self._table_ends = list(accumulate(len(table) for table in tables))

        self._unwanted = unwanted
        repeated = self._settle_ids()
        self._occurrence = repeated.occurrence
        self.judged = judged = self._find_unwanted(repeated.first_of)
        self._kept: NDArray[np.int64] | None = None  # the table's row of every row of the pool; None where the same
        ends = self._table_ends
        dropped = [*repeated.first_of, *judged.partner.values(), *judged.set_aside]
        if dropped:
            self._kept = np.delete(np.arange(len(self._table)), dropped)
            ends = np.searchsorted(self._kept, ends).tolist()
        self._length = ends[-1]
        rules = [_newest_rule(s, table) for s, table in zip(sources, tables, strict=True)]
        for source in self._labels:  # whose ids are others than they were
            rules[source] = RECORD_VERSION
        self.files = tuple(
            DataFile(s.name, s.sha256, end - start, rule)
            for s, rule, start, end in zip(sources, rules, [0, *ends], ends, strict=False)
        )
        if quarantine is not None:
            self._tell_labels()
            for row, first in repeated.first_of.items():
                first_file, first_line = self._table_location(first)
                self._quarantine_row(row, f"id seen before: at line {first_line} of {first_file}", quarantine)
            for row, reason in judged.set_aside.items():
                self._quarantine_row(row, reason, quarantine)

    @classmethod
    def open(
        cls,
        sources: "Source | Sequence[Source]",
        *,
        cache: Path,
        quarantine: Quarantine,
        reading: Reading = TABLE_ALONE,
        unwanted: Unwanted = "aside",
    ) -> "Pool":
        """Read the sources, or what an earlier call left in ``cache``, as one pool.

        A record that cannot be used goes to the quarantine, as does one whose explicit id an earlier
        record of the pool has. Where ids of a source are numbers that stand for other records in an earlier source,
        they count within their file alone, and are written as ``file/id``, which is said. A record without an id is
        named by its content; repetitions of it are numbered: ``-2``, ``-3``.

        Args:
            sources: paths of files or folders (``folder:split``), patterns (``shards/*.jsonl``), data sets of
                ``datasets``, Hub names (``org/name`` or ``org/name:split``) or names of ``hold_records``; of the
                latter the cache is enough.
            cache: the folder for the parsed tables, one a source, named by the digest of its bytes.
            quarantine: where bad records go, also those found by the call that filled the cache.
            reading: what of the records is to be read otherwise than the table of formats says.
            unwanted: what becomes of answers that are labelled as not wanted: set aside, kept, or paired with the
                wanted answers of the same prompt.

        Raises:
            DataError: a source is missing or cannot be read, no record is usable, more are bad than the
                quarantine's limit, or the cache cannot be written.
        """
        from datasets import Dataset

        if isinstance(sources, str | Path) or not isinstance(sources, Sequence):
            sources = [sources]
        parsed: list[CachedSource] = []
        for found in [found for s in sources for found in _inputs(s, cache, reading)]:  # what is missing is said first
            parsed.append(found if isinstance(found, CachedSource) else parse_into(cache, found, reading))
            parsed[-1].report(quarantine)
        names = ", ".join(p.name for p in parsed)
        tables = [Dataset.from_file(str(p.table)) for p in parsed]
        if not any(len(table) for table in tables):
            check_columns(reading, [p.columns() for p in parsed])  # what was named wrongly is said by its name
            raise DataError(
                f"no usable record in {names or 'no file'}; {quarantine.summary()}; what can be read is JSON Lines, "
                "JSON, CSV, TSV, Parquet and Arrow, plain, .gz or .zst"
            )
        pool = cls(parsed, tables, quarantine, unwanted)
        if not len(pool):
            raise DataError(f"no usable record in {names}; {quarantine.summary()}")
        return pool

    @classmethod
    def reopen(cls, sources: Sequence[CachedSource], unwanted: Unwanted = "aside") -> "Pool":
        """Open what ``open`` has parsed, in any process that sees its files: the same rows, ids and locations.

        Raises:
            DataError: a table is no longer there, or another version of handpick made it.
        """
        from datasets import Dataset

        for source in sources:
            if not is_current(source.table):
                raise DataError(
                    f"the parsed records of {source.name}, {source.table}, are gone: run again from the start"
                )
        return cls(sources, [Dataset.from_file(str(source.table)) for source in sources], None, unwanted)

    def part(self, rows: Sequence[int]) -> "Pool":
        """Return some rows as a pool by itself: examples, ids and locations are the same, and its files others.

        Args:
            rows: ascending, each once.

        Raises:
            ValueError: they are not.
            IndexError: there is no such row.
        """
        rows_N = np.asarray(rows, dtype=np.int64)
        if (np.diff(rows_N) <= 0).any():
            raise ValueError("the rows of a part are ascending, each once")
        if len(rows_N) and not 0 <= rows_N[0] <= rows_N[-1] < len(self):
            raise IndexError(f"rows {rows_N[0]} to {rows_N[-1]} of a pool of {len(self)}")
        part = Pool.__new__(Pool)
        part.__dict__.update(self.__dict__)
        part._kept = rows_N if self._kept is None else self._kept[rows_N]
        part._length = len(rows_N)
        starts = list(accumulate((file.rows for file in self.files), initial=0))
        cuts = np.searchsorted(rows_N, starts).tolist()
        part.files = tuple(
            replace(file, sha256=_part_digest(file, rows_N[a:b] - start), rows=b - a)
            for file, start, a, b in zip(self.files, starts, cuts, cuts[1:], strict=False)
        )
        part._taken_from = (self, rows_N)
        return part

    def __reduce__(self) -> tuple[Any, ...]:
        """Return how another process opens the pool: from its tables, which stay where they are."""
        if self._taken_from is not None:
            return Pool.part, self._taken_from
        sources = [
            s._replace(table=s.table.absolute(), set_aside=s.set_aside.absolute(), columns_path=None)
            for s in self._sources
        ]
        return Pool.reopen, (sources, self._unwanted)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, row: int) -> Example:
        """Return the example of a row.

        Raises:
            IndexError: there is no such row.
        """
        return self.take([row])[0]

    def examples(self, start: int, stop: int) -> list[Example]:
        """Return the examples of the rows ``start`` to ``stop``, the latter not included."""
        start, stop, _ = slice(start, stop).indices(len(self))
        if start >= stop:
            return []
        return self._examples_at(range(start, stop) if self._kept is None else self._kept[start:stop].tolist())

    def take(self, rows: Sequence[int]) -> list[Example]:
        """Return the examples of some rows, in their order.

        Raises:
            IndexError: there is no such row.
        """
        if not len(rows):
            return []
        return self._examples_at([self._table_row(row) for row in rows])

    def _examples_at(self, table_rows: Sequence[int]) -> list[Example]:
        """Return the examples of rows of the table."""
        records = self._records(table_rows)
        return [self._example(row, record) for row, record in zip(table_rows, records, strict=True)]

    def ids(self) -> list[str]:
        """Return the id of every row."""
        ids = self._column("id")
        for source in self._labels:
            rows = self._rows_of(source)
            ids[rows.start : rows.stop] = self._labelled_ids(source)
        for row, n in self._occurrence.items():
            ids[row] = numbered_id(ids[row], n)
        return self._filter_kept(ids)

    def column(self, name: Literal["id", "source", "category", "subtask"]) -> list[str | None]:
        """Return one field of every row. A record without a source has the name of its file, less the suffixes."""
        if name == "id":
            return list(self.ids())
        values = self._column(name)
        if name == "source":
            for source, start, end in zip(self._sources, [0, *self._table_ends], self._table_ends, strict=False):
                values[start:end] = [value or source.stem for value in values[start:end]]
        return self._filter_kept(values)

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Yield the columns of every row as Arrow has them, in order, some thousand rows at a time.

        A record without a source has the name of its file, as in ``column``. ``id`` is as the record has it: what is
        numbered is not.

        Args:
            columns: of the parsed table, see ``handpick.data.cache.SCHEMA``.
        """
        start, kept = 0, self._kept
        for batch in self._table.data.table.select(list(columns)).to_batches():
            stop = start + len(batch)
            if "source" in columns and len(batch):  # a batch is of one file
                named = pc.replace_with_mask(
                    batch["source"], pc.fill_null(pc.equal(batch["source"], ""), True), self._source_of(start).stem
                )
                batch = batch.set_column(batch.schema.get_field_index("source"), "source", named)
            if kept is not None:
                first, last = np.searchsorted(kept, [start, stop])
                batch = batch.take(pa.array(kept[first:last] - start))
            start = stop
            if len(batch):
                yield batch

    def raw(self, row: int) -> bytes:
        """Return the record of a row as it came, without the end of its line."""
        return cast("bytes", self._cell("raw", self._table_row(row)))

    def record_rule(self, row: int) -> int:
        """Return the newest rule by which the record of a row is read as it is (``handpick.data.version``)."""
        return cast("int", self._cell("record_rule", self._table_row(row)))

    def location(self, row: int) -> tuple[str, int]:
        """Return the source and the line (or row, counted from 1) that a row came from."""
        return self._table_location(self._table_row(row))

    def set_aside(self, row: int, reason: str, quarantine: Quarantine) -> None:
        """Put the record of a row into quarantine.

        Raises:
            DataError: as ``Quarantine.add``.
        """
        example, (file, line) = self[row], self.location(row)
        quarantine.add(file=file, line=line, id=example.id, reason=reason, raw=example.raw)

    def _settle_ids(self) -> RepeatedIds:
        self._labels: dict[int, str] = {}  # of sources whose ids count within them alone
        self._plain: frozenset[int] = frozenset()  # rows of such a source whose ids stand as they are
        columns = self._table.data
        keys_N, explicit_N = columns.column("id_key").to_numpy(), columns.column("explicit_id").to_numpy()
        repeated = settle_ids(keys_N, explicit_N, self._id)
        found = find_file_ids(repeated.first_of, self._source_index, self._has_number, self._is_same)
        if not found.sources:
            return repeated
        self._plain, self._labels = found.same, {source: self._label(source) for source in sorted(found.sources)}
        keys_N = keys_N.copy()
        for source in self._labels:
            rows = self._rows_of(source)
            keys_N[rows.start : rows.stop] = [id_key(id) for id in self._labelled_ids(source)]
        return settle_ids(keys_N, explicit_N, self._id)

    def _has_number(self, row: int) -> bool:
        """Return whether the id of a row of the table is a number; all is text in a file that knows no types."""
        source = self._source_of(row)
        _, id = own_id(json.loads(self._cell("raw", row)), source.reading)
        return not isinstance(id, str) or (counts(id) and has_no_types(source.name))

    def _is_same(self, row: int, other: int) -> bool:
        """Return whether two rows of the table say the same."""
        fields = ("messages", "rejected", "tools", "template_args")
        return self._cell("raw", row) == self._cell("raw", other) or all(
            self._cell(field, row) == self._cell(field, other) for field in fields
        )

    def _label(self, source: int) -> str:
        """Return what a source is called before its ids: its stem, with more of it if another has the same."""
        labels = [
            (s.stem, f"{Path(s.name).parent.name}/{s.stem}", f"{i}/{s.stem}") for i, s in enumerate(self._sources)
        ]
        return next(
            label
            for place, label in enumerate(labels[source])
            if [each[place] for each in labels].count(label) == 1 or place == 2
        )

    def _label_id(self, row: int, id: str, source: int, *, is_explicit: bool) -> str:
        """Return the id of a row of a source whose ids count within it alone."""
        return file_id(self._labels[source], id) if is_explicit and counts(id) and row not in self._plain else id

    def _labelled_ids(self, source: int) -> list[str]:
        """Return the ids of all rows of such a source."""
        rows = self._rows_of(source)
        columns = (self._table.data.column(name).slice(rows.start, len(rows)) for name in ("id", "explicit_id"))
        return [
            self._label_id(row, id, source, is_explicit=is_explicit)
            for row, id, is_explicit in zip(rows, *(column.to_pylist() for column in columns), strict=True)
        ]

    def _id(self, table_row: int) -> str:
        """Return the id of a row of the table, before repetitions are numbered."""
        id, source = self._cell("id", table_row), self._source_index(table_row)
        if source not in self._labels:
            return cast("str", id)
        return self._label_id(table_row, id, source, is_explicit=self._cell("explicit_id", table_row))

    def _records(self, table_rows: Sequence[int]) -> list[dict[str, Any]]:
        """Return rows of the table, with the ids they have in the pool."""
        records = cast("list[dict[str, Any]]", self._of_examples[table_rows].to_pylist())
        for row, record in zip(table_rows, records, strict=True) if self._labels else ():
            if (source := self._source_index(row)) in self._labels:
                record["id"] = self._label_id(row, record["id"], source, is_explicit=record["explicit_id"])
        return records

    def _rows_of(self, source: int) -> range:
        return range(self._table_ends[source - 1] if source else 0, self._table_ends[source])

    def _tell_labels(self) -> None:
        if self._labels:
            source, label = next(iter(self._labels.items()))
            more = f" and of {len(self._labels) - 1} more" if len(self._labels) > 1 else ""
            log(
                f"the ids of {self._sources[source].name}{more} repeat those of other records in earlier files: they "
                f"count within their file alone, and are written as {file_id(label, 'ID')}"
            )

    def _find_unwanted(self, left_out: Container[int]) -> JudgedAnswers:
        """Find out what becomes of answers that were judged by themselves."""
        wanted = self._table.data.column("wanted")
        if self._unwanted == "keep" or wanted.null_count == len(wanted):
            return JudgedAnswers()
        labels = ((row, label) for row, label in enumerate(wanted.to_pylist()) if label is not None)
        labels = ((row, label) for row, label in labels if row not in left_out)
        if self._unwanted == "aside":
            return JudgedAnswers(set_aside={row: UNWANTED for row, label in labels if not label})
        return pair_answers((row, label, self._messages(row)) for row, label in labels)

    def _quarantine_row(self, row: int, reason: str, quarantine: Quarantine) -> None:
        file, line = self._table_location(row)
        quarantine.add(file=file, line=line, id=self._cell("id", row), reason=reason, raw=self._cell("raw", row))

    @property
    def columns(self) -> dict[str, int]:
        """How many records have a column, of every column; empty where a user named none (``Reading``)."""
        found: Counter[str] = Counter()
        for source in self._sources:
            found.update(source.columns())
        return dict(found)

    @property
    def pairs(self) -> int:
        """How many records came as a preferred and a rejected answer."""
        is_pair_N = pc.is_valid(self._table.data.column("rejected")).to_numpy()
        return int(is_pair_N.sum() if self._kept is None else is_pair_N[self._kept].sum())

    def _messages(self, table_row: int) -> Conversation:
        return _conversation(self._of_examples[table_row : table_row + 1].to_pylist()[0], "messages")

    def _column(self, name: str) -> list[Any]:
        return cast("list[Any]", self._table.data.column(name).to_pylist())

    def _cell(self, column: str, table_row: int) -> Any:
        return self._table.data.column(column)[table_row].as_py()

    def _table_row(self, row: int) -> int:
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of a pool of {len(self)}")
        return row if self._kept is None else int(self._kept[row])

    def _source_of(self, table_row: int) -> CachedSource:
        return self._sources[self._source_index(table_row)]

    def _source_index(self, table_row: int) -> int:
        return bisect_right(self._table_ends, table_row)

    def _table_location(self, table_row: int) -> tuple[str, int]:
        return self._source_of(table_row).name, self._cell("line", table_row)

    def _filter_kept(self, values: list[Any]) -> list[Any]:
        return values if self._kept is None else [values[row] for row in self._kept.tolist()]

    def _example(self, table_row: int, record: dict[str, Any]) -> Example:
        n, partner = self._occurrence.get(table_row), self.judged.partner.get(table_row)
        rejected = None if record["rejected"] is None else _conversation(record, "rejected")
        return Example(
            id=record["id"] if n is None else numbered_id(record["id"], n),
            messages=_conversation(record, "messages"),
            raw=record["raw"],
            rejected=rejected if partner is None else self._messages(partner),
            source=record["source"] or self._source_of(table_row).stem,
            category=record["category"],
            subtask=record["subtask"],
            wanted=record["wanted"],
            record_rule=record["record_rule"],
        )


def _part_digest(file: DataFile, rows_N: NDArray[np.int64]) -> str:
    """Return what some rows of a file are known by: all of them as the file itself."""
    if len(rows_N) == file.rows:
        return file.sha256
    return hashlib.sha256(file.sha256.encode() + rows_N.astype("<i8").tobytes()).hexdigest()


def _newest_rule(source: CachedSource, table: "Dataset") -> int:
    rules = pc.max(table.data.column("record_rule")).as_py() if len(table) else 1
    return max(rules, source.rule_of_set_aside())


def _inputs(
    source: Source, cache: Path, reading: Reading
) -> list[FileInput | DatasetInput | MemoryInput | CachedSource]:
    """Return what a source names; records in memory that nobody holds any more are found parsed in ``cache``."""
    if not isinstance(source, str) or not is_in_memory(source):
        return [*open_source(source)]
    return [held_records(source) or find_parsed(cache, source, reading)]


def _conversation(record: dict[str, Any], which: Literal["messages", "rejected"]) -> Conversation:
    turns = (
        Message(t["role"], t["content"], t["extra"], t["loss"], tuple((a, b) for a, b in t["no_loss"]))
        for t in record[which]
    )
    return Conversation(turns, record["tools"], record["template_args"], record["document"])
