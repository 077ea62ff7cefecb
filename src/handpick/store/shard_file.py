"""One shard of one checkpoint on disk: a safetensors file, and beside it the sidecar that makes it count.

The sidecar is written last. A shard counts when both files are there; one without its sidecar was cut off
and is written again.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save

from handpick.errors import StoreError
from handpick.layout import StoreLayout, sidecar_of
from handpick.store.codec import Tensors
from handpick.store.files import atomic_write, remove
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
    """What a shard holds: the SHA-256 of its file, and the ids of its rows with a digest of their own."""

    sha256: str
    rows: int
    ids_sha256: str
    ids: list[str]


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
    sidecar = Sidecar(hashlib.sha256(data).hexdigest(), len(ids), ids_digest(ids), list(ids))
    # An old sidecar must not vouch for new tensors, should this process die between the two.
    remove(sidecar_of(path))
    atomic_write(path, data)
    atomic_write(sidecar_of(path), json.dumps(asdict(sidecar), separators=(",", ":")).encode())


def read_sidecar(path: Path) -> Sidecar:
    """Read the sidecar at ``path``.

    Raises:
        StoreError: it is missing or damaged.
    """
    with _or_damaged(path):
        return Sidecar(**json.loads(path.read_bytes()))


def map_tensors(path: Path) -> Tensors:
    """Map the tensors of a shard as read-only views of a memory map: only the rows that are used get read.

    The header is taken apart here because safetensors' own reader cannot pick rows without reading all.

    Raises:
        StoreError: the file is missing or cut short, or its header is damaged.
    """
    with _or_damaged(path):
        whole = np.memmap(path, np.uint8, mode="r")
        start = 8 + int.from_bytes(whole[:8].tobytes(), "little")
        header: dict[str, Any] = json.loads(whole[8:start].tobytes())
        return {name: _view(whole[start:], entry) for name, entry in header.items()}


def finite_rows(path: Path) -> npt.NDArray[np.bool_]:
    """Return which rows of a shard are finite, (B,): those whose norm is.

    Raises:
        StoreError: the file is missing or cut short, or its header is damaged.
    """
    with _or_damaged(path), path.open("rb") as file:  # a map takes five times as long, and every shard is looked at
        start = 8 + int.from_bytes(file.read(8), "little")
        if start > os.fstat(file.fileno()).st_size:
            raise ValueError("its header is longer than the file")
        entry = json.loads(file.read(start - 8))["norms"]
        begin, end = entry["data_offsets"]
        file.seek(start + begin)
        norms_B = np.frombuffer(file.read(end - begin), _DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return np.isfinite(norms_B)


@contextmanager
def _or_damaged(path: Path) -> Iterator[None]:
    """Turn what goes wrong inside with a file into a StoreError that says what to do about it."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path} is damaged ({error}); {repair_advice(path)}") from error


def _view(data: npt.NDArray[np.uint8], entry: dict[str, Any]) -> npt.NDArray[Any]:
    begin, end = entry["data_offsets"]
    flat: npt.NDArray[Any] = data[begin:end].view(_DTYPES[entry["dtype"]])
    return flat.reshape(entry["shape"])


def repair_advice(path: Path) -> str:
    """Return what to do about a damaged shard or sidecar."""
    return f"delete {sidecar_of(path)} and run the command that built the store again"
