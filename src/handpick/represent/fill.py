"""Filling a feature store: every shard that is missing, checkpoint by checkpoint."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from handpick.data.examples import Example
from handpick.data.pool import Pool
from handpick.data.quarantine import Quarantine
from handpick.errors import DataError
from handpick.objectives.protocol import Prepared
from handpick.progress import progress
from handpick.store import FeatureStore, Shard


class Prepares(Protocol):
    """An objective, or a representation."""

    def prepare(self, examples: Sequence[Example]) -> Prepared: ...


Advance = Callable[[float], None]
Encode = Callable[[int, Sequence[Any], Advance], NDArray[np.float32]]


def fill(store: FeatureStore, pool: Pool, prepares: Prepares, encode: Encode, what: str) -> None:
    """Write what is missing of a store; a killed run goes on from here.

    While a shard is computed, the next one is read and tokenised and the last one is written.

    Args:
        store: made for the files of ``pool``.
        prepares: what makes items of the records.
        encode: ``(checkpoint, prepared, advance) -> features``; calls ``advance`` with how many more are done.
        what: the words beside the progress bar.

    Raises:
        StoreError: a shard cannot be written.
    """
    checkpoints = range(len(store.checkpoints))
    missing: list[tuple[int, Shard]] = [(t, shard) for t in checkpoints for shard in store.missing(t)]
    if not missing:
        return

    def prepare(shard: Shard) -> Prepared:
        return prepares.prepare(pool.examples(shard.start, shard.stop))

    total = len(pool) * len(checkpoints)
    left = sum(shard.stop - shard.start for _, shard in missing)
    with (
        progress(what, total=total, done=total - left) as advance,
        ThreadPoolExecutor(1) as reader,
        ThreadPoolExecutor(1) as writer,
    ):
        coming = reader.submit(prepare, missing[0][1])
        written: Future[None] | None = None

        def report(n: float) -> None:
            if written is not None and written.done():
                written.result()  # a disk that is full stops the run here, not a shard later
            advance(n)

        for (checkpoint, shard), following in zip(missing, [*missing[1:], None], strict=True):
            ids, items, _ = coming.result()
            if following is not None:
                coming = reader.submit(prepare, following[1])
            features_BK = encode(checkpoint, items, report)
            if set_aside := shard.stop - shard.start - len(ids):
                advance(set_aside)
            if written is not None:
                written.result()
            written = writer.submit(store.write_shard, checkpoint, shard, ids, features_BK)
        if written is not None:
            written.result()


def set_aside_unusable(store: FeatureStore, pool: Pool, prepares: Prepares, quarantine: Quarantine) -> None:
    """Report the records that are in the pool and not in its finished store, each with its reason.

    Raises:
        DataError: nothing is left, or the quarantine's limit is passed.
    """
    if len(store) == len(pool):
        return
    for row in np.setdiff1d(np.arange(len(pool)), rows_of(store, pool)).tolist():
        refused = prepares.prepare([pool[row]]).refused
        file, line = pool.location(row)
        for example, reason in refused:
            quarantine.add(file=file, line=line, id=example.id, reason=reason, raw=example.raw)
    if not len(store):
        raise DataError(
            f"no record of {', '.join(file.name for file in pool.files)} can be used: {quarantine.summary()}"
        )


def rows_of(store: FeatureStore, pool: Pool) -> NDArray[np.int64]:
    """The pool's row of every row of its store, in which some may be missing, the others in order."""
    rows_N = np.arange(len(pool))
    if len(store) == len(pool):
        return rows_N
    stored = store.rows().iter_ids()
    waiting = next(stored, None)
    kept_N = np.zeros(len(pool), dtype=np.bool_)
    for row, example_id in enumerate(pool.ids()):
        if example_id == waiting:
            kept_N[row] = True
            waiting = next(stored, None)
    return rows_N[kept_N]
