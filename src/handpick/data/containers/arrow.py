"""Parquet and Arrow files (IPC files and streams), plain or compressed as a whole."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile

import pyarrow as pa
import pyarrow.parquet as pq

from handpick.data.containers.columns import ROWS_AT_A_TIME, column_records
from handpick.data.containers.record import Records, Say
from handpick.data.lines import Damaged, is_compressed, read_chunks
from handpick.errors import DataError

PARQUET_MAGIC = b"PAR1"
ARROW_FILE_MAGIC = b"ARROW1"
ARROW_STREAM_MAGIC = b"\xff\xff\xff\xff"  # a message goes on, its length follows


def parquet_records(path: Path, say: Say) -> Records:
    """Yield every row, good and bad.

    Raises:
        DataError: the file is damaged.
    """
    with _open(path, "Parquet") as file, pq.ParquetFile(file) as table:
        yield from column_records(table.iter_batches(ROWS_AT_A_TIME), str(path), say)


def arrow_file_records(path: Path, say: Say) -> Records:
    """Yield every row of an Arrow IPC file, which has a table of its batches at its end.

    Raises:
        DataError: the file is damaged.
    """
    with _open(path, "Arrow") as file, pa.ipc.open_file(file) as table:
        batches = (table.get_batch(i) for i in range(table.num_record_batches))
        yield from column_records(batches, str(path), say)


def arrow_stream_records(path: Path, say: Say) -> Records:
    """Yield every row of an Arrow IPC stream, as ``Dataset.save_to_disk`` writes it.

    Raises:
        DataError: the file is damaged.
    """
    with _open(path, "Arrow") as file, pa.ipc.open_stream(file) as table:
        yield from column_records(table, str(path), say)


@contextmanager
def _open(path: Path, kind: str) -> Generator[pa.NativeFile]:
    """Open a file mapped into memory; a compressed one decompressed on disk, since it is read from its end."""
    try:
        if not is_compressed(path):
            with pa.memory_map(str(path)) as file:
                yield file
            return
        with TemporaryFile() as whole:
            for chunk in read_chunks(path):
                whole.write(chunk)
            whole.seek(0)
            yield pa.PythonFile(whole, mode="r")
    except Damaged as error:
        raise DataError(f"{path}: {error}") from error
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read as {kind}: {error}") from error
