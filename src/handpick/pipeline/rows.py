"""The feature stores of a representation of examples by themselves: hidden states, embeddings, scores."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from handpick.data.examples import Example
from handpick.data.plain_text import has_response
from handpick.data.pool import Pool
from handpick.data.quarantine import Quarantine
from handpick.fingerprint import Fingerprint, digest
from handpick.objectives.protocol import Prepared
from handpick.pipeline.made_with import write_made_with
from handpick.represent.fill import Advance, Prepares, fill
from handpick.represent.protocol import Representation
from handpick.settings import Settings
from handpick.store import Checkpoint, DataFile, FeatureStore, Manifest
from handpick.store.codec import Storage
from handpick.store.manifest import MANIFEST_NAME, read_manifest

NO_RESPONSE = "no response to learn from"


class RowStores:
    """Makes the stores of a pool and of queries, or finds them made; both sides are made in the same way.

    Args:
        settings: of the run.
        representation: what makes the rows.
        path: the folder of the pool's store.
    """

    def __init__(self, settings: Settings, representation: Representation, path: Path) -> None:
        self._settings = settings
        self._representation = representation
        self.path = path

    @property
    def of_pool(self) -> Prepares:
        """What prepares the pool's records: of a query a prompt is enough, of an example to train on it is not."""
        return Trainable(self._representation)

    def pool_store(self, pool: Pool, storage: Storage, quarantine: Quarantine | None = None) -> FeatureStore:
        """The pool's rows; with a quarantine, ended when its limit is certain to be passed."""
        store = FeatureStore.create(self.path, self._manifest(pool, storage))
        found = {k: v for k, v in self._representation.build().items() if k in ("dtype", "batch_tokens")}
        write_made_with(store.path, self._settings, **found)
        return self._filled(store, pool, self.of_pool, "pool features", quarantine)

    def query_store(self, query: Pool) -> FeatureStore:
        """The queries' rows, float32 whatever the pool's are stored in."""
        manifest = self._manifest(query, "float32")
        path = self._settings.folder / "features" / f"query-{digest(manifest.fingerprint())}"
        return self._filled(FeatureStore.create(path, manifest), query, self._representation, "query features")

    def _filled(
        self, store: FeatureStore, examples: Pool, prepares: Prepares, what: str, quarantine: Quarantine | None = None
    ) -> FeatureStore:
        def encode(_checkpoint: int, items: Sequence[Any], advance: Advance) -> npt.NDArray[Any]:
            return self._representation.encode(items, advance)

        fill(store, examples, prepares, encode, what, quarantine)
        return store

    def _dim(self, space: Fingerprint) -> int:
        """As the pool's store has it where there is one, for the representation may have to load a model to know."""
        there = read_manifest(self.path) if (self.path / MANIFEST_NAME).exists() else None
        return there.dim if there is not None and there.space == space else self._representation.dim

    def _manifest(self, examples: Pool, storage: Storage) -> Manifest:
        space = self._representation.space()
        return Manifest(
            space=space,
            build=self._representation.build(),
            dim=self._dim(space),
            storage=storage,
            checkpoints=[Checkpoint(name="base", weight=1.0)],
            files=DataFile.of(examples.files),
            shard_rows=self._settings.shard_rows,
        )


class Trainable:
    """Refuses, before another prepares them, records that there is nothing to learn from."""

    def __init__(self, prepares: Prepares) -> None:
        self._prepares = prepares

    def prepare(self, examples: Sequence[Example]) -> Prepared:
        prepared = self._prepares.prepare([each for each in examples if has_response(each.messages)])
        refused = [(each, NO_RESPONSE) for each in examples if not has_response(each.messages)]
        return prepared._replace(refused=[*prepared.refused, *refused])
