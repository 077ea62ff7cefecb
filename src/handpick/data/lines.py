"""The lines of a file that may be compressed, read as a stream and told from damage."""

import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

from zstandard import ZstdDecompressor, ZstdError

from handpick.errors import DataError

GZIP_MAGIC = b"\x1f\x8b"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
CHUNK_BYTES = 1 << 16


class Damaged(Exception):
    """The compressed file ends before its end, or cannot be decompressed from here on."""


class Line(NamedTuple):
    """A line without its newline. ``damage`` says why the file could not be read past it, and is None otherwise."""

    number: int
    content: bytes
    damage: str | None = None


class _Decompressor(Protocol):
    def decompress(self, data: bytes, /) -> bytes: ...

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...


def read_lines(path: Path) -> Iterator[Line]:
    """Yield the lines of a plain, gzip or zstd file, told apart by their first bytes.

    Where compressed data is damaged, what has been read of the line at hand comes as the last line,
    with ``damage`` set.

    Raises:
        DataError: the file cannot be read.
    """
    number, pending = 1, list[bytes]()
    try:
        for chunk in read_chunks(path):
            first, *others = chunk.split(b"\n")
            pending.append(first)
            for part in others:
                yield Line(number, b"".join(pending))
                number, pending = number + 1, [part]
    except Damaged as damage:
        yield Line(number, b"".join(pending), str(damage))
        return
    if rest := b"".join(pending):
        yield Line(number, rest)


def read_chunks(path: Path) -> Iterator[bytes]:
    """Yield the decompressed content of a file, some of it at a time.

    Raises:
        Damaged: the compressed data is cut off or broken.
        DataError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            magic = file.read(4)
            file.seek(0)
            if magic.startswith(GZIP_MAGIC):
                yield from _decompress(file, lambda: zlib.decompressobj(wbits=16 + zlib.MAX_WBITS), zlib.error)
            elif magic == ZSTD_MAGIC:
                yield from _decompress(file, lambda: ZstdDecompressor().decompressobj(), ZstdError)
            else:
                yield from iter(lambda: file.read(CHUNK_BYTES), b"")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error


def is_compressed(path: Path) -> bool:
    """Return whether a file is gzip or zstd, by its first bytes.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    return magic.startswith(GZIP_MAGIC) or magic == ZSTD_MAGIC


def _decompress(
    file: BinaryIO, new_decompressor: Callable[[], _Decompressor], error_type: type[Exception]
) -> Iterator[bytes]:
    """Yield the content of the members (gzip) or frames (zstd) of a file, which may be several."""
    decompressor = new_decompressor()
    inside = False  # a member has been begun and not ended
    try:
        while data := file.read(CHUNK_BYTES):
            while data:
                if not inside:
                    data = data.lstrip(b"\0")  # tapes and block devices pad with zeros
                    if not data:
                        break
                    decompressor, inside = new_decompressor(), True
                yield decompressor.decompress(data)
                data = decompressor.unused_data if decompressor.eof else b""
                inside = not decompressor.eof
    except error_type as error:
        raise Damaged(f"the compressed file is damaged from here on: {error}") from error
    if inside:
        raise Damaged("the compressed file is cut off here")
