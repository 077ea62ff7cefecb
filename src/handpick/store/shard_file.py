"""One shard of one checkpoint on disk: a safetensors file, and beside it the sidecar that makes it count.

The sidecar is written last. A shard counts when both files are there; one without its sidecar was cut off
and is written again. It carries two checksums of the tensors' file: the CRC-32, which is cheap enough to be taken of
the very bytes that a similarity is computed from, and the SHA-256, for ``verify``.
"""

import hashlib
import json
import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save

from handpick.documents import GONE
from handpick.errors import StoreError
from handpick.files import atomic_write, remove
from handpick.layout import StoreLayout, sidecar_of
from handpick.store.codec import Tensors
from handpick.store.manifest import Shard

# The types a codec may store, as safetensors names and writes them (little-endian whatever the machine).
_DTYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
}


@dataclass(frozen=True, slots=True)
class Sidecar:
    """What a shard holds: checksums of its file, and the ids of its rows with a digest of their own.

    ``crc32`` is None in a sidecar that was written before there was one.
    """

    sha256: str
    rows: int
    ids_sha256: str
    ids: list[str]
    crc32: int | None = None


def shard_path(folder: Path, checkpoint: int, shard: Shard) -> Path:
    """Return where the tensors of a shard lie."""
    return StoreLayout(folder).shard(checkpoint, shard.file, shard.number)


def finished_shards(folder: Path, checkpoint: int, shards: Sequence[Shard]) -> list[Shard]:
    """Return those of ``shards`` that count."""
    parent = StoreLayout(folder).shards(checkpoint)
    names = set(os.listdir(parent)) if parent.is_dir() else set[str]()  # one listing: a look per shard is slow on NFS
    paths = [shard_path(folder, checkpoint, shard) for shard in shards]
    return [
        shard
        for shard, path in zip(shards, paths, strict=True)
        if path.name in names and sidecar_of(path).name in names
    ]


def ids_digest(ids: Sequence[str]) -> str:
    """Return the SHA-256 of a list of ids as compact JSON, 64 hex digits."""
    return hashlib.sha256(json.dumps(ids, separators=(",", ":")).encode()).hexdigest()


def write_shard_file(path: Path, ids: Sequence[str], tensors: Tensors) -> None:
    """Write a shard and then its sidecar; one that is there is replaced.

    Raises:
        StoreError: the file system refuses; the shard does not count then.
    """
    data = save(tensors)  # a fixed order of tensors and no metadata: the bytes depend on the content alone
    sidecar = Sidecar(_sha256(data), len(ids), ids_digest(ids), list(ids), zlib.crc32(data))
    # An old sidecar must not vouch for new tensors, should this process die between the two.
    remove(sidecar_of(path))
    atomic_write(path, data)
    _write_sidecar(sidecar_of(path), sidecar)


def _write_sidecar(path: Path, sidecar: Sidecar) -> None:
    atomic_write(path, json.dumps(asdict(sidecar), separators=(",", ":")).encode())


def read_sidecar(path: Path) -> Sidecar:
    """Read the sidecar at ``path``.

    Raises:
        StoreError: it is missing or damaged.
    """
    with _or_damaged(path):
        sidecar = Sidecar(**json.loads(path.read_bytes()))
        if sidecar.rows != len(sidecar.ids) or sidecar.ids_sha256 != ids_digest(sidecar.ids):
            raise ValueError("its ids have changed")
        return sidecar


def map_tensors(path: Path, *, check: bool = True) -> Tensors:
    """Map the tensors of a shard as read-only views of a memory map: only the rows that are used get read.

    The header is taken apart here because safetensors' own reader cannot pick rows without reading all.

    Args:
        path: of the shard.
        check: take the checksum of the whole map first, which brings all of it into memory.

    Raises:
        StoreError: the file is missing or cut short, its header is damaged, or its checksum is not its sidecar's.
    """
    with _or_damaged(path):
        whole = np.memmap(path, np.uint8, mode="r")
        if check:
            _check(path, whole)
        start = 8 + int.from_bytes(whole[:8].tobytes(), "little")
        header: dict[str, Any] = json.loads(whole[8:start].tobytes())
        return {name: _view(whole[start:], entry) for name, entry in header.items()}


def _sha256(data: bytes | memoryview) -> str:
    return hashlib.sha256(data).hexdigest()


def _check(path: Path, whole: npt.NDArray[np.uint8]) -> None:
    """Raise ValueError unless a shard's bytes are those that were written.

    Those of before the CRC-32 are known by their SHA-256 alone. It is taken once: the sidecar is given the CRC-32 then,
    where the folder may be written.
    """
    sidecar = read_sidecar(sidecar_of(path))
    crc32 = zlib.crc32(whole.data)
    of_before = sidecar.crc32 is None and _sha256(whole.data) == sidecar.sha256
    if not of_before and crc32 != sidecar.crc32:
        raise ValueError("its checksum has changed")
    if of_before:
        with suppress(StoreError):  # of others, who let it be read alone
            _write_sidecar(sidecar_of(path), replace(sidecar, crc32=crc32))


def finite_rows(path: Path) -> npt.NDArray[np.bool_]:
    """Return which rows of a shard are finite, (B,): those whose norm is.

    Where one is not, and so is left out, the whole file is held against its checksum.

    Raises:
        StoreError: the file is missing, cut short or damaged.
    """
    with _or_damaged(path), path.open("rb") as file:  # a map takes five times as long, and every shard is looked at
        start = 8 + int.from_bytes(file.read(8), "little")
        if start > os.fstat(file.fileno()).st_size:
            raise ValueError("its header is longer than the file")
        entry = json.loads(file.read(start - 8))["norms"]
        begin, end = entry["data_offsets"]
        file.seek(start + begin)
        norms_B = np.frombuffer(file.read(end - begin), _DTYPES[entry["dtype"]]).reshape(entry["shape"])
    finite_B = np.isfinite(norms_B)
    if not finite_B.all():
        map_tensors(path)
    return finite_B


@contextmanager
def _or_damaged(path: Path) -> Iterator[None]:
    """Turn what goes wrong inside with a file into a StoreError that says what to do about it."""
    try:
        yield
    except (*GONE, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{path} is damaged ({error}); {repair_advice(path)}") from error


def _view(data: npt.NDArray[np.uint8], entry: dict[str, Any]) -> npt.NDArray[Any]:
    begin, end = entry["data_offsets"]
    flat: npt.NDArray[Any] = data[begin:end].view(_DTYPES[entry["dtype"]])
    return flat.reshape(entry["shape"])


def repair_advice(path: Path) -> str:
    """Return what to do about a damaged shard or sidecar."""
    return f"delete {sidecar_of(path)} and run the command that built the store again"
