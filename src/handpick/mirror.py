"""The folder of a run whose own place is in a bucket: worked on here, and kept there as it grows.

A run writes in a folder of this machine as any other does. Meanwhile, and when it ends, what has changed there is put
into the bucket as whole objects. Nothing is renamed or listed there: one object, ``objects.json``, says which objects
there are and the SHA-256 of each. It is written before them, and again when all are there. Until then a new object has
in it, before its digest, the word that it may not be there, and one that is replaced has both its digests. New objects
are put first, those that replace others last, each kind in the order in which the files were finished. Whoever takes
over takes the new ones all or not at all; so what is taken over is a folder as this one was at a moment, of which some
files may be as they were a moment earlier: what a run finds that was killed.

There is no lock on a bucket. Every run writes a word of its own into ``objects.json``: a second one is noticed by the
first before it puts anything more, and not before. The folder here remembers its word too. Where it is the bucket's,
what is here goes on; where it is another, somebody has gone on elsewhere, and what is there takes its place.
"""

import json
import os
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from handpick.errors import DataError, HandpickError, StoreError
from handpick.files import atomic_write, open_atomically
from handpick.fingerprint import file_digest
from handpick.layout import MirrorLayout, is_unfinished
from handpick.object_store import ObjectStore
from handpick.progress import log, progress
from handpick.sealed import seal, unseal

SECONDS = 10.0  # between two looks at the folder

_TRIES = 3  # to find the folder at rest when the run is over
_NOTHING = ""  # before the digest of a new object: it may not be there yet

Index = dict[str, list[str]]  # the digests that an object may have, the last the newest, by its name


class _Seen(NamedTuple):
    """What tells a file that was written again from one that was not."""

    ctime_ns: int
    size: int
    inode: int


@contextmanager
def mirror_folder(address: str, folder: Path) -> Iterator[None]:
    """Bring what a bucket has of a run into its folder, and keep in the bucket what is written there while open.

    Args:
        address: of the run in the bucket.
        folder: of this machine, which nobody else writes in meanwhile.

    Raises:
        StoreError: the bucket cannot be read at first or written at last, or another run has written there meanwhile.
    """
    mirror = _Mirror(ObjectStore(address, StoreError), address.rstrip("/"), folder)
    try:
        mirror.fetch()
    except OSError as error:
        raise _unwritable(address, folder, error) from error
    stop = threading.Event()
    watcher = threading.Thread(target=mirror.watch, args=(stop,), name="mirror", daemon=True)
    watcher.start()
    failed: BaseException | None = None
    try:
        yield
    except BaseException as error:
        failed = error
        raise
    finally:
        stop.set()
        watcher.join()
        if failed is None:
            mirror.finish()
        elif isinstance(failed, Exception):  # what is done is put; what really went wrong is what is told
            with suppress(HandpickError):
                mirror.finish()


def take_folder(address: str, folder: Path) -> bool:
    """Bring what a bucket has of a run into its folder, to be read; nothing is written there.

    Args:
        address, folder: as for ``mirror_folder``.

    Returns:
        Whether there is such a run.

    Raises:
        StoreError: the bucket cannot be read, or the folder not be written.
    """
    try:
        return _Mirror(ObjectStore(address, StoreError), address.rstrip("/"), folder).take()
    except OSError as error:
        raise _unwritable(address, folder, error) from error


def _unwritable(address: str, folder: Path, error: OSError) -> StoreError:
    return StoreError(
        f"cannot write {folder}, where the run of {address} is worked on: {error.strerror}; free space there, or let "
        "HANDPICK_CACHE name another folder"
    )


@dataclass
class _Mirror:
    store: ObjectStore
    address: str
    folder: Path
    index: Index = field(default_factory=dict)
    seen: dict[str, _Seen] = field(default_factory=dict)  # files whose bytes are in the bucket
    gone: set[str] = field(default_factory=set)  # objects that no file is there of any more
    word: str = ""
    told: str = ""  # the last trouble that was told

    def fetch(self) -> None:
        """Make the folder what the bucket has, where another machine has gone on since, and say that this one does."""
        before = self._take() or ""
        if before:
            self._compare()
        self.word = secrets.token_hex(8)
        self._keep_words(before, self.word)  # the process may end on either side of what comes next
        self._write_index(self.index)
        self._keep_words(self.word)

    def take(self) -> bool:
        """Make the folder what the bucket has, where another machine has gone on since; False where it has nothing."""
        word = self._take()
        if word and word not in self._words_here():
            self._keep_words(word)
        return word is not None

    def _take(self) -> str | None:
        """Do so, and return the word of who wrote there last; None where nobody did."""
        there = self._read_index()
        self.folder.mkdir(parents=True, exist_ok=True)
        if there is None:
            return None
        word, self.index = there
        if word not in self._words_here():
            self._take_over()
        return word

    def watch(self, stop: threading.Event) -> None:
        """Put what is finished, again and again, until told to stop; what fails is tried again."""
        while not stop.wait(SECONDS):
            try:
                self.put_changes()
            except (HandpickError, OSError) as error:
                if str(error) != self.told:
                    self.told = str(error)
                    log(f"{error}; the run goes on, and what it writes stays in {self.folder} meanwhile")

    def finish(self) -> None:
        """Put all that is not in the bucket yet.

        Raises:
            StoreError: it cannot be put.
        """
        try:
            if not any(self.put_changes(shows=True) for _ in range(_TRIES)):
                raise StoreError(f"somebody writes in {self.folder}, so not all of it is in {self.address}")
        except (_OtherRun, _FolderGone):
            raise
        except (HandpickError, OSError) as error:
            raise StoreError(
                f"{error}; nothing that was computed is lost: it is in {self.folder}, and the same command goes on "
                "from there"
            ) from error

    def put_changes(self, *, shows: bool = False) -> bool:
        """Put what has changed into the bucket, and remove there what is gone here.

        Args:
            shows: whether a bar is shown.

        Returns:
            Whether all is there; not where a file was written meanwhile.

        Raises:
            StoreError: the bucket cannot be written, or another run writes there.
        """
        files = self._list_files()
        if files != self._list_files():  # else all were there at one moment, between the two
            return False
        changed = self._find_changes(files)
        self.gone |= {name for name in self.index if name not in files}
        self.gone -= changed.keys()
        if not changed and not self.gone:
            return True
        self._check_alone()
        self.index = {name: digests for name, digests in self.index.items() if name in files}
        for name, new in changed.items():
            self.index[name] = [*(each for each in self.index.get(name, [_NOTHING]) if each != new), new]
        self._write_index(self.index)
        for name in sorted(self.gone):
            self.store.remove(f"{self.address}/{name}")
            self.seen.pop(name, None)
            self.gone.remove(name)
        with _show(self.address, [files[name].size for name in changed] if shows else []) as advance:
            for kind in ([n for n in changed if self._is_new(n)], [n for n in changed if not self._is_new(n)]):
                for name in kind:
                    self.store.put(self.folder / name, f"{self.address}/{name}")
                    if _look(self.folder / name) != files[name]:  # written meanwhile: the rest is for another time
                        return False
                    self.seen[name] = files[name]
                    advance(files[name].size)
                # after the first kind, what is new is there, all of it
                self.index |= {name: digests[-1:] for name, digests in self.index.items() if self._is_new(name)}
        self.index = {name: digests[-1:] for name, digests in self.index.items()}
        self._write_index(self.index)
        return True

    def _find_changes(self, files: Mapping[str, _Seen]) -> dict[str, str]:
        """Return the digests of the files that are not in the bucket as they are here, in the order of their ends."""
        changed: dict[str, str] = {}
        for name, now in sorted(files.items(), key=lambda each: _order(*each)):
            if self.seen.get(name) != now:
                try:
                    new = file_digest(self.folder / name)
                except DataError:
                    if _look(self.folder / name) == now:
                        raise
                    continue  # gone or another meanwhile, as the next look will see
                if self.index.get(name) == [new]:
                    self.seen[name] = now
                else:
                    changed[name] = new
        return changed

    def _is_new(self, name: str) -> bool:
        return self.index[name][0] == _NOTHING

    def _take_over(self) -> None:
        """Put the bucket's objects in the place of what is here."""
        self._layout.word.unlink(missing_ok=True)  # until all is here, nothing here is to go on from
        files = self._list_files()
        for name in files:
            if name not in self.index:
                (self.folder / name).unlink()
        allowed = {name: digests[-1:] if self._is_new(name) else digests for name, digests in self.index.items()}
        wanted = [name for name in allowed if name not in files or file_digest(self.folder / name) not in allowed[name]]
        if wanted:
            log(f"fetching what {self.address} has of the run, {len(wanted):,} objects")
        wrong = [name for name in wanted if not self._fetch_one(name, allowed[name])]
        if any(map(self._is_new, wrong)):
            unfinished = [name for name in self.index if self._is_new(name)]
            for name in unfinished:
                (self.folder / name).unlink(missing_ok=True)
            log(f"{len(unfinished):,} objects of {self.address} are left: whoever put them did not end")
        if damaged := [name for name in wrong if not self._is_new(name)]:
            log(f"{len(damaged):,} objects of {self.address} are not what was put there, and are left: {damaged[0]}")

    def _fetch_one(self, name: str, allowed: Sequence[str]) -> bool:
        """Fetch an object; False where it is not there, or has another digest, and then no such file is here."""
        path = self.folder / name
        found = self.store.look_up(f"{self.address}/{name}")
        if found is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            # for the user alone: what models and judges have said is among them
            with suppress(_OtherContent), open_atomically(path, private=True) as file:
                self.store.fetch(found, Path(file.name))
                if file_digest(file.name) not in allowed:
                    raise _OtherContent
                return True
        path.unlink(missing_ok=True)
        return False

    def _compare(self) -> None:
        """Find out which files are in the bucket as they are here; the others are put again."""
        for name, now in self._list_files().items():
            if self.index.get(name) == [file_digest(self.folder / name)]:
                self.seen[name] = now

    def _list_files(self) -> dict[str, _Seen]:
        """Return the files of the folder that are finished, or grow by whole lines, by their names in it.

        Raises:
            OSError: a folder cannot be listed; what is in it is not gone, and stays in the bucket.
            _FolderGone: there is no folder of the run any more, as of a disk that was taken away.
        """
        if not self.folder.is_dir():
            raise _FolderGone(
                f"{self.folder}, where the run of {self.address} is worked on, is gone; what was put before stays in "
                "the bucket: bring the folder back, or run the same again, which goes on from what is there"
            )
        found = {}
        for parent, folders, files in os.walk(self.folder, onerror=_refuse_unlisted):
            folders[:] = [each for each in folders if not is_unfinished(each)]
            for each in files:
                path = Path(parent, each)
                if not is_unfinished(each) and (now := _look(path)) is not None:
                    found[path.relative_to(self.folder).as_posix()] = now
        return found

    def _check_alone(self) -> None:
        there = self._read_index()
        if there is None or there[0] != self.word:
            raise _OtherRun(
                f"another run writes to {self.address}, or its {MirrorLayout.index.name} was removed: let one run use "
                f"an address; what this one has computed stays in {self.folder} until one takes over what is there"
            )

    def _read_index(self) -> tuple[str, Index] | None:
        place = f"{self.address}/{self._layout.index.name}"
        content = self.store.read(place)
        if content is None:
            return None
        try:
            document = unseal(json.loads(content))
            index = {str(name): [*map(str, each)] for name, each in document["objects"].items()}
            if wrong := [name for name in index if not _is_below(name)]:
                raise ValueError(f"{wrong[0]!r} is no place below it")
            return str(document["run"]), index
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise StoreError(
                f"{place} is damaged, or none of handpick's: remove it and run the same again, or give another --out"
            ) from error

    def _write_index(self, index: Mapping[str, Sequence[str]]) -> None:
        document = seal({"run": self.word, "objects": index})
        self.store.write(json.dumps(document, indent=1).encode(), f"{self.address}/{self._layout.index.name}")

    def _keep_words(self, *words: str) -> None:
        atomic_write(self._layout.word, " ".join(words).encode())

    def _words_here(self) -> list[str]:
        """Return the words under which what is here may stand in the bucket."""
        with suppress(OSError, UnicodeDecodeError):
            return self._layout.word.read_text("ascii").split()
        return []

    @property
    def _layout(self) -> MirrorLayout:
        return MirrorLayout(self.folder)


class _OtherRun(StoreError):
    """Another run has written to the address."""


class _FolderGone(StoreError):
    """The folder that is worked in is not there."""


class _OtherContent(Exception):
    """An object has another digest than its list says."""


def _refuse_unlisted(error: OSError) -> None:
    """Raise what the system says of a folder that cannot be listed, unless it was removed meanwhile."""
    if not isinstance(error, FileNotFoundError):
        raise error


def _look(path: Path) -> _Seen | None:
    try:
        found = path.stat()
    except OSError:  # removed meanwhile
        return None
    return _Seen(found.st_ctime_ns, found.st_size, found.st_ino)


def _is_below(name: str) -> bool:
    """Return whether a name, which somebody else may have written, stays in the folder that it is put in."""
    parts = PurePosixPath(name).parts
    return bool(parts) and ".." not in parts and not name.startswith("/") and "\0" not in name


def _order(name: str, seen: _Seen) -> tuple[int, bool, str]:
    """Return what sorts files by when they were finished; of one moment, what makes others count comes last."""
    return seen.ctime_ns, name.endswith((".json", ".yaml")), name


@contextmanager
def _show(address: str, sizes: Sequence[int]) -> Iterator[Callable[[float], None]]:
    if not sizes:
        yield lambda n: None
        return
    log(f"putting {len(sizes):,} objects, {sum(sizes) / 1e6:,.1f} MB: {address}")
    with progress("put, bytes", sum(sizes)) as advance:
        yield advance
