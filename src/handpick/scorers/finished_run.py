"""A finished run, as what it left in its folder: for reports and distances, which compute no row."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from handpick.data.pool import Pool
from handpick.layout import RunLayout
from handpick.settings import Settings
from handpick.store import FeatureStore
from handpick.store.codec import Floats
from handpick.store.manifest import contents_of


class Columns(Protocol):
    """Similarities of the queries to some candidates."""

    def columns(self, columns_C: NDArray[np.int64]) -> Floats:
        """Return them, (Q, C)."""


@dataclass(frozen=True)
class Reopened:
    """Similarities of a finished run: what they are, in words, and the column of every candidate's id.

    ``sentence`` is that of the run's ``ScoringProblem``.
    """

    what: str
    similarity: Columns
    column_of: dict[str, int]
    sentence: Callable[[Floats, Floats], str] | None = None


@dataclass(frozen=True)
class FinishedRun:
    """What a run left. ``pool`` and ``queries`` are None where they cannot be read any more."""

    folder: Path
    settings: Settings
    fingerprints: dict[str, Any]
    pool: Pool | None
    query_texts: Sequence[str] | None

    def store(self, side: str) -> FeatureStore | None:
        """Return the complete store of the "pool" or the "query" that the selection was made with."""
        wanted = self.fingerprints.get(side)
        folders = RunLayout(self.folder).stores()
        if self.settings.store is not None:
            folders.append(Path(self.settings.store))
        for folder in folders:
            store = FeatureStore.open(folder, allow_incomplete=True)
            complete = not any(store.missing(t) for t in range(len(store.checkpoints)))
            here = store.manifest.settings() | {"files": contents_of(store.manifest.files)}
            if complete and json.loads(json.dumps(here)) == wanted:
                return store
        return None


@dataclass(frozen=True)
class InMemory:
    """Similarities that are held, (Q, N)."""

    scores_QN: NDArray[Any]

    def columns(self, columns_C: NDArray[np.int64]) -> Floats:
        """Return those of some candidates, (Q, C)."""
        return self.scores_QN[:, columns_C].astype(np.float32)


def columns_of(store: FeatureStore) -> dict[str, int]:
    """Return the column of every candidate's id, as its store has them."""
    return {example_id: column for column, example_id in enumerate(store.rows().iter_ids())}


POOL_GONE = "the pool's features are not in the folder any more"
QUERIES_GONE = "the queries' features are not in the folder any more"
