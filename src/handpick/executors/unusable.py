"""Records that are in a pool and not among the rows of its store: refused before their row was made, or with a row that
is not finite.

A model overflows in a narrow type, or a weight of it is broken: then a row holds an infinity or NaN, at one checkpoint
or at all. Such a record of a pool is set aside. A query is not: what is chosen would be for the others alone. Where no
row at all is finite, nothing is wrong with the records.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from handpick.data.pool import Pool
from handpick.data.quarantine import Quarantine
from handpick.errors import DataError, ModelError
from handpick.executors.protocol import Preparer
from handpick.store import FeatureStore, Manifest, Shard


def report_unusable(store: FeatureStore, pool: Pool, prepares: Preparer, quarantine: Quarantine) -> None:
    """Report the records that are in the pool and not in its finished store, each with its reason.

    Raises:
        DataError: nothing is left, or the quarantine's limit is passed.
    """
    if len(store) == len(pool):
        return
    not_finite = store.not_finite()
    for row in np.setdiff1d(np.arange(len(pool)), rows_of(store, pool)).tolist():
        example = pool[row]
        reasons = [reason for _, reason in prepares.prepare([example]).refused]
        if example.id in not_finite:
            reasons = [_not_finite_reason(store.manifest, not_finite[example.id])]
        for reason in reasons:
            pool.set_aside(row, reason, quarantine)
    if not len(store):
        raise DataError(
            f"no record of {', '.join(file.name for file in pool.files)} can be used: {quarantine.summary()}"
        )


def rows_of(store: FeatureStore, pool: Pool) -> NDArray[np.int64]:
    """Return the pool's row of every row of its store, in which some may be missing, the others in order."""
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


def refuse_dead_checkpoints(store: FeatureStore) -> None:
    """Refuse a store that is whole and has rows, of which none is finite at some checkpoint.

    Raises:
        ModelError: so it is.
    """
    if len(store):
        return
    for checkpoint in range(len(store.checkpoints)):
        n_rows = 0
        for finite_B in finite_of_shards(store, checkpoint):
            if finite_B.any():
                break
            n_rows += len(finite_B)
        else:
            if n_rows:
                raise dead_checkpoint(store.manifest, checkpoint, n_rows, first_id(store, checkpoint))


def _shards_on_disk(store: FeatureStore, checkpoint: int) -> Iterator[Shard]:
    """Yield the shards that are written at a checkpoint."""
    missing = set(store.missing(checkpoint))
    return (shard for shard in store.shards() if shard not in missing)


def finite_of_shards(store: FeatureStore, checkpoint: int) -> Iterator[NDArray[np.bool_]]:
    """Yield which rows are finite of each shard that is written at a checkpoint, (B,)."""
    return (store.finite(checkpoint, shard) for shard in _shards_on_disk(store, checkpoint))


def first_id(store: FeatureStore, checkpoint: int) -> str:
    """Return the id of the first row that is written at a checkpoint."""
    return next(ids[0] for shard in _shards_on_disk(store, checkpoint) if (ids := store.ids_of(checkpoint, shard)))


def dead_checkpoint(manifest: Manifest, checkpoint: int, n_rows: int, first: str) -> ModelError:
    """Return what to say where none of so many rows at a checkpoint is finite; ``first`` is the id of one."""
    return ModelError(
        f"none of {n_rows:,} {_kind(manifest)} rows is finite{_where(manifest, [checkpoint])} (the first: {first!r}): "
        f"{_remedy(manifest)}"
    )


def refuse_queries(manifest: Manifest, not_finite: dict[str, list[int]], n_queries: int) -> None:
    """Refuse queries of which some have a row that is not finite.

    Args:
        manifest: of their store.
        not_finite: their ids, and at which checkpoints.
        n_queries: of all queries.

    Raises:
        DataError: there are some.
        ModelError: it is all of them.
    """
    if not not_finite:
        return
    ids = list(not_finite)
    checkpoints = sorted({t for each in not_finite.values() for t in each})
    if len(not_finite) == n_queries:
        raise dead_checkpoint(manifest, checkpoints[0], n_queries, ids[0])
    named = ", ".join(map(repr, ids[:3])) + (", …" if len(ids) > 3 else "")
    subject = f"the query {named} has" if len(ids) == 1 else f"{len(ids)} of {n_queries} queries ({named}) have"
    raise DataError(
        f"{subject} a {_kind(manifest)} row that is not finite{_where(manifest, checkpoints)}, and no choice would be "
        f"for all queries: take {'it' if len(ids) == 1 else 'them'} out, or {_remedy(manifest)}"
    )


def _not_finite_reason(manifest: Manifest, checkpoints: Sequence[int]) -> str:
    """Return why a record is set aside; the words before the colon are what is counted."""
    where = _where(manifest, checkpoints)
    return f"{_kind(manifest)} row not finite" + (f":{where}" if where else "")


def _kind(manifest: Manifest) -> str:
    return str(manifest.space.get("representation", "feature"))


def _where(manifest: Manifest, checkpoints: Sequence[int]) -> str:
    """Return in which type and at which checkpoints, as far as it can be told."""
    dtype, names = manifest.build.get("dtype"), [manifest.checkpoints[t].name for t in checkpoints]
    said = [f"in {dtype}"] if dtype else []
    if len(manifest.checkpoints) > 1:
        said.append(f"at the checkpoint{'s' if len(names) > 1 else ''} {', '.join(names)}")
    return f" {' '.join(said)}" if said else ""


def _remedy(manifest: Manifest) -> str:
    dtype = manifest.build.get("dtype")
    if dtype is None:
        return "mend what they come from"
    if dtype == "float32":
        return "a weight is broken, so name another model or checkpoint"
    return "give --dtype float32, in another --out folder; if that does not help, a weight is broken"
