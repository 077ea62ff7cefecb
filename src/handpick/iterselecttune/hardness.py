"""M of every example of the pool, by the last classifier, kept in a store, shard by shard."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from handpick.data.examples import Example
from handpick.data.pool import Pool
from handpick.errors import StoreError
from handpick.executors import Advance, Executor, fill_store
from handpick.iterselecttune.classifier import Classifier
from handpick.iterselecttune.reads import READ_AS, reads_fingerprint
from handpick.iterselecttune.settings import Reads
from handpick.objectives.protocol import Prepared, prepare_each
from handpick.scorers.row_scorer import Trainable
from handpick.store import Checkpoint, FeatureStore, Manifest, ManifestFile
from handpick.store.codec import Floats


class _ClassifiedTexts:
    """What the classifier reads of an example."""

    def __init__(self, reads: Reads) -> None:
        self._reads = reads

    def prepare(self, examples: Sequence[Example]) -> Prepared:
        return prepare_each(examples, READ_AS[self._reads].text)


@dataclass(frozen=True)
class HardnessSpec:
    """A classifier by its folder, and what it reads; ``host`` is the one of this process, and does not pickle."""

    folder: Path
    reads: Reads
    host: Classifier | None = field(default=None, compare=False, repr=False)
    not_portable = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "host": None}

    def load(self) -> "HardnessRows":
        """Return what makes the rows."""
        return HardnessRows(self.host or Classifier.open(self.folder), self.reads)


class HardnessRows:
    """The probability of hard, a row of one number."""

    def __init__(self, classifier: Classifier, reads: Reads) -> None:
        self._classifier = classifier
        self.prepare = Trainable(_ClassifiedTexts(reads)).prepare

    def encode(self, checkpoint: int, items: Sequence[str], advance: Advance) -> Floats:
        """Return the probabilities, float32 (N, 1)."""
        return self._classifier.probabilities(items, advance)[:, None]


def pool_hardness(
    classifier: Classifier,
    pool: Pool,
    ids: Sequence[str],
    path: Path,
    shard_rows: int,
    reads: Reads,
    executor: Executor | None = None,
) -> Floats:
    """Return the probability of hard of every example, float32 (N,).

    Args:
        classifier: the last one.
        pool: what is chosen from.
        ids: of its examples with a response, N, in its order.
        path: the store's folder.
        shard_rows: records that are computed and kept together.
        reads: what the classifier was trained on of an example.
        executor: who computes; this process where nothing is said.

    Raises:
        StoreError: the store cannot be written, or holds other examples.
    """
    manifest = Manifest(
        space={"representation": "hardness", **classifier.fingerprint(), **reads_fingerprint(reads)},
        build={},
        dim=1,
        storage="float32",
        checkpoints=[Checkpoint(name="classifier", weight=1.0)],
        files=ManifestFile.of(pool.files),
        shard_rows=shard_rows,
    )
    store = FeatureStore.create(path, manifest)
    spec = HardnessSpec(classifier.folder, reads, host=classifier)
    fill_store(store, pool, spec, "hardness of the pool", executor=executor)
    row_of = {example_id: row for row, example_id in enumerate(store.ids)}
    if not row_of.keys() >= set(ids):  # more may be there: an embedding that is not finite is set aside
        raise StoreError(f"{path} has other examples than the embeddings: remove it, and run the same again")
    hardness_M1 = np.asarray(store.array(0, normalized=False), dtype=np.float32)
    return hardness_M1[[row_of[example_id] for example_id in ids], 0]
