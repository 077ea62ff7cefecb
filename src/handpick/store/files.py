"""Files that are there whole or not at all."""

import glob
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from handpick.errors import StoreError

_PIECE = 1 << 20  # bytes that are compared at a time


@contextmanager
def open_atomically(path: Path) -> Iterator[BinaryIO]:
    """Open a file that becomes ``path`` where the block ends well, and is gone where it does not.

    It is written under a temporary name in the same folder, synced, and renamed into place. Temporary files of this
    same file, left by writers that were killed, are removed once it stands. Another writer may be at the very same
    file (a task given out twice); both succeed if both write the same.

    Raises:
        OSError: the file system refuses (disk full, no permission).
        StoreError: another process wrote something else there at the same time.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.partial")
    try:
        with temporary.open("x+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            try:
                os.replace(temporary, path)
            except FileNotFoundError as error:  # the other writer was first, and took our file for a left-over
                if not _same_content(file, path):
                    raise StoreError(
                        f"{path} was written by another run meanwhile; let one run use a folder"
                    ) from error
        _sync_folder(path.parent)
        for left_over in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):
            left_over.unlink(missing_ok=True)
    finally:
        temporary.unlink(missing_ok=True)


def _same_content(file: BinaryIO, path: Path) -> bool:
    """Return whether an open file, which may have lost its name, holds what stands at ``path``."""
    file.seek(0)
    with path.open("rb") as other:
        while (piece := file.read(_PIECE)) == other.read(_PIECE):
            if not piece:
                return True
    return False


def atomic_write(path: Path, data: bytes) -> None:
    """Write a file as ``open_atomically`` does.

    Raises:
        StoreError: the file system refuses, or another process wrote something else there at the same time.
    """
    try:
        with open_atomically(path) as file:
            file.write(data)
    except OSError as error:
        raise _disk_error(path, error) from error


def write_parts(path: Path, parts: Iterable[bytes]) -> None:
    """Write a file as ``open_atomically`` does, from parts of which one is held at a time; its folder is made.

    Raises:
        StoreError: as ``atomic_write``.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open_atomically(path) as file:
            file.writelines(parts)
    except OSError as error:
        raise StoreError(f"{path} cannot be written ({error}); free space there or name another place") from error


def write_array(path: Path, array: NDArray[Any]) -> None:
    """Write an array as ``numpy.load`` reads it without pickle, as ``atomic_write`` does."""
    data = BytesIO()
    np.save(data, array, allow_pickle=False)
    atomic_write(path, data.getvalue())


def remove(path: Path) -> None:
    """Remove a file that may be there.

    Raises:
        StoreError: the file system refuses.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise _disk_error(path, error) from error


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second place: a hard link where the file system can, else a copy.

    Raises:
        StoreError: neither can be done.
    """
    remove(target)
    try:
        os.link(source, target)
        _sync_folder(target.parent)
    except OSError:  # another file system, or one without hard links
        atomic_copy(source, target)


def atomic_copy(source: Path, target: Path) -> None:
    """Write a file with the bytes of another, as ``atomic_write`` does.

    Raises:
        StoreError: the source cannot be read, or as ``atomic_write``.
    """
    try:
        data = source.read_bytes()
    except OSError as error:
        raise StoreError(f"cannot read {source}: {error.strerror}; run verify on its store") from error
    atomic_write(target, data)


def _disk_error(path: Path, error: OSError) -> StoreError:
    return StoreError(
        f"cannot write {path}: {error.strerror}; all that was written before it stays good, "
        "so mend the cause and run the same again"
    )


def _sync_folder(folder: Path) -> None:
    """Make renames in a folder outlast a power cut, in the order they were made."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
