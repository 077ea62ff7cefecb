"""What an algorithm chooses by, whatever representation it came from.

Shapes: Q queries, N candidates, B picks, C columns asked for, E features.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handpick.algorithms import Picks, Similarity, find
from handpick.algorithms.matrix import Matrix
from handpick.algorithms.protocol import Kernel, inner_products
from handpick.algorithms.tie_rule import largest_similarity
from handpick.algorithms.view import SimilarityView
from handpick.fingerprint import Fingerprint
from handpick.layout import RunLayout
from handpick.progress import log
from handpick.settings import Settings
from handpick.similarity import write_similarity
from handpick.store.codec import Floats
from handpick.store.memory import available_bytes

Sentence = Callable[[Floats, Floats], str]
FeaturesOf = Callable[[NDArray[np.int64]], Floats]

_IN_MEMORY = 1 << 30  # bytes of a similarity that is computed once and kept, if that is a quarter of what is free


@dataclass(frozen=True, eq=False)
class FeatureSpace:
    """Features of candidates and of single queries, in one space.

    ``candidates`` gives those of some columns, (C, E); ``queries`` those of all queries, (Q, E). The similarities of
    queries to each other are their inner products, those to candidates ``slope`` times these, and those of candidates
    to each other the ``kernel``'s.
    """

    candidates: FeaturesOf
    queries: Callable[[], Floats]
    kernel: Kernel = inner_products
    slope: float = 1.0


@dataclass(frozen=True)
class Remark:
    """What a method says of its own result, in one sentence; shown when all is done, and in the report.

    ``warns``: whether the result is to be looked at before it is believed. ``detail``: the numbers behind it.
    """

    name: str
    said: str
    warns: bool
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Prefiltered:
    """What prefilters did before a problem's candidates were scored.

    ``n_candidates`` counts what could have been chosen but for them; ``n_cut`` what they left out, of which ``checked``
    are rows of the pool drawn at random; ``wider`` is the problem with these among its candidates. ``depths`` has, by
    the query's id, how many of its best are left, as the last prefilter ranks; "" stands for all queries.
    """

    n_candidates: int
    n_cut: int
    checked: NDArray[np.int64]
    depths: Mapping[str, int]
    wider: "ScoringProblem"


@dataclass(frozen=True, eq=False)
class ScoringProblem:
    """What an algorithm chooses by.

    ``rows`` are the columns' rows in the pool. ``query_ids`` and ``subtasks`` belong to the similarity's rows, and are
    empty where one score per candidate stands for all queries. ``nearest`` says which query a pick is for where the
    similarity's rows are not single queries. ``prefiltered`` is there where not all of the pool was scored.
    ``sentence`` says something of a choice, from the largest of the similarity's rows of what was chosen and of all,
    (B,) and (N,).
    """

    similarity: Similarity
    rows: NDArray[np.int64]
    fingerprints: Fingerprint
    query_ids: list[str] = field(default_factory=list)
    subtasks: list[str] = field(default_factory=list)
    features: FeatureSpace | None = None
    nearest: Callable[[Picks], list[str | None]] | None = None
    prefiltered: Prefiltered | None = None
    remarks: tuple[Remark, ...] = ()
    sentence: Sentence | None = None

    @property
    def n_candidates(self) -> int:
        """How many candidates a share of the pool is counted of: all there were before a prefilter."""
        return len(self.rows) if self.prefiltered is None else self.prefiltered.n_candidates

    @property
    def candidates(self) -> FeaturesOf | None:
        """Features of some columns, (C, E); None where there are none."""
        return None if self.features is None else self.features.candidates

    @property
    def kernel(self) -> Kernel:
        """What makes similarities of two sets of candidates' features."""
        return inner_products if self.features is None else self.features.kernel

    def queries_of_picks(self, picks: Picks) -> list[str | None]:
        """Return the id of the query that each pick is for."""
        if self.nearest is not None:
            return self.nearest(picks)
        if not self.query_ids:
            return [None] * len(picks.columns)
        return [self.query_ids[query] if query >= 0 else None for query in picks.queries.tolist()]

    def remarks_on(self, columns_B: NDArray[np.int64]) -> list[Remark]:
        """Return what the representation says of some columns that were chosen."""
        if self.sentence is None:
            return []
        largest_N = largest_similarity(self.similarity)[0].astype(np.float32)
        return [Remark("choice", self.sentence(largest_N[columns_B], largest_N), warns=False)]

    def drop_rows(self, rows: Collection[int]) -> "ScoringProblem":
        """Return the same with the columns of some of the pool's rows left out."""
        kept_N = np.flatnonzero(~np.isin(self.rows, list(rows)))
        if len(kept_N) == len(self.rows):
            return self
        features, nearest = self.features, self.nearest
        return replace(
            self,
            similarity=SimilarityView(self.similarity, columns_N=kept_N),
            rows=self.rows[kept_N],
            features=None
            if features is None
            else replace(features, candidates=lambda columns_C: features.candidates(kept_N[columns_C])),
            nearest=None
            if nearest is None
            else lambda picks: nearest(Picks(kept_N[picks.columns], picks.scores, picks.queries)),
        )


def fits_in_memory(shape: tuple[int, int]) -> bool:
    """Return whether a similarity is small enough to be kept in memory."""
    return 4 * shape[0] * shape[1] <= min(_IN_MEMORY, available_bytes() / 4)


def is_read_many_times(settings: Settings) -> bool:
    """Return whether what is chosen goes through the similarity more than once."""
    return find(settings.used_algorithm).whole or settings.splits_budget


def make_readable(similarity: Similarity, settings: Settings) -> Similarity:
    """Return the similarity as the algorithm should read it: from memory where it is small, else from a file if it is
    gone through many times, else computed anew at every pass."""
    if isinstance(similarity, Matrix):
        return similarity
    if fits_in_memory(similarity.shape):
        return Matrix(write_similarity(similarity, None))
    if is_read_many_times(settings):
        why = "several targets read" if settings.splits_budget else f"{settings.used_algorithm} reads"
        path = RunLayout(settings.folder).similarity
        n_bytes = 4 * similarity.shape[0] * similarity.shape[1]
        log(f"{why} all of the similarity many times: {n_bytes / 1e9:.1f} GB in {path}")
        return Matrix(write_similarity(similarity, path))
    return similarity
