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


def fill(
    store: FeatureStore,
    pool: Pool,
    prepares: Prepares,
    encode: Encode,
    what: str,
    quarantine: Quarantine | None = None,
) -> None:
    """Write what is missing of a store; a killed run goes on from here.

    While a shard is computed, the next one is read and tokenised and the last one is written. Records that cannot be
    used are left out of it; ``set_aside_unusable`` reports them when it is whole.

    Args:
        store: made for the files of ``pool``.
        prepares: what makes items of the records.
        encode: ``(checkpoint, prepared, advance) -> features``; calls ``advance`` with how many more are done.
        what: the words beside the progress bar.
        quarantine: whose limit ends the work as soon as it is certain to be passed; finished shards stay.

    Raises:
        StoreError: a shard cannot be written.
        DataError: more records cannot be used than the quarantine's limit; they are reported to it up to there.
    """
    checkpoints = range(len(store.checkpoints))
    missing: list[tuple[int, Shard]] = [(t, shard) for t in checkpoints for shard in store.missing(t)]
    if not missing:
        return

    def prepare(shard: Shard) -> Prepared:
        return prepares.prepare(pool.examples(shard.start, shard.stop))

    refusals = None if quarantine is None else _Refusals(store, quarantine)
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
            ids, items, refused = coming.result()
            if refusals is not None and refusals.too_many(shard, len(refused)):
                if written is not None:
                    written.result()
                set_aside_unusable(store, pool, prepares, refusals.quarantine)  # raises, with the reasons
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


class _Refusals:
    """Counts the records of a store that cannot be used, each once, before its features are computed."""

    def __init__(self, store: FeatureStore, quarantine: Quarantine) -> None:
        self.quarantine = quarantine
        whole = store.rows()
        self._n = sum(shard.stop - shard.start for shard in whole.shards) - len(whole)
        self._counted: set[Shard] = set()

    def too_many(self, shard: Shard, n_refused: int) -> bool:
        """Whether the limit is passed, with those of one more shard."""
        if shard not in self._counted:  # it comes at every checkpoint
            self._counted.add(shard)
            self._n += n_refused
        limit = self.quarantine.limit
        return limit is not None and self.quarantine.count + self._n > limit


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
