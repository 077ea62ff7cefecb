"""Where a run writes: a folder of this machine, or an address in a bucket, for which such a folder stands."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from handpick.errors import SettingsError, StoreError
from handpick.fingerprint import digest
from handpick.layout import ObjectsLayout, user_cache
from handpick.mirror import mirror_folder, take_folder
from handpick.object_store import check_address, is_address
from handpick.own_folder import hold_folder


def folder_of(place: str | Path) -> Path:
    """Return where a run works: the folder that is named, or the one of this machine that is kept in the bucket.

    Raises:
        SettingsError: a key may stand in the address.
    """
    if not is_address(place):
        return Path(place)
    address = str(place).rstrip("/")
    check_address(address, SettingsError)
    return ObjectsLayout(user_cache()).run(digest(address), address.rpartition("/")[2])


def name_of(place: str | Path, path: Path) -> str:
    """Return what a file or folder of a run is called: in a bucket, by its address."""
    if not is_address(place):
        return str(path)
    below = path.relative_to(folder_of(place)).as_posix()
    return str(place).rstrip("/") + ("" if below == "." else f"/{below}")


@contextmanager
def hold_place(place: str | Path) -> Iterator[None]:
    """Keep other runs out of a run's folder, and the folder in its bucket where it has one.

    Raises:
        StoreError: as ``hold_folder`` and ``mirror_folder``.
    """
    folder = folder_of(place)
    with hold_folder(folder):
        if not is_address(place):
            yield
            return
        with mirror_folder(str(place), folder):
            yield


def fetch_place(place: str | Path, *, needed: bool = True) -> Path:
    """Return the folder of a run that is only read, or not yet held; out of a bucket it is brought here first.

    Args:
        place: a folder of this machine, or an address.
        needed: whether it is an error that the bucket has none.

    Raises:
        StoreError: there is no run at the address, the bucket cannot be read, or a run writes in the folder now.
    """
    folder = folder_of(place)
    if is_address(place):
        with hold_folder(folder):
            if not take_folder(str(place), folder) and needed:
                raise StoreError(f"there is no run at {place}: give the address that one was told to write to by --out")
    return folder
