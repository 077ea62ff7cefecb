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

from handpick.errors import DataError
from handpick.fingerprint import Fingerprint, file_digest


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

    def fingerprint(self) -> Fingerprint:
        """Return what the file holds, wherever it lies.

        Raises:
            DataError: it cannot be read.
        """
        digests = [file_digest(path) for path in self._files()]
        return {"file": digests[0], **({"ids": digests[1]} if len(digests) > 1 else {})}

    def _files(self) -> list[Path]:
        files = [self.path, *([self.path.with_suffix(".ids")] if self.path.suffix == ".npy" else [])]
        for path in files:
            if not path.is_file():
                raise DataError(
                    f"there is no file {path}; give Parquet with the columns `id` and `{self.column}`, or NAME.npy "
                    "with its ids, one a line, in NAME.ids"
                )
        return files

    @cached_property
    def values(self) -> NDArray[np.floating]:
        """The numbers, (R,) or (R, D), all finite.

        Raises:
            DataError: the file holds none of that shape.
        """
        values = self._from_npy() if self.path.suffix == ".npy" else self._from_parquet()
        if values.ndim != self.dims or not np.issubdtype(values.dtype, np.floating):
            wanted = "a number a record" if self.dims == 1 else "a vector a record, all of one length"
            raise DataError(f"{self.path} holds {values.dtype} of shape {values.shape}: expected {wanted}, as floats")
        if len(values) != len(self.ids):
            raise DataError(f"{self.path} has {len(values):,} rows and {len(self.ids):,} ids; write both anew")
        for start in range(0, len(values), 4096):
            broken = np.flatnonzero(~np.isfinite(values[start : start + 4096]).reshape(-1, *values.shape[1:]))
            if broken.size:
                row = start + int(broken[0]) // max(1, int(np.prod(values.shape[1:])))
                raise DataError(f"{self.path}: the row of {self.ids[row]!r} is not finite; mend it, or leave it out")
        return values

    @cached_property
    def ids(self) -> list[str]:
        """The id of every row.

        Raises:
            DataError: the file has none, or one stands twice.
        """
        if self.path.suffix == ".npy":
            ids = self._files()[1].read_text(encoding="utf-8").splitlines()
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
        return np.asarray(self.values[rows], dtype=np.float32)

    def _from_npy(self) -> NDArray[np.floating]:
        path = self._files()[0]
        try:
            loaded: NDArray[np.floating] = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"{path} cannot be read as NumPy writes arrays: {error}") from error
        return loaded

    def _from_parquet(self) -> NDArray[np.floating]:
        column = self._parquet(self.column)
        if self.dims == 1:
            return np.asarray(column.to_numpy(zero_copy_only=False))
        lengths = {len(each) for each in column}
        if len(lengths) > 1:
            raise DataError(
                f"{self.path}: the vectors have {min(lengths)} to {max(lengths)} numbers: expected one length"
            )
        flat = np.asarray(column.flatten().to_numpy(zero_copy_only=False))
        return flat.reshape(len(column), -1)

    def _parquet(self, name: str):  # type: ignore[no-untyped-def]  # pyarrow carries no types
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = self._files()[0]
        try:
            found = pq.read_table(path, columns=[name])
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{path} cannot be read as Parquet: {error}") from error
        if name not in found.column_names:
            raise DataError(f"{path} has no column {name!r}; give Parquet with the columns `id` and `{self.column}`")
        column = found.column(name).combine_chunks()
        if column.null_count:
            raise DataError(f"{path}: {column.null_count:,} rows have no {name}; fill them in, or leave them out")
        return column
