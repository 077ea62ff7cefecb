"""Samples and their rewards on disk, so that neither a crash nor another reward draws again.

One JSON line per prompt, in files named by the digest of all they depend on, with a digest of its own; a last line that
a kill cut short is dropped, and so is a damaged one, which is said. Rewards have files of their own.
"""

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any

from handpick.documents import GONE, WRONG_CONTENT
from handpick.errors import StoreError
from handpick.files import open_private
from handpick.locks import lock_file
from handpick.progress import log
from handpick.sampling.generate import Sample
from handpick.sealed import seal, unseal


class KeyedJournal:
    """A JSON Lines file that is only added to, with a key per line; several processes may add to it at once.

    What others add after it was opened is not seen here. Of two entries with a key, the later counts.

    Args:
        path: its folder is made if need be.

    Raises:
        StoreError: it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._found: dict[str, Any] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lines = _whole_lines(path)
        except GONE as error:
            raise StoreError(f"{path} cannot be read ({error}): remove it, and it is made anew") from error
        except OSError as error:
            raise StoreError(f"{path} cannot be opened ({error.strerror}); mend that, or name another place") from error
        n_damaged = 0
        for line in lines:
            try:
                entry = unseal(json.loads(line))
                self._found[entry["key"]] = entry["value"]
            except WRONG_CONTENT:
                n_damaged += 1
        if n_damaged:
            log(f"{path}: {n_damaged} of {len(lines)} lines are damaged: what they held is made anew")

    def __contains__(self, key: str) -> bool:
        return key in self._found

    def __getitem__(self, key: str) -> Any:
        return self._found[key]

    def values(self) -> Iterable[Any]:
        return self._found.values()

    def add(self, entries: Iterable[tuple[str, Any]]) -> None:
        """Write entries behind the others, those of one call together; not those that are there already.

        Raises:
            StoreError: the file system refuses; what was there before stays good.
        """
        new = {key: value for key, value in dict(entries).items() if key not in self or self[key] != value}
        if not new:
            return
        lines = [
            json.dumps(seal({"key": key, "value": value}), ensure_ascii=False) + "\n" for key, value in new.items()
        ]
        try:
            with _locked(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND) as file:
                _append(file, "".join(lines).encode("utf-8", "surrogatepass"))
                os.fsync(file.fileno())
        except OSError as error:
            raise StoreError(
                f"{self.path} cannot be written ({error.strerror}); mend that, or name another place"
            ) from error
        self._found |= new


@contextmanager
def _locked(path: Path, flags: int) -> Iterator[FileIO]:
    """Lock the file while open: no other process reads or writes it through here."""
    with FileIO(open_private(path, flags), "r+" if flags & os.O_RDWR else "r") as file:
        lock_file(file, shared=not flags & os.O_RDWR, wait=True)
        yield file


def _whole_lines(path: Path) -> list[bytes]:
    """Return the lines of a file, none where there is no file; half a line at its end is taken away."""
    try:
        with _locked(path, os.O_RDONLY) as file:
            data = file.readall()
    except FileNotFoundError:
        return []
    if data and not data.endswith(b"\n"):
        with _locked(path, os.O_RDWR) as file:
            _drop_half_line(file)
            file.seek(0)
            data = file.readall()
    return data.splitlines()


def _append(file: FileIO, data: bytes) -> None:
    """Write at the end, or not at all where the file system refuses."""
    end = _drop_half_line(file)
    try:
        while data:
            data = data[file.write(data) :]
    except OSError:
        file.truncate(end)
        raise


def _drop_half_line(file: FileIO) -> int:
    """Take away what a writer that was killed has left behind the last whole line; return the length of the file."""
    end = file.seek(0, os.SEEK_END)
    if end and os.pread(file.fileno(), 1, end - 1) != b"\n":
        file.seek(0)
        end = file.readall().rfind(b"\n") + 1
        file.truncate(end)
    return end


def to_json(samples: Iterable[Sample]) -> list[dict[str, Any]]:
    return [{"ids": sample.ids, "text": sample.text} for sample in samples]


def from_json(values: Iterable[dict[str, Any]]) -> list[Sample]:
    return [Sample(value["ids"], value["text"]) for value in values]
