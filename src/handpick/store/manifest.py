"""What a feature store is to hold: where its rows come from, how they are stored, and its cut into shards."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from handpick.documents import DAMAGED
from handpick.errors import StoreError
from handpick.files import atomic_write
from handpick.fingerprint import JSON, RECORD_RULE, Fingerprint, require_same
from handpick.layout import StoreLayout
from handpick.sealed import seal, unseal
from handpick.store.codec import Storage

SCHEMA_VERSION = 2  # the newest that is read: some rows are not finite, which readers of the first take for zeros
_FIRST_VERSION = 1


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FileFacts(Protocol):
    """A file of a pool, or of a manifest."""

    @property
    def name(self) -> str: ...

    @property
    def sha256(self) -> str: ...

    @property
    def rows(self) -> int: ...

    @property
    def record_rule(self) -> int: ...


class Checkpoint(_Part):
    """One checkpoint of the warmup and what its similarity weighs."""

    name: str
    weight: float


class ManifestFile(_Part):
    """One file of the pool. What it holds makes it the same file, not where it lies: ``name`` may change.

    ``record_rule`` is that of ``handpick.data.version``, and is written where it is not the first.
    """

    name: str
    sha256: str
    rows: int = Field(ge=0)
    record_rule: int = Field(1, ge=1)

    @model_serializer(mode="wrap")
    def _without_the_first_rule(self, write: SerializerFunctionWrapHandler) -> dict[str, JSON]:
        written: dict[str, JSON] = write(self)
        return written if self.record_rule > 1 else {k: v for k, v in written.items() if k != RECORD_RULE}

    @classmethod
    def of(cls, files: Iterable["FileFacts"]) -> list["ManifestFile"]:
        """Return the files of a pool, as a manifest holds them."""
        return [cls(name=file.name, sha256=file.sha256, rows=file.rows, record_rule=file.record_rule) for file in files]


@dataclass(frozen=True, slots=True)
class Shard:
    """Rows [start, stop) of the pool, counted over its files in order; the ``number``-th shard of one file.

    A shard never spans two files, so that adding a file leaves the shards before it as they are.
    """

    file: int
    number: int
    start: int
    stop: int


class Manifest(_Part):
    """The whole plan of a store.

    ``space`` must agree for two stores to be compared. ``build`` is everything else that decides the rows,
    save the data, which ``files`` names so that it can grow. ``shard_rows`` is the most rows of a shard.
    """

    schema_version: int = _FIRST_VERSION
    space: Fingerprint
    build: Fingerprint
    dim: int = Field(ge=1)
    storage: Storage
    checkpoints: list[Checkpoint] = Field(min_length=1)
    files: list[ManifestFile]
    shard_rows: int = Field(ge=1)

    def shards(self) -> list[Shard]:
        """Return all shards of the plan, in the order of the pool."""
        planned: list[Shard] = []
        first = 0
        for index, file in enumerate(self.files):
            end = first + file.rows
            starts = range(first, end, self.shard_rows)
            planned += [
                Shard(index, number, start, min(start + self.shard_rows, end)) for number, start in enumerate(starts)
            ]
            first = end
        return planned

    def settings(self) -> Fingerprint:
        """Return all but the data: what two stores must share to stand in one folder or be merged."""
        document: dict[str, Any] = self.model_dump(mode="json")
        return {key: document[key] for key in ("space", "build", "dim", "storage", "checkpoints", "shard_rows")}

    def fingerprint(self) -> Fingerprint:
        """Return what the rows are, and of which data: the settings, and what the files hold wherever they lie."""
        return self.settings() | {"files": contents_of(self.files)}


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of the store in a folder.

    Raises:
        StoreError: there is none, it is damaged, or a newer handpick wrote it.
    """
    path = StoreLayout(folder).manifest
    try:
        document = json.loads(path.read_bytes())
        version = document["schema_version"]
        if version > SCHEMA_VERSION:
            raise StoreError(
                f"the feature store {folder} has schema version {version} and this handpick reads up to "
                f"{SCHEMA_VERSION}; install a newer handpick"
            )
        return Manifest.model_validate(unseal(document))
    except FileNotFoundError as error:
        raise StoreError(f"there is no feature store at {folder} (no {path.name}); check the path") from error
    except ValidationError as error:
        first = error.errors()[0]
        reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise _unreadable_error(path, reason) from error
    except DAMAGED as error:
        raise _unreadable_error(path, str(error)) from error


def _unreadable_error(path: Path, reason: str) -> StoreError:
    return StoreError(f"{path} cannot be read as a manifest ({reason}); restore it, or build the store anew")


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest; the same bytes whatever order its fingerprints' keys came in.

    Raises:
        StoreError: the file system refuses.
    """
    text = json.dumps(seal(manifest.model_dump(mode="json")), indent=2, sort_keys=True, allow_nan=False)
    atomic_write(StoreLayout(folder).manifest, f"{text}\n".encode())


def extend_manifest(there: Manifest, here: Manifest, folder: Path) -> Manifest:
    """Make the manifest of a store that goes on: ``there``, with the files that only ``here`` has behind its own.

    Raises:
        FingerprintMismatch: the settings differ, or ``here`` does not begin with the files of ``there``.
    """
    what = f"the feature store {folder}"
    require_same(there.settings(), here.settings(), what=what)
    known = len(there.files)
    require_same({"files": contents_of(there.files)}, {"files": contents_of(here.files[:known])}, what=what)
    return there.model_copy(update={"files": there.files + here.files[known:]})


def contents_of(files: Iterable["FileFacts"]) -> list[JSON]:
    """Return what makes files the same files, wherever they lie: the bytes of each, how they are read, its records."""
    return [
        {"sha256": file.sha256, **({RECORD_RULE: file.record_rule} if file.record_rule > 1 else {}), "rows": file.rows}
        for file in files
    ]
