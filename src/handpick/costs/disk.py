"""Bytes that stay on disk, from the store's own codec and its cut into shards.

Shapes: K features per row.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
from safetensors.numpy import save

from handpick.data.pool import DataFile
from handpick.store.codec import Storage, encode, row_norms
from handpick.store.shard_file import Sidecar


def row_bytes(dim: int, storage: Storage) -> int:
    """Return the bytes of one row in a shard file, its norm and its scale among them."""
    row_1K = np.zeros((1, dim), np.float32)
    return sum(tensor.nbytes for tensor in encode(row_1K, row_norms(row_1K), storage).values())


def count_shards(files: Sequence[DataFile], shard_rows: int) -> int:
    """Count a store's shards at one checkpoint; none spans two files."""
    return sum(-(-file.rows // shard_rows) for file in files)


def checkpoint_bytes(
    files: Sequence[DataFile], ids: Sequence[str], usable: int, *, dim: int, storage: Storage, shard_rows: int
) -> int:
    """Return the bytes of a feature store's shards at one checkpoint, the sidecars with their ids among them.

    Args:
        files: of the pool.
        ids: of all its records.
        usable: records that will have a row.
        dim: K.
        storage: as stored.
        shard_rows: the most rows of a shard.
    """
    n_shards = count_shards(files, shard_rows)
    row_1K = np.zeros((1, dim), np.float32)
    header = len(save(encode(row_1K, row_norms(row_1K), storage))) - row_bytes(dim, storage)
    sidecar = len(json.dumps(asdict(Sidecar("0" * 64, shard_rows, "0" * 64, [], 2**32 - 1)), separators=(",", ":")))
    id_bytes = sum(len(json.dumps(each)) + 1 for each in ids)
    share = usable / max(1, len(ids))
    return round(n_shards * (header + sidecar) + usable * row_bytes(dim, storage) + share * id_bytes)


def adapter_bytes(n_coordinates: int, *, adam: bool) -> int:
    """Return the bytes of a checkpoint of the warmup: the adapter in float32, and with ``adam`` its two moments."""
    return 4 * n_coordinates * (3 if adam else 1)
