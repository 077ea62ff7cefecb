"""What a thing was made from, as plain JSON, and how two such records are compared.

A fingerprint is a dictionary of settings and digests. It is kept in full beside what it describes, not
only as a hash, so that a mismatch can name the setting that differs.
"""

import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from pydantic import JsonValue

from handpick.errors import DataError, FingerprintMismatch

JSON = JsonValue
Fingerprint = dict[str, JSON]

RECORD_RULE = "record_rule"  # the rule by which records were read (handpick.data.version); without it, the first

_ROUNDING = 1e-14  # of a number: what `sum` of Python 3.11 and of 3.12, or another order of adding, may make of it
_SHOWN = 60  # characters of a value that an error message has room for


def _canonical(obj: object) -> str:
    return json.dumps(obj, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(obj: object) -> str:
    """Return the first 16 hex digits of the SHA-256 of ``obj`` as canonical JSON (sorted keys, no spaces).

    Raises:
        TypeError: something in ``obj`` has no JSON form.
        ValueError: a number in ``obj`` is not finite.
    """
    return hashlib.sha256(_canonical(obj).encode()).hexdigest()[:16]


def file_digest(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file's bytes, 64 hex digits, read in pieces.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(
            f"cannot read {os.fspath(path)}: {error.strerror}; check the path and its permissions"
        ) from error


def first_difference(there: Mapping[str, JSON], here: Mapping[str, JSON]) -> str | None:
    """Return the first setting that differs, such as ``projection.seed is 0 there and 1 here``; None when all agree.

    Values are compared as ``digest`` sees them: the order of keys does not count, while 1, 1.0 and true differ; but
    two floats with nothing between them but rounding are the same.

    Raises:
        TypeError, ValueError: as ``digest``.
    """
    found = _difference(dict(there), dict(here), "")
    return None if found is None else found.sentence()


def require_same(there: Mapping[str, JSON], here: Mapping[str, JSON], *, what: str) -> None:
    """Refuse to go on where two fingerprints differ.

    Args:
        there: the fingerprint of what already stands.
        here: the fingerprint of what is about to be used with it.
        what: the thing that stands "there"; the subject of the error's sentence.

    Raises:
        FingerprintMismatch: they differ; the message names the first difference.
    """
    found = _difference(dict(there), dict(here), "")
    if found is None:
        return
    if found.path.rpartition(".")[2] == RECORD_RULE:
        there_rule, here_rule = (1 if rule == _NOT_SET else rule for rule in (found.there, found.here))
        raise FingerprintMismatch(
            f"{what} was made when handpick read records otherwise (record rule {there_rule}, now {here_rule}): make "
            "it anew, or choose another --out or --store"
        )
    raise FingerprintMismatch(
        f"{what} does not match: {found.sentence()}; use the same on both sides, or build anew in another folder"
    )


_NOT_SET = "not set"


class _Difference(NamedTuple):
    """Where two fingerprints differ, and what each has there, as JSON."""

    path: str
    there: str
    here: str

    def sentence(self) -> str:
        """Say it, long values (a chat template) cut to a window that begins shortly before they part."""
        there, here = self.there, self.here
        if max(len(there), len(here)) > _SHOWN:
            shorter = min(len(there), len(here))
            parting = next((i for i in range(shorter) if there[i] != here[i]), shorter)
            start = max(0, parting - _SHOWN // 2)
            there, here = _window(there, start), _window(here, start)
        return f"{self.path} is {there} there and {here} here"


def _difference(there: JSON, here: JSON, path: str) -> _Difference | None:
    if _canonical(there) == _canonical(here):
        return None
    if isinstance(there, float) and isinstance(here, float) and math.isclose(there, here, rel_tol=_ROUNDING):
        return None
    if not (
        (isinstance(there, dict) and isinstance(here, dict)) or (isinstance(there, list) and isinstance(here, list))
    ):
        return _Difference(path, _text(there), _text(here))
    entries_there, entries_here = _entries(there), _entries(here)
    for key in entries_here | entries_there:
        at = (path + key).removeprefix(".")
        if key not in entries_there:
            return _Difference(at, _NOT_SET, _text(entries_here[key]))
        if key not in entries_here:
            return _Difference(at, _text(entries_there[key]), _NOT_SET)
        if found := _difference(entries_there[key], entries_here[key], at):
            return found
    return None


def _text(value: JSON) -> str:
    return json.dumps(value, ensure_ascii=False)


def _entries(container: dict[str, JSON] | list[JSON]) -> dict[str, JSON]:
    """Return what stands in a container, under the text that leads there from its path."""
    if isinstance(container, dict):
        return {f".{key}": value for key, value in container.items()}
    return {f"[{index}]": value for index, value in enumerate(container)}


def _window(text: str, start: int) -> str:
    end = start + _SHOWN
    return ("…" if start else "") + text[start:end] + ("…" if len(text) > end else "")
