"""Files that are there whole or not at all."""

import os
import secrets
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handpick.errors import StoreError


def write_whole(path: Path, data: bytes) -> None:
    """Write a file under a temporary name in the same folder, sync it, and rename it into place.

    Temporary files of this same file, left by writers that were killed, are removed once it stands. Another
    writer may be at the very same file (a task given out twice); both succeed if both write the same.

    Raises:
        StoreError: the file system refuses (disk full, no permission), or another process wrote something
            else there at the same time; this writer's temporary file is gone.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.partial")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.replace(temporary, path)
        except FileNotFoundError as error:  # the other writer was first, and took our file for a left-over
            if path.read_bytes() != data:
                raise StoreError(f"{path} was written by another run meanwhile; let one run use a folder") from error
        _sync_folder(path.parent)
        for left_over in path.parent.glob(f".{path.name}.*.partial"):
            left_over.unlink(missing_ok=True)
    except OSError as error:
        raise _refused(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_array(path: Path, array: NDArray[Any]) -> None:
    """Write an array as ``numpy.load`` reads it without pickle, as ``write_whole`` does."""
    data = BytesIO()
    np.save(data, array, allow_pickle=False)
    write_whole(path, data.getvalue())


def remove(path: Path) -> None:
    """Remove a file that may be there.

    Raises:
        StoreError: the file system refuses.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise _refused(path, error) from error


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
        copy_whole(source, target)


def copy_whole(source: Path, target: Path) -> None:
    """Write a file with the bytes of another, as ``write_whole`` does.

    Raises:
        StoreError: the source cannot be read, or as ``write_whole``.
    """
    try:
        data = source.read_bytes()
    except OSError as error:
        raise StoreError(f"cannot read {source}: {error.strerror}; run verify on its store") from error
    write_whole(target, data)


def _refused(path: Path, error: OSError) -> StoreError:
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
