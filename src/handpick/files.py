"""Files that are there whole or not at all."""

import glob
import os
import secrets
import stat
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from handpick.errors import StoreError, first_line
from handpick.listing import all_below, matching
from handpick.locks import lock_file

_PIECE = 1 << 20  # bytes that are compared at a time
_SEALED = b"crc32"
_OWNER_ALONE = 0o600


def open_private(path: Path, flags: int) -> int:
    """Open a file that its owner alone can read, and return its descriptor; one of before is made so where it can be.

    Raises:
        OSError: the file system refuses.
    """
    descriptor = os.open(path, flags | os.O_CLOEXEC, _OWNER_ALONE)
    with suppress(PermissionError):  # it is somebody else's
        if stat.S_IMODE(os.fstat(descriptor).st_mode) & ~_OWNER_ALONE:
            os.fchmod(descriptor, _OWNER_ALONE)
    return descriptor


@contextmanager
def open_atomically(path: Path, *, private: bool = False) -> Iterator[BinaryIO]:
    """Open a file that becomes ``path`` where the block ends well, and is gone where it does not.

    It is written under a temporary name in the same folder, synced, and renamed into place. Temporary files of this
    same file, left by writers that were killed, are removed once it stands. Another writer may be at the very same
    file (a task given out twice); both succeed if both write the same.

    While it is open it is locked, so that ``remove_left_overs`` can tell it from what a dead process has left.

    Args:
        path: of the file.
        private: whether its owner alone can read it, from its first byte on: what a model or a judge was asked or said.

    Raises:
        OSError: the file system refuses (disk full, no permission).
        StoreError: another process wrote something else there at the same time.
    """
    temporary, file = _open_partial(path, private)
    try:
        with file:
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
        _sync_names(path.parent)
        with suppress(OSError):  # a folder that cannot be listed, or is not ours to clear
            for left_over in matching(path.parent, f".{glob.escape(path.name)}.*.partial"):
                left_over.unlink(missing_ok=True)
    finally:
        with suppress(OSError):  # which would stand for what really went wrong; the next run removes it
            temporary.unlink(missing_ok=True)


def _open_partial(path: Path, private: bool) -> tuple[Path, BinaryIO]:
    """Open a locked temporary file beside ``path``, under a name that nobody else has."""
    while True:
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.partial")
        mode = _OWNER_ALONE if private else 0o666  # less what the umask takes
        file = open(temporary, "x+b", opener=lambda name, flags: os.open(name, flags, mode))  # noqa: B023, SIM115
        _lock(file)
        if temporary.exists():  # else it was taken for a left-over before it was locked
            return temporary, file
        file.close()


def _lock(file: BinaryIO) -> bool:
    """Lock a file for as long as it is open; False where another process has it, or the file system has no locks."""
    try:
        lock_file(file)
    except OSError:
        return False
    return True


def remove_left_overs(folder: Path) -> None:
    """Remove temporary files in a folder whose writers are dead: those that can be locked.

    Raises:
        OSError: the folder cannot be listed.
    """
    for path in matching(folder, ".*.partial"):
        with suppress(OSError), path.open("r+b") as file:  # gone meanwhile, or not ours to write
            if _lock(file):
                path.unlink(missing_ok=True)


def place_folder(part: Path, folder: Path) -> None:
    """Rename a folder that is written into place, when every file in it is on the disk.

    Raises:
        OSError: the file system refuses.
    """
    sync_folder(part)
    os.replace(part, folder)
    _sync_names(folder.parent)


def sync_folder(folder: Path) -> None:
    """Bring a folder and every file in it to the disk.

    Raises:
        OSError: the file system refuses.
    """
    for path in reversed(all_below(folder)):  # what is in a folder before the folder
        _sync_names(path) if path.is_dir() else _sync_file(path)
    _sync_names(folder)


def move_file(source: Path, target: Path) -> None:
    """Rename a file that another library has written into its place in another folder, when it is on the disk.

    Raises:
        OSError: the file system refuses.
    """
    _sync_file(source)
    os.replace(source, target)
    _sync_names(target.parent)


def crc32_of(path: Path) -> int:
    """Return the CRC-32 of a file's bytes, read in pieces.

    Raises:
        OSError: it cannot be read.
    """
    crc32 = 0
    with path.open("rb", buffering=0) as file:
        buffer = memoryview(bytearray(_PIECE))
        while n := file.readinto(buffer):
            crc32 = zlib.crc32(buffer[:n], crc32)
    return crc32


def _same_content(file: BinaryIO, path: Path) -> bool:
    """Return whether an open file, which may have lost its name, holds what stands at ``path``."""
    file.seek(0)
    with path.open("rb") as other:
        while (piece := file.read(_PIECE)) == other.read(_PIECE):
            if not piece:
                return True
    return False


def atomic_write(path: Path, data: bytes, *, private: bool = False) -> None:
    """Write a file as ``open_atomically`` does.

    Raises:
        StoreError: the file system refuses, or another process wrote something else there at the same time.
    """
    try:
        with open_atomically(path, private=private) as file:
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
    """Write an array as ``numpy.load`` reads it without pickle, as ``atomic_write`` does.

    Behind it, where NumPy does not look, stands the CRC-32 of its bytes, for ``read_array``.
    """
    data = BytesIO()
    np.save(data, array, allow_pickle=False)
    content = data.getvalue()
    atomic_write(path, content + _seal(content))


def read_array(path: Path) -> NDArray[Any]:
    """Read what ``write_array`` wrote; one of before, without a checksum, as it is.

    Raises:
        OSError: it cannot be read.
        ValueError: it is damaged.
    """
    data = path.read_bytes()
    content, mark, crc32 = data[:-9], data[-9:-4], data[-4:]
    if mark == _SEALED and crc32 != _seal(content)[-4:]:
        raise ValueError("its checksum has changed")
    file = BytesIO(data)
    try:
        array: NDArray[Any] = np.load(file, allow_pickle=False)
    except Exception as error:  # NumPy reads the header as Python, and raises whatever that raises
        raise ValueError(f"it is no array: {first_line(error)}") from error
    if data[file.tell() :] and mark != _SEALED:
        raise ValueError("there is something else behind the array")
    return array


def _seal(content: bytes) -> bytes:
    return _SEALED + zlib.crc32(content).to_bytes(4, "little")


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
        _sync_names(target.parent)
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


def _sync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _sync_names(folder: Path) -> None:
    """Make renames in a folder outlast a power cut, in the order they were made."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
