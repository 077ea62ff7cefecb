"""Numbers that were computed elsewhere, by the ids of records: Parquet with a column ``id``, or ``NAME.npy`` with its
ids, one a line, in ``NAME.ids``.

Shapes: R rows, D features.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from handpick.documents import WRONG_CONTENT
from handpick.errors import DataError
from handpick.fingerprint import Fingerprint, file_digest

_CHECKED_TOGETHER = 4096  # rows


@dataclass(frozen=True)
class IdTable:
    """A file of numbers by id.

    Args:
        path: of the file.
        column: of Parquet, what holds the numbers.
        dims: 1 for a number a record, 2 for a vector.
    """

    path: Path
    column: str
    dims: int

    @classmethod
    def of(cls, representation: str, column: str, dims: int) -> "IdTable":
        """Return the file behind the colon of a representation, such as ``vectors:FILE``."""
        return cls(Path(representation.partition(":")[2]).expanduser(), column, dims)

    @cached_property
    def fingerprint(self) -> Fingerprint:
        """What the file holds, wherever it lies.

        Raises:
            DataError: it cannot be read.
        """
        digests = [file_digest(path) for path in self._files()]
        return {"file": digests[0], **({"ids": digests[1]} if len(digests) > 1 else {})}

    @property
    def _names(self) -> list[Path]:
        return [self.path, *([self.path.with_suffix(".ids")] if self.path.suffix == ".npy" else [])]

    @property
    def is_there(self) -> bool:
        """Whether the file is there, and its ids with it."""
        return all(path.is_file() for path in self._names)

    def _files(self) -> list[Path]:
        files = self._names
        for path in files:
            if not path.is_file():
                raise DataError(
                    f"there is no file {path}; give Parquet with the columns `id` and `{self.column}`, or NAME.npy "
                    "with its ids, one a line, in NAME.ids"
                )
        return files

    @cached_property
    def values(self) -> NDArray[np.floating]:
        """The numbers, (R,) or (R, D).

        Raises:
            DataError: the file holds none of that shape.
        """
        values = self._from_npy() if self.path.suffix == ".npy" else self._from_parquet()
        if values.ndim != self.dims or not values.size or not np.issubdtype(values.dtype, np.floating):
            wanted = "a number a record" if self.dims == 1 else "a vector a record, all of one length"
            raise DataError(f"{self.path} holds {values.dtype} of shape {values.shape}: expected {wanted}, as floats")
        if len(values) != len(self.ids):
            raise DataError(f"{self.path} has {len(values):,} rows and {len(self.ids):,} ids; write both anew")
        return values

    @cached_property
    def finite_R(self) -> NDArray[np.bool_]:
        """Which rows are finite in float32."""
        finite_R = np.empty(len(self.values), dtype=np.bool_)
        for start in range(0, len(finite_R), _CHECKED_TOGETHER):
            some = _as_float32(self.values[start : start + _CHECKED_TOGETHER])
            finite_R[start : start + len(some)] = np.isfinite(some).reshape(len(some), -1).all(axis=1)
        return finite_R

    def check(self) -> None:
        """Find out whether there is anything to read.

        Raises:
            DataError: the file cannot be read, holds none of that shape, or no row of it is finite.
        """
        if not self.finite_R.any():
            raise DataError(f"{self.path}: none of {len(self.finite_R):,} rows is finite in float32; write them anew")

    @cached_property
    def ids(self) -> list[str]:
        """The id of every row.

        Raises:
            DataError: the file has none, or one stands twice.
        """
        if self.path.suffix == ".npy":
            ids = _read_lines(self._files()[1])
        else:
            ids = [str(each) for each in self._parquet("id").to_pylist()]
        if len(set(ids)) < len(ids):
            twice = Counter(ids).most_common(1)[0][0]
            raise DataError(f"{self.path} has the id {twice!r} twice; once is enough")
        return ids

    @cached_property
    def row_of(self) -> dict[str, int]:
        """The row of every id."""
        return {example_id: row for row, example_id in enumerate(self.ids)}

    def take(self, ids: Iterable[str]) -> NDArray[np.float32]:
        """Return the numbers of some ids that are there, float32."""
        rows = np.array([self.row_of[each] for each in ids], dtype=np.int64)
        return _as_float32(self.values[rows])

    def _from_npy(self) -> NDArray[np.floating]:
        path = self._files()[0]
        try:
            loaded: NDArray[np.floating] = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, MemoryError, *WRONG_CONTENT) as error:  # of a header that asks for more than there is
            raise DataError(f"{path} cannot be read as NumPy writes arrays: {error}") from error
        return loaded

    def _from_parquet(self) -> NDArray[np.floating]:
        column = self._parquet(self.column)
        if self.dims == 1:
            return np.asarray(column.to_numpy(zero_copy_only=False))
        import pyarrow as pa
        import pyarrow.compute as pc

        if not isinstance(column, pa.ListArray | pa.LargeListArray | pa.FixedSizeListArray):
            raise DataError(f"{self.path}: the column {self.column!r} holds {column.type}: expected a vector a record")
        lengths = set(pc.list_value_length(column).unique().to_pylist())
        if len(lengths) > 1:
            raise DataError(
                f"{self.path}: the vectors have {min(lengths)} to {max(lengths)} numbers: expected one length"
            )
        flat = np.asarray(column.flatten().to_numpy(zero_copy_only=False))
        return flat.reshape(len(column), lengths.pop() if lengths else 0)

    def _parquet(self, name: str):  # type: ignore[no-untyped-def]  # pyarrow carries no types
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = self._files()[0]
        try:
            with pq.ParquetFile(path, memory_map=True) as file:
                is_there = name in file.schema_arrow.names
                column = file.read(columns=[name]).column(name).combine_chunks() if is_there else None
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{path} cannot be read as Parquet: {' '.join(str(error).split())}") from error
        if column is None:
            raise DataError(f"{path} has no column {name!r}; give Parquet with the columns `id` and `{self.column}`")
        if column.null_count:
            raise DataError(f"{path}: {column.null_count:,} rows have no {name}; fill them in, or leave them out")
        return column


def _as_float32(values: NDArray[np.floating]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # what float32 cannot hold is found by not being finite
        return np.asarray(values, dtype=np.float32)


def _read_lines(path: Path) -> list[str]:
    """Return the lines of a text; only a line feed ends one, as an id may hold anything else."""
    try:
        return path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no UTF-8 text: {error}") from error
