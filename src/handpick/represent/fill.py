"""Filling a feature store: every shard that is missing, checkpoint by checkpoint."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from handpick.data.pool import Pool
from handpick.data.quarantine import Quarantine
from handpick.data.render import Rendered, Renderer
from handpick.errors import DataError
from handpick.progress import progress
from handpick.represent.gradient import render_usable
from handpick.store import FeatureStore, Shard

Advance = Callable[[int], None]
Encode = Callable[[int, Sequence[Rendered], Advance], NDArray[np.float32]]


def fill(store: FeatureStore, pool: Pool, renderer: Renderer, max_length: int, encode: Encode, what: str) -> None:
    """Write what is missing of a store; a killed run goes on from here.

    While a shard is computed, the next one is read and tokenised and the last one is written.

    Args:
        store: made for the files of ``pool``.
        renderer: makes the sequences, of at most ``max_length`` tokens.
        encode: ``(checkpoint, sequences, advance) -> features``; calls ``advance`` with how many more are done.
        what: the words beside the progress bar.

    Raises:
        StoreError: a shard cannot be written.
    """
    checkpoints = range(len(store.checkpoints))
    missing: list[tuple[int, Shard]] = [(t, shard) for t in checkpoints for shard in store.missing(t)]
    if not missing:
        return

    def prepare(shard: Shard) -> tuple[list[str], list[Rendered]]:
        ids, sequences, _ = render_usable(pool.examples(shard.start, shard.stop), renderer, max_length)
        return ids, sequences

    total = len(pool) * len(checkpoints)
    left = sum(shard.stop - shard.start for _, shard in missing)
    with (
        progress(what, total=total, done=total - left) as advance,
        ThreadPoolExecutor(1) as reader,
        ThreadPoolExecutor(1) as writer,
    ):
        coming = reader.submit(prepare, missing[0][1])
        written: Future[None] | None = None
        for (checkpoint, shard), following in zip(missing, [*missing[1:], None], strict=True):
            ids, sequences = coming.result()
            if following is not None:
                coming = reader.submit(prepare, following[1])
            features_BK = encode(checkpoint, sequences, advance)
            if set_aside := shard.stop - shard.start - len(ids):
                advance(set_aside)
            if written is not None:
                written.result()  # a disk that is full stops the run here
            written = writer.submit(store.write_shard, checkpoint, shard, ids, features_BK)
        if written is not None:
            written.result()


def set_aside_unusable(
    store: FeatureStore, pool: Pool, renderer: Renderer, max_length: int, quarantine: Quarantine
) -> None:
    """Report the records that are in the pool and not in its finished store, each with its reason.

    Raises:
        DataError: nothing is left, or the quarantine's limit is passed.
    """
    kept = set(store.ids)
    for row, example_id in enumerate(pool.ids()):
        if example_id in kept:
            continue
        _, _, refused = render_usable([pool[row]], renderer, max_length)
        file, line = pool.location(row)
        for example, reason in refused:
            quarantine.add(file=file, line=line, id=example.id, reason=reason, raw=example.raw)
    if not kept:
        raise DataError(
            f"no record of {', '.join(file.name for file in pool.files)} can be used: {quarantine.summary()}"
        )
