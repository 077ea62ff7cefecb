"""What is known by its first bytes to be no records, and what to do with it."""

from handpick.errors import DataError

_SAVE_AS_UTF8 = "save it as UTF-8"
_UNPACK = "unpack it first"
_IN_PLACE_OF_A_FILE = "a server may have sent it in place of the file: fetch that again"
# (where, bytes, what it is, what to do)
_FOREIGN: tuple[tuple[int, bytes, str, str], ...] = (
    (0, b"\xff\xfe\x00\x00", "text in UTF-32", _SAVE_AS_UTF8),
    (0, b"\x00\x00\xfe\xff", "text in UTF-32", _SAVE_AS_UTF8),
    (0, b"\xff\xfe", "text in UTF-16", _SAVE_AS_UTF8),
    (0, b"\xfe\xff", "text in UTF-16", _SAVE_AS_UTF8),
    (0, b"version https://git-lfs.github.com/spec/", "a pointer of Git LFS", "fetch the file itself: git lfs pull"),
    (0, b"PK\x03\x04", "a ZIP archive or a file of an office suite", _UNPACK),
    (0, b"%PDF-", "a PDF", "write its records as JSON Lines"),
    (0, b"<!DOCTYPE html", "a page in HTML", _IN_PLACE_OF_A_FILE),
    (0, b"<!doctype html", "a page in HTML", _IN_PLACE_OF_A_FILE),
    (0, b"<html", "a page in HTML", _IN_PLACE_OF_A_FILE),
    (0, b"BZh", "compressed with bzip2", _UNPACK),
    (0, b"\xfd7zXZ\x00", "compressed with xz", _UNPACK),
    (0, b"\x28\xb5\x2f\xfd", "compressed twice", _UNPACK),
    (0, b"\x1f\x8b", "compressed twice", _UNPACK),
    (257, b"ustar", "a tar archive", _UNPACK),
    (0, b"PARE", "encrypted Parquet", "decrypt it first"),
    (0, b"FEA1", "Feather of the first version", "write it as Parquet or Arrow"),
    (0, b"Obj\x01", "Avro", "write it as Parquet"),
    (0, b"ORC", "ORC", "write it as Parquet"),
    (0, b"SQLite format 3\x00", "a database of SQLite", "write its records as JSON Lines"),
    (0, b"\x93NUMPY", "an array of NumPy", "write its records as JSON Lines"),
    (0, b"\x89HDF\r\n", "HDF5", "write its records as JSON Lines"),
    (0, b"\x80\x02", "a pickle, which is not loaded", "write its records as JSON Lines"),
    (0, b"\x80\x03", "a pickle, which is not loaded", "write its records as JSON Lines"),
    (0, b"\x80\x04", "a pickle, which is not loaded", "write its records as JSON Lines"),
    (0, b"\x80\x05", "a pickle, which is not loaded", "write its records as JSON Lines"),
)
_JSON_IN_WIDE_CHARACTERS = (b"{\x00", b"[\x00", b"\x00{", b"\x00[", b"\x00\x00\x00{", b"\x00\x00\x00[")
HEAD_BYTES = 512


def refuse_foreign(name: str, head: bytes) -> None:
    """Refuse a file of a kind that cannot be read.

    Args:
        name: of the file.
        head: its first ``HEAD_BYTES`` bytes, decompressed.

    Raises:
        DataError: it is of such a kind.
    """
    for at, magic, what, advice in _FOREIGN:
        if head.startswith(magic, at):
            raise DataError(f"{name} is {what}, which cannot be read; {advice}")
    if any(head.startswith(begin) for begin in _JSON_IN_WIDE_CHARACTERS):
        raise DataError(f"{name} is text in UTF-16 or UTF-32, which cannot be read; {_SAVE_AS_UTF8}")
