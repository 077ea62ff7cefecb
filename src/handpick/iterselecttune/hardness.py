"""M of every example of the pool, by the last classifier, kept in a store, shard by shard."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from handpick.data.examples import Example
from handpick.data.plain_text import conversation
from handpick.data.pool import Pool
from handpick.errors import StoreError
from handpick.iterselecttune.classifier import Classifier
from handpick.iterselecttune.score import Floats
from handpick.objectives.protocol import Prepared, prepare_each
from handpick.pipeline.rows import Trainable
from handpick.represent.fill import Advance, fill
from handpick.store import Checkpoint, DataFile, FeatureStore, Manifest


class _Texts:
    """What the classifier reads of an example."""

    def prepare(self, examples: Sequence[Example]) -> Prepared:
        return prepare_each(examples, lambda example: conversation(example.messages))


def hardness(classifier: Classifier, pool: Pool, ids: Sequence[str], path: Path, shard_rows: int) -> Floats:
    """The classifier's probability of hard, float32 (N,).

    Args:
        classifier: the last one.
        pool: what is chosen from.
        ids: of its examples with a response, N, in its order.
        path: the store's folder.
        shard_rows: records that are computed and kept together.

    Raises:
        StoreError: the store cannot be written, or holds other examples.
    """
    manifest = Manifest(
        space={"representation": "hardness", **classifier.fingerprint()},
        build={},
        dim=1,
        storage="float32",
        checkpoints=[Checkpoint(name="classifier", weight=1.0)],
        files=DataFile.of(pool.files),
        shard_rows=shard_rows,
    )
    store = FeatureStore.create(path, manifest)

    def encode(_: int, texts: Sequence[str], advance: Advance) -> Floats:
        return classifier.probabilities(texts, advance)[:, None]

    fill(store, pool, Trainable(_Texts()), encode, "hardness of the pool")
    if store.ids != list(ids):
        raise StoreError(f"{path} has other examples than the embeddings: remove it, and run the same again")
    return np.asarray(store.array(0, normalized=False), dtype=np.float32)[:, 0]
