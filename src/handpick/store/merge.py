"""Several feature stores made into one, without computing anything again."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from handpick.errors import StoreError
from handpick.files import atomic_copy, link_or_copy
from handpick.fingerprint import require_same
from handpick.layout import sidecar_of
from handpick.store.feature_store import FeatureStore
from handpick.store.repeats import repeated_ids
from handpick.store.shard_file import shard_path


def merge(paths: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str]) -> FeatureStore:
    """Make one store of the files of several, in the order given; a merge that was cut off goes on.

    Shard files are hard-linked where the file system can, else copied; the stores merged stay as they are.

    Raises:
        FingerprintMismatch: two of the stores differ in space, build or layout, or ``out`` is another store.
        StoreError: a store is missing or incomplete, ``out`` is one of them, an id stands in two of them,
            or the file system refuses.
    """
    if not paths:
        raise StoreError("there is no feature store to merge; name at least one")
    if Path(out).resolve() in {Path(path).resolve() for path in paths}:
        raise StoreError(
            f"the merged store cannot take the place of {os.fspath(out)}, which is merged; name a new folder"
        )
    stores = [FeatureStore.open(path) for path in paths]
    for store in stores[1:]:
        require_same(
            stores[0].manifest.settings(),
            store.manifest.settings(),
            what=f"the feature store {stores[0].path}, to be merged with {store.path},",
        )
    _require_distinct_ids(stores)
    files = [file for store in stores for file in store.manifest.files]
    merged = FeatureStore.create(out, stores[0].manifest.model_copy(update={"files": files}))
    for checkpoint in range(len(merged.checkpoints)):
        missing = set(merged.missing(checkpoint))
        origins = ((store.path, shard) for store in stores for shard in store.shards())
        for (origin, old), new in zip(origins, merged.shards(), strict=True):
            if new in missing:
                source, target = shard_path(origin, checkpoint, old), shard_path(merged.path, checkpoint, new)
                link_or_copy(source, target)
                atomic_copy(sidecar_of(source), sidecar_of(target))
    merged.close_to_older()
    return merged


def _require_distinct_ids(stores: Sequence[FeatureStore]) -> None:
    def all_ids() -> Iterator[str]:
        for store in stores:  # those of rows that are not finite too
            for shard in store.shards():
                yield from store.ids_of(0, shard)

    if repeated := repeated_ids(all_ids):
        raise StoreError(
            f"the id {repeated[0]!r} and {len(repeated) - 1} others stand at more than one row of "
            f"{', '.join(str(store.path) for store in stores)}; merge stores of pools that share no record"
        )
