"""Objects in a bucket, or wherever else fsspec reaches: told apart from paths, listed, fetched and put whole.

No object is renamed or appended to: a store of objects has neither. How often a request is tried again is the
library's to say that speaks to the store (s3fs, gcsfs, huggingface_hub); what it gives up on is one sentence here. Keys
come from the environment as that library takes them, and nothing here reads or writes one.
"""

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from glob import has_magic
from pathlib import Path
from typing import Any, NamedTuple

from handpick.errors import HandpickError, first_line

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_FOLDED = re.compile(r"[a-z][a-z0-9+.-]+:/(?!/)", re.IGNORECASE)  # what Path makes of an address
_QUERY = re.compile(r"\?[^/\s?]*=[^\s]*")  # of a link that somebody has signed; a pattern's ? has no = behind it
_USER = re.compile(r"(://)[^/@\s]*@")
_PACKAGES = {"s3": "'handpick[s3]'", "s3a": "'handpick[s3]'", "gs": "'handpick[gcs]'", "gcs": "'handpick[gcs]'"}
# what stores say of an object that is another once it is written again: the first that is there is taken
_VERSIONS = ("ETag", "etag", "md5Hash", "generation", "version_id", "VersionId", "blob_id", "content_md5")
_TIMES = ("LastModified", "last_modified", "updated", "modified", "mtime", "created")
_MD5 = re.compile(r"[0-9a-f]{32}")


class StoredObject(NamedTuple):
    """An object as a store lists it: its address, its bytes, and what is another once it is written again.

    ``version`` is empty where the store says nothing of the kind.
    """

    address: str
    size: int
    version: str


def is_address(name: object) -> bool:
    """Return whether a name is an address with a scheme, as ``s3://bucket/pool.jsonl``, and no path."""
    return isinstance(name, str) and _SCHEME.match(name) is not None


def was_address(path: str | Path) -> bool:
    """Return whether a path was an address before somebody made a ``Path`` of it, which takes one slash away."""
    return _FOLDED.match(str(path)) is not None or is_address(str(path))


def hide_secrets(text: str) -> str:
    """Return a text with no user, no password and no signature in the addresses that it names."""
    return _QUERY.sub("?…", _USER.sub(r"\1…@", text))


def check_address(address: str, error: type[HandpickError]) -> None:
    """Refuse an address that a key may stand in, since addresses are written beside the results.

    Raises:
        HandpickError: of the type ``error``.
    """
    if _USER.search(address) or _QUERY.search(address):
        raise error(
            f"the address {hide_secrets(address)} carries a user, a password or a signature, and addresses are written "
            "down: give it without, and the key in the environment"
        )
    if "::" in address or address.lower().startswith(("file://", "local://")):
        raise error(f"{address} is no plain address of an object: give a path, or one scheme and what stands behind it")


class ObjectStore:
    """Where the objects of a scheme are.

    Args:
        address: of anything in it.
        error: the type of the errors of all methods.

    Raises:
        HandpickError: no file system is known for the scheme, or its package is not installed.
    """

    def __init__(self, address: str, error: type[HandpickError]) -> None:
        import fsspec  # some file systems are slow to import

        check_address(address, error)
        self._error = error
        self._scheme = address.partition("://")[0].lower()
        try:
            self._fs: Any = fsspec.filesystem(self._scheme)
        except ImportError as missing:
            package = _PACKAGES.get(self._scheme)
            how = f"pip install {package}" if package else first_line(missing)
            raise error(f"{address} needs a package that is not installed: {how}") from missing
        except ValueError as unknown:
            raise error(f"nothing here can read {address}: {first_line(unknown)}") from unknown

    def find(self, address: str) -> list[StoredObject]:
        """List what an address names, in the order of the addresses: an object, a pattern's, or all below a prefix.

        Nothing is listed from memory, but for what a store itself is late with.

        Raises:
            HandpickError: the store does not answer, or refuses.
        """
        with self._refusals("list", address):
            self._fs.invalidate_cache()
            found = self._fs.glob(address, detail=True) if has_magic(address) else self._find_below(address)
            objects = [self._as_object(key, info) for key, info in found.items() if info.get("type") == "file"]
        return sorted(each for each in objects if not each.address.endswith("/"))

    def look_up(self, address: str) -> StoredObject | None:
        """Return an object as it is now; None where there is none.

        Raises:
            HandpickError: as ``find``.
        """
        with self._refusals("look at", address):
            self._fs.invalidate_cache()
            try:
                info = self._fs.info(address)
            except FileNotFoundError:
                return None
            return self._as_object(info["name"], info) if info.get("type") == "file" else None

    def fetch(self, wanted: StoredObject, path: Path, advance: Callable[[float], None] = lambda n: None) -> None:
        """Write an object's bytes to a file, which is the caller's to put in its place.

        They are checked by the store's own digest where it is one of bytes; else the store is asked again whether the
        object is the one that was listed, since large ones are fetched in pieces.

        Args:
            wanted: the object, as it was listed.
            path: the file; it may be there.
            advance: told of bytes as they come.

        Raises:
            HandpickError: as ``find``; or the object is not there any more, or another one.
        """
        from fsspec.callbacks import Callback

        class BytesCallback(Callback):  # type: ignore[misc]  # fsspec carries no types
            def relative_update(self, inc: int = 1) -> None:
                super().relative_update(inc)
                advance(inc)

        with self._refusals("fetch", wanted.address):
            self._fs.get_file(wanted.address, str(path), callback=BytesCallback())
        if not self._is_whole(wanted, path):
            raise self._error(
                f"{wanted.address} is not what was listed: it was written meanwhile, or the listing is late; run the "
                "same again when nothing writes to it any more"
            )

    def _is_whole(self, wanted: StoredObject, path: Path) -> bool:
        if path.stat().st_size != wanted.size:
            return False
        if _MD5.fullmatch(wanted.version):
            with path.open("rb") as file:
                if hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest() == wanted.version:
                    return True
        return not wanted.version or self.look_up(wanted.address) == wanted

    def read(self, address: str) -> bytes | None:
        """Return the bytes of a small object; None where there is none.

        Raises:
            HandpickError: as ``find``.
        """
        with self._refusals("fetch", address):
            self._fs.invalidate_cache()
            try:
                content: bytes = self._fs.cat_file(address)
            except FileNotFoundError:
                return None
            return content

    def put(self, path: Path, address: str) -> None:
        """Put a file as a whole object, in place of the one that may be there.

        Raises:
            HandpickError: as ``find``.
        """
        with self._refusals("put", address):
            self._fs.put_file(str(path), address)

    def write(self, content: bytes, address: str) -> None:
        """Put bytes as a whole object.

        Raises:
            HandpickError: as ``find``.
        """
        with self._refusals("put", address):
            self._fs.pipe_file(address, content)

    def remove(self, address: str) -> None:
        """Remove an object that may be there.

        Raises:
            HandpickError: as ``find``.
        """
        with self._refusals("remove", address), suppress(FileNotFoundError):
            self._fs.rm_file(address)

    def _find_below(self, address: str) -> dict[str, Any]:
        try:
            info = self._fs.info(address)
        except FileNotFoundError:
            return {}
        found: dict[str, Any]
        found = {info["name"]: info} if info["type"] == "file" else self._fs.find(address, detail=True)
        return found

    def _as_object(self, key: str, info: dict[str, Any]) -> StoredObject:
        said = next((info[name] for name in (*_VERSIONS, *_TIMES) if info.get(name) is not None), "")
        said = said.timestamp() if isinstance(said, datetime) else said  # some stores list one and show the other
        address = key if is_address(key) else f"{self._scheme}://{key.lstrip('/')}"
        return StoredObject(address, int(info.get("size") or 0), str(said).strip('"'))

    @contextmanager
    def _refusals(self, what: str, address: str) -> Iterator[None]:
        """Make one sentence of whatever a file system raises; every one of them has errors of its own."""
        try:
            yield
        except HandpickError:
            raise
        except FileNotFoundError as error:
            raise self._error(f"cannot {what} {address}: it is not there") from error
        except Exception as error:
            raise self._error(f"cannot {what} {address}: {hide_secrets(first_line(error))}") from error
