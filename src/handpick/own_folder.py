"""The folder that a run writes in: no input of the user's lies in its way, and one run at a time is in it."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias

from handpick.errors import SettingsError, StoreError
from handpick.layout import Layout, lock_of
from handpick.locks import lock_file
from handpick.object_store import was_address
from handpick.progress import log_once

Identity: TypeAlias = tuple[int, int] | Path


def check_inputs(layout: Layout, sources: Mapping[str, Any], files: Mapping[str, Any] | None = None) -> None:
    """Refuse a run that would remove or write over what it is to read.

    Args:
        layout: of the folder that it writes in.
        sources: what names its data, by the name that a complaint calls them by: sources, or mappings and lists of
            them. What is no file of this machine is passed over.
        files: what may name a file, alone or as ``vectors:FILE`` and ``FILE:function`` do, in the same way.

    Raises:
        SettingsError: an input has the place of something that the run writes.
        DataError: as ``open_source``.
    """
    from handpick.data.read import files_of_source  # slow to import, and settings are checked without it

    given = [(name, source, files_of_source(source)) for name, value in sources.items() for source in texts_in(value)]
    given += [(name, text, _files_in(text)) for name, value in (files or {}).items() for text in texts_in(value)]
    try:
        written = {_identity(path): path for path in layout.written_files()}
    except OSError as error:  # a name that is too long for the file system
        raise SettingsError(f"out: no folder can be named so: {error.strerror}; give another --out") from error
    for name, source, found in given:
        for file in found:
            if own := next((written[each] for each in _identities(file) if each in written), None):
                raise SettingsError(
                    f"{name} {source}: {file} lies where this run writes its own {own.name}; move it, or give "
                    "another --out"
                )


def check_page(page: Path, sources: Mapping[str, Any]) -> None:
    """Refuse to write one file over what a command is to read.

    Raises:
        SettingsError: the file is one of the sources'.
        DataError: as ``open_source``.
    """
    from handpick.data.read import files_of_source

    if was_address(page):
        raise SettingsError(f"the page {page} would be in a bucket: name a file of this machine with --out")
    for name, value in sources.items():
        for source in texts_in(value):
            if any(_identity(page) == _identity(file) for file in files_of_source(source)):
                raise SettingsError(f"{page} is what {name} names, and would be written over; give another --out")


def texts_in(value: Any) -> Iterator[str]:
    """Yield every text in a setting: itself, or what its lists and mappings hold; paths as texts."""
    if isinstance(value, str | Path):
        yield str(value)
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from texts_in(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from texts_in(each)


def _files_in(text: str) -> list[Path]:
    """Return the files that a setting may mean, by itself or on either side of a colon."""
    parts = {text, text.partition(":")[2], text.rpartition(":")[0]} - {""}
    try:
        return [Path(part) for part in sorted(parts) if Path(part).is_file()]
    except (OSError, ValueError):  # no path at all: too long, or with a zero in it
        return []


def _identities(file: Path) -> Iterator[Identity]:
    """Yield what a file is, and the folders that it is in, by the way it is named and by where it lies."""
    for place in dict.fromkeys((Path(os.path.abspath(file)), file.resolve())):
        yield _identity(place)
        yield from map(_identity, place.parents)


def _identity(path: Path) -> Identity:
    """Return what the file system knows a file or folder by, whatever it is called."""
    try:
        found = path.stat()
    except OSError:
        return path
    return found.st_dev, found.st_ino


@contextmanager
def hold_folder(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder, which is made, for as long as this one writes in it.

    The system lets go of a process's hold when the process ends, however that comes. A folder that was made and stays
    empty is removed again.

    Raises:
        StoreError: another run is in it, or it cannot be made.
    """
    if was_address(folder):
        raise StoreError(f"{folder} was an address in a bucket, and is a path now: give it as text, or name a folder")
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    lock = lock_of(folder)
    held = _take(lock, folder)
    try:
        yield
    finally:
        if held is not None:
            with suppress(OSError):  # a disk that lets nothing be written any more: the run has said so, or is done
                lock.unlink(missing_ok=True)
            os.close(held)
        for each in made:
            try:
                each.rmdir()
            except OSError:  # it has something in it
                break


def _take(lock: Path, folder: Path) -> int | None:
    """Return the hold on a folder; None on a file system that knows none."""
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            held = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:  # its folder was empty, and removed by the run that ends
            continue
        except (FileExistsError, NotADirectoryError) as error:
            raise StoreError(f"cannot write in {folder}: it is no folder; name another one") from error
        except OSError as error:
            raise StoreError(f"cannot write in {folder}: {error.strerror or error}; name another folder") from error
        try:
            lock_file(held)
        except BlockingIOError as error:
            os.close(held)
            raise StoreError(f"another run is writing in {folder}; wait for its end, or give another --out") from error
        except OSError:
            os.close(held)
            log_once(f"this file system does not keep a second run out of {folder}: let one run use a folder")
            return None
        if _is_at(held, lock):
            return held
        os.close(held)  # of a run that ended meanwhile, and removed it


def _is_at(held: int, lock: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(held), os.stat(lock))
    except FileNotFoundError:
        return False
