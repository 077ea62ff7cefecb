"""Documents of ours that carry a digest of their own content, so that a changed letter is noticed when they are read.

The digest is that of ``handpick.fingerprint`` over all else in the document, whatever the order of its keys. Documents
without one were written before there was any, and are taken as they are.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from handpick.documents import DAMAGED
from handpick.errors import StoreError
from handpick.files import atomic_write
from handpick.fingerprint import digest

DIGEST = "digest"


def seal(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document of plain JSON with its digest behind the rest."""
    plain = json.loads(json.dumps(document))  # as it will be read: tuples are lists, keys are text
    return {**document, DIGEST: digest(plain)}


def unseal(document: object) -> dict[str, Any]:
    """Return a document that was read, without its digest.

    Raises:
        ValueError: it is no mapping, or is not what was written.
    """
    if not isinstance(document, dict):
        raise ValueError("it is no mapping of names to values")
    content = {key: value for key, value in document.items() if key != DIGEST}
    if DIGEST in document and document[DIGEST] != digest(content):
        raise ValueError("its digest has changed")
    return content


def write_sealed(path: Path, document: Mapping[str, Any], *, indent: int | None = 1) -> None:
    """Write a document as JSON, with its digest, as ``atomic_write`` does.

    Raises:
        StoreError: the file system refuses.
    """
    text = json.dumps(seal(document), indent=indent, ensure_ascii=False, allow_nan=False)
    atomic_write(path, f"{text}\n".encode("utf-8", "surrogatepass"))


def read_sealed(path: Path, advice: str) -> dict[str, Any]:
    """Read what ``write_sealed`` wrote.

    Args:
        path: of the file.
        advice: what to do where it is damaged.

    Raises:
        StoreError: it is missing or damaged.
    """
    try:
        return unseal(json.loads(path.read_bytes().decode("utf-8", "surrogatepass")))
    except DAMAGED as error:
        raise StoreError(f"{path} is damaged ({error}); {advice}") from error


def read_sealed_list(path: Path, name: str, advice: str) -> list[Any]:
    """Read the list that a sealed document has under a name; a file of before is the list alone.

    Args:
        path: of the file.
        name: of the list in the document.
        advice: what to do where it is damaged.

    Raises:
        StoreError: it is missing or damaged.
    """
    try:
        there = json.loads(path.read_bytes())
        found: list[Any] = there if isinstance(there, list) else unseal(there)[name]
    except DAMAGED as error:
        raise StoreError(f"{path} is damaged ({error}); {advice}") from error
    return found
