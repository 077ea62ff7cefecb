"""Files of records that are objects in a bucket: listed once, fetched whole, and read as any file is.

A fetched object lies in the user's cache (``layout.user_cache``), by its address and what the store says of its
version; one that is written again is another one, and is fetched anew. Each is put into its place whole, so two runs
may fetch the same at once.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from glob import has_magic
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from handpick.data.containers import DATA_SUFFIXES
from handpick.data.containers.record import Say
from handpick.data.dataset_card import CARD
from handpick.data.folder import files_of_folder, is_metadata
from handpick.errors import DataError
from handpick.files import link_or_copy, open_atomically
from handpick.fingerprint import digest
from handpick.layout import ObjectsLayout, user_cache
from handpick.object_store import ObjectStore, StoredObject
from handpick.progress import log, progress


class FetchedFile(NamedTuple):
    """A file of this machine with the bytes of an object, and the address that people know it by."""

    path: Path
    address: str
    choice: str | None = None


def fetch_files(source: str, say: Say) -> list[FetchedFile]:
    """Return the data files that an address names, fetched where they are not here yet.

    Args:
        source: the address of an object, of a pattern, or of what a folder would be: all below it with a suffix of
            data is fetched, and read as ``files_of_folder`` reads a folder. ``:split`` or ``:field`` may stand behind.
        say: as of ``files_of_folder``.

    Raises:
        DataError: nothing is there, it cannot be fetched or kept, or as ``files_of_folder``.
    """
    store = ObjectStore(source, DataError)
    found, address, choice = store.find(source), source, None
    head, colon, tail = source.rpartition(":")
    if not found and colon and not tail.startswith("//") and not has_magic(source):
        found, address, choice = store.find(head), head, tail
    is_pattern = has_magic(address)
    if not found:
        what = "no object is of the pattern" if is_pattern else "there is nothing at"
        raise DataError(f"{what} {source}; a listing may be late where something was written just now")
    if not is_pattern and [each.address for each in found] != [address]:
        return _fetch_folder(store, found, address, choice, say)
    fetched = zip(_fetch_all(store, found, address), found, strict=True)
    return [FetchedFile(path, each.address, choice) for path, each in fetched if not (is_pattern and is_metadata(path))]


def _fetch_folder(
    store: ObjectStore, found: Sequence[StoredObject], address: str, choice: str | None, say: Say
) -> list[FetchedFile]:
    """Return the data files of a prefix: of a folder of links to the objects, named by all that is in it."""
    prefix = f"{address.rstrip('/')}/"
    names = {each.address[len(prefix) :]: each for each in found if each.address.startswith(prefix)}
    wanted = {name: each for name, each in names.items() if _is_of_data(PurePosixPath(name))}
    if not wanted:
        raise DataError(f"there is no data file below {address} ({', '.join(DATA_SUFFIXES)})")
    paths = _fetch_all(store, list(wanted.values()), address)
    folder = _place(address, [[name, *each] for name, each in sorted(wanted.items())])
    with _keeping(address):
        for name, path in zip(wanted, paths, strict=True):
            if not (wanted[name].version and (folder / name).exists()):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                link_or_copy(path, folder / name)
    with named_by_address(folder, address.rstrip("/")):
        files = files_of_folder(folder, choice, say)
    return [FetchedFile(file, prefix + file.relative_to(folder).as_posix()) for file in files]


def _is_of_data(name: PurePosixPath) -> bool:
    hidden = any(part.startswith(".") for part in name.parts)
    return not hidden and (name.name.endswith(DATA_SUFFIXES) or name.name == CARD)


def _fetch_all(store: ObjectStore, found: Sequence[StoredObject], address: str) -> list[Path]:
    """Return the file of each object; those that are not here are fetched, with the bytes that are left."""
    places = [_place(each.address, list(each)) for each in found]
    missing = [(each, path) for each, path in zip(found, places, strict=True) if not (each.version and path.exists())]
    if not missing:
        return places
    size = sum(each.size for each, _ in missing)
    objects = "1 object" if len(missing) == 1 else f"{len(missing):,} objects"
    log(f"fetching {objects}, {size / 1e6:,.1f} MB: {address}")
    with progress("fetch, bytes", size) as advance:
        for each, path in missing:
            with _keeping(each.address):
                path.parent.mkdir(parents=True, exist_ok=True)
                with open_atomically(path) as file:
                    store.fetch(each, Path(file.name), advance)
    return places


def _place(address: str, version: object) -> Path:
    """Return where something is kept, under the last part of its name, which decides how a file is read."""
    name = PurePosixPath(address.rstrip("/")).name
    return ObjectsLayout(user_cache()).fetched(digest([address, version])[:16], name)


@contextmanager
def _keeping(address: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f"cannot keep {address} in {user_cache()}: {error.strerror}; free space there, or let HANDPICK_CACHE name "
            "another folder"
        ) from error


@contextmanager
def named_by_address(path: Path, address: str) -> Iterator[None]:
    """Let complaints of what is read here name the address, and not the place in the cache.

    Raises:
        DataError: what was raised inside.
    """
    try:
        yield
    except DataError as error:
        raise DataError(str(error).replace(str(path), address)) from error
