"""Whether a worker fits this process: it has the same versions of packages, and sees the same folders."""

import os
import platform
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from handpick.errors import SettingsError, StoreError
from handpick.executors.devices import DeviceReport, report_device
from handpick.executors.versions import describe_differences, package_versions
from handpick.layout import token_of
from handpick.locks import lock_file


@dataclass(frozen=True, slots=True)
class Token:
    """A file in the folder that is written in, and what stands in it: who reads it sees the driver's folder."""

    path: Path
    text: str

    def is_seen(self) -> bool:
        """Return whether this process sees the file."""
        try:
            return self.path.read_text() == self.text
        except OSError:
            return False

    def check(self) -> None:
        """Refuse to work where the file is not seen.

        Raises:
            StoreError: it is not.
        """
        if not self.is_seen():
            raise StoreError(
                f"the folder {self.path.parent} of this run is not there on {platform.node()}, or another one is: give "
                "--out on a disk that all machines share, under the same name"
            )


@contextmanager
def lay_token(folder: Path) -> Iterator[Token]:
    """Lay a file into a folder for as long as this is open, by which workers can tell that they see the same folder.

    Raises:
        StoreError: nothing can be written there.
    """
    token = Token(token_of(folder.absolute(), secrets.token_hex(8)), secrets.token_hex(16))
    try:
        file = token.path.open("x", encoding="utf-8")
    except OSError as error:
        raise StoreError(f"cannot write in {folder}: {error.strerror or error}; name another folder") from error
    with file:
        try:
            with suppress(OSError):  # no locks there: a run beside this one may sweep it, which is then said
                lock_file(file)
            file.write(token.text)
            file.flush()
            yield token
        finally:
            with suppress(OSError):
                token.path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Greeting:
    """What a worker is, before it is given work."""

    host: str
    process: int
    versions: Mapping[str, str]
    device: DeviceReport
    missing_folder: str | None  #: the driver's working folder, where it is not there


def enter_folder(folder: str) -> str | None:
    """Make the driver's working folder this process's, since relative paths go from it; return it if it is not here."""
    try:
        os.chdir(folder)
    except OSError:
        return folder
    return None


def greet(missing_folder: str | None) -> Greeting:
    """Say what this process is.

    Args:
        missing_folder: of ``enter_folder``.
    """
    return Greeting(platform.node(), os.getpid(), package_versions(), report_device(), missing_folder)


def check_greeting(greeting: Greeting, wanted: Mapping[str, str]) -> None:
    """Refuse a worker that would compute something else.

    Args:
        greeting: of the worker.
        wanted: the versions that the driver has.

    Raises:
        SettingsError: it has other versions, or does not see the working folder.
    """
    if different := describe_differences(wanted, greeting.versions):
        raise SettingsError(f"the worker on {greeting.host} has {different}: install the same versions on all machines")
    if greeting.missing_folder is not None:
        raise SettingsError(
            f"the working folder {greeting.missing_folder} is not there on {greeting.host}: start the command in a "
            "folder that all machines share, under the same name"
        )
