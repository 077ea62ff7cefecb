"""Looking for damage in a feature store."""

from collections.abc import Iterator
from pathlib import Path

from handpick.errors import DataError, StoreError
from handpick.files import crc32_of
from handpick.fingerprint import file_digest
from handpick.layout import sidecar_of
from handpick.store.manifest import Manifest, Shard
from handpick.store.repeats import repeated_ids
from handpick.store.shard_file import (
    Sidecar,
    finished_shards,
    read_sidecar,
    repair_advice,
    shard_path,
)


def find_problems(folder: Path, manifest: Manifest) -> list[str]:
    """Find all that is wrong with the store in a folder, one sentence each; every byte of it is read."""
    found: list[str] = []
    shards = manifest.shards()
    sound: dict[Shard, Path] = {}  # for each shard, the sidecar of the first checkpoint that is as it was written
    for checkpoint in range(len(manifest.checkpoints)):
        written = set(finished_shards(folder, checkpoint, shards))
        for shard in shards:
            path = shard_path(folder, checkpoint, shard)
            if shard not in written:
                found.append(f"{path} or its sidecar is missing; run the command that built the store again")
                continue
            try:
                sidecar = _verify_shard(path)
                if shard in sound and sidecar.ids_sha256 != read_sidecar(sound[shard]).ids_sha256:
                    found.append(f"{path} holds other ids than {sound[shard]}; {repair_advice(path)}")
            except (DataError, StoreError) as error:
                found.append(str(error))
            else:
                sound.setdefault(shard, sidecar_of(path))

    def all_ids() -> Iterator[str]:
        for sidecar in sound.values():
            yield from read_sidecar(sidecar).ids

    found += [
        f"the id {id_!r} stands at more than one row of {folder}; build the store anew" for id_ in repeated_ids(all_ids)
    ]
    return found


def _verify_shard(path: Path) -> Sidecar:
    """Verify a shard, and return its sidecar.

    Raises:
        StoreError: a byte of the shard or of its sidecar has changed.
        DataError: the shard cannot be read.
    """
    sidecar = read_sidecar(sidecar_of(path))
    if sidecar.sha256 != file_digest(path) or sidecar.crc32 not in (None, crc32_of(path)):
        raise StoreError(f"{path} is damaged (its checksum has changed); {repair_advice(path)}")
    return sidecar
