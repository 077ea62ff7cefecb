"""A small store with known contents; run as a script, it writes one in a process of its own.

    python writer.py FOLDER [--every N --from I] [--die-at N]

Legend: B rows of one shard, D features per row.
"""

import argparse
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from handpick.store import Checkpoint, FeatureStore, Manifest, ManifestFile, Shard
from handpick.store.codec import Floats, Storage

DIM = 24


def data_file(name: str, rows: int, content: str = "") -> ManifestFile:
    return ManifestFile(name=name, sha256=(content or name) * 3, rows=rows)


def manifest(files: Sequence[ManifestFile] | None = None, storage: Storage = "float32", seed: int = 0) -> Manifest:
    return Manifest(
        space={"model": "llama", "projection": {"kind": "sparse", "seed": seed}},
        build={"optimizer": "adam", "max_length": 2048},
        dim=DIM,
        storage=storage,
        checkpoints=[Checkpoint(name="epoch-1", weight=2e-5), Checkpoint(name="epoch-2", weight=1e-5)],
        files=[data_file("a.jsonl", 23), data_file("b.jsonl", 9)] if files is None else list(files),
        shard_rows=5,
    )


def shard_ids(shard: Shard, prefix: str = "row") -> list[str]:
    """One record of every shard was set aside, and all of those of the shard that begins at row 10."""
    return [] if shard.start == 10 else [f"{prefix} {row} ü" for row in range(shard.start + 1, shard.stop)]


def shard_features(checkpoint: int, shard: Shard) -> Floats:
    """Gradients of widely different norms, the first of them zero; float32 (B, D)."""
    generator = np.random.default_rng([checkpoint, shard.start])
    rows = len(shard_ids(shard))
    features_BD = generator.normal(size=(rows, DIM)) * 10.0 ** generator.integers(-12, 12, size=(rows, 1))
    features_BD[:1] = 0
    return features_BD.astype(np.float32)


def write(store: FeatureStore, prefix: str = "row", every: int = 1, first: int = 0) -> FeatureStore:
    """Write what is missing, or every so many-th of the plan's shards."""
    for checkpoint in range(len(store.checkpoints)):
        mine = store.shards()[first::every]
        for shard in store.missing(checkpoint):
            if shard in mine:
                store.write_shard(checkpoint, shard, shard_ids(shard, prefix), shard_features(checkpoint, shard))
    return store


def expected(store: FeatureStore, checkpoint: int) -> Floats:
    return np.concatenate([shard_features(checkpoint, shard) for shard in store.shards()])


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _die_at(step: int) -> None:
    """Let the process kill itself at its ``step``-th fsync or rename, just before it takes place."""
    taken = 0
    for name in ("fsync", "replace"):

        def counted(*args: object, really: object = getattr(os, name)) -> None:
            nonlocal taken
            taken += 1
            if taken == step:
                os.kill(os.getpid(), signal.SIGKILL)
            really(*args)  # type: ignore[operator]

        setattr(os, name, counted)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--from", dest="first", type=int, default=0)
    parser.add_argument("--die-at", type=int)
    options = parser.parse_args()
    if options.die_at:
        _die_at(options.die_at)
    write(FeatureStore.create(options.folder, manifest()), every=options.every, first=options.first)
