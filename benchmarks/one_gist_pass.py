"""GIST for several targets at the price of one pass over the pool: each target's subspace is another, but the gradient
that is projected on it is the same.

What comes out are the stores that ``handpick.select(method="gist", …)`` looks for and goes on from, so that what is
measured is the product's own choice.

Legend: B examples of a shard, D coordinates of the gradient, K dimensions of all targets' subspaces together.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from handpick.data.pool import Pool
from handpick.data.quarantine import Quarantine
from handpick.executors import Advance, fill_store
from handpick.fingerprint import digest
from handpick.scorers.gist import GistStores
from handpick.scorers.gist_subspace import BasisProjection, query_subspace
from handpick.scorers.gradient_stores import GradientStores
from handpick.scorers.inputs import Data, Inputs, open_renderer
from handpick.settings import Settings
from handpick.store import FeatureStore

Floats = NDArray[np.float32]


class Slices:
    """An encoder whose projections on one target's basis are cut out of those on all bases together.

    What is computed is kept in ``folder`` a shard at a time, by the shard's tokens, for the other targets to read.
    """

    not_portable = "it keeps what it computed for other targets"

    def __init__(self, gradients: GradientStores, bases: BasisProjection, columns: slice, folder: Path) -> None:
        self._gradients = gradients
        self._bases = bases
        self._columns = columns
        self._folder = folder
        self.prepare = gradients.objectives.pool.prepare

    def load(self) -> "Slices":
        return self

    def encode(self, checkpoint: int, items: Sequence[Any], advance: Advance) -> Floats:
        path = self._folder / f"{digest([item.input_ids for item in items])}.npy"
        if path.exists():
            advance(len(items))
        else:
            gradients, part = self._gradients, path.with_suffix(".part.npy")
            last = len(gradients.checkpoints[0]) - 1
            rows = gradients.encoder.encode(last, "sgd", gradients.objectives.pool, items, advance, self._bases)
            np.save(part, rows)
            part.rename(path)
        all_BK: Floats = np.load(path, mmap_mode="r")
        return np.ascontiguousarray(all_BK[:, self._columns])


def fill_gist_stores(settings: Mapping[str, Any], queries: Mapping[str, Path], out: Path) -> dict[str, FeatureStore]:
    """The pool's gist features for every target, in ``out/TARGET``, where ``select(method="gist")`` finds them.

    Args:
        settings: of a selection, but for ``method``, ``query`` and ``out``.
        queries: a file for each target.
        out: a folder.
    """
    of = {
        name: Settings(**settings, method="gist", query=[str(path)], out=str(out / name))
        for name, path in queries.items()
    }
    first = next(iter(of.values()))
    quarantine = Quarantine(out / "quarantine.jsonl")
    renderer = open_renderer(first)
    pool = Pool.open(first.pool, cache=out / "parsed", quarantine=quarantine)
    data = Data(pool, quarantine)
    features = {name: GradientStores(Inputs(each, data, None, renderer)) for name, each in of.items()}
    opened = {name: Pool.open(each.query, cache=out / "parsed", quarantine=quarantine) for name, each in of.items()}
    basis_DK = {
        name: query_subspace(each.raw_query_gradients(opened[name]), of[name].gist_dim).basis_DK
        for name, each in features.items()
    }
    edges = np.cumsum([0, *(basis.shape[1] for basis in basis_DK.values())]).tolist()
    bases = BasisProjection(torch.cat(list(basis_DK.values()), dim=1))
    shards = out / f"all-{digest([edges, [digest(each.query) for each in of.values()]])}"
    shards.mkdir(parents=True, exist_ok=True)
    stores = {}
    for place, name in enumerate(of):
        started = time.perf_counter()
        slices = Slices(features[name], bases, slice(*edges[place : place + 2]), shards)
        stores[name] = GistStores(features[name], opened[name]).create_pool_store()
        fill_store(stores[name], pool, slices, "pool features")
        print(f"gist {name}: {edges[place + 1] - edges[place]} dimensions, {time.perf_counter() - started:.0f} s")
    return stores
