"""BM25: the words a query shares with a candidate, rare ones counting more. It gives Q × N itself, and no features.

Source: Robertson and Zaragoza, The Probabilistic Relevance Framework (2009), in the variant of Lucene (Kamphuis et al.,
Which BM25 Do You Mean?, ECIR 2020, table 1), computed by the package bm25s:

    score(q, n) = Σ_w count(w in q) · log(1 + (N − N_w + ½) / (N_w + ½)) · f / (f + k1 (1 − b + b · |n| / mean |n|))

w runs over the words, f = count(w in n), N_w candidates have w, |n| is the number of words of n. All terms are ≥ 0.

Ours: words are those of ``data/words.py``, in any script; no stemming and no stop words, both of which are made for one
language (a word that all candidates have counts next to nothing anyway); a word that a query repeats counts as often.

Shapes: Q queries, N candidates.
"""

import importlib.metadata
from array import array
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handpick.algorithms import Similarity
from handpick.algorithms.matrix import Matrix
from handpick.algorithms.view import SimilarityView
from handpick.costs.cost import StageKind, Work
from handpick.costs.probe import Probing, time_once
from handpick.data.words import words_of
from handpick.errors import DataError, SettingsError
from handpick.fingerprint import Fingerprint
from handpick.layout import RunLayout
from handpick.progress import log
from handpick.scorers.direct_scorer import Texts, TextScorer
from handpick.scorers.finished_run import FinishedRun
from handpick.scorers.inputs import subtask_labels
from handpick.scorers.scoring_problem import ScoringProblem, fits_in_memory
from handpick.scorers.text_costs import text_work
from handpick.similarity import write_similarity_rows

_LOOKED_UP = 8  # queries that a plan looks up


class Bm25:
    """The words of a pool, indexed. Takes 8 bytes for each distinct word of each text, and more while it is made."""

    def __init__(self, pool_texts: Iterable[str], *, k1: float = 1.5, b: float = 0.75) -> None:
        """Index a pool, reading its texts once; none is kept.

        Args:
            pool_texts: one text per candidate.
            k1: how slowly repetitions of a word saturate, above 0.
            b: how much a long text is marked down, from 0 to 1.

        Raises:
            DataError: there is no text.
            SettingsError: ``k1`` or ``b`` is out of range, or the package bm25s is missing.
        """
        if not (0 < k1 < float("inf") and 0 <= b <= 1):
            raise SettingsError(f"bm25: k1 is {k1} and b is {b}; k1 must be above 0 and b from 0 to 1")
        self._k1, self._b = k1, b
        self._index = _new_index(k1, b)
        self._id_of: dict[str, int] = {}
        texts = [array("i", (self._id_of.setdefault(w, len(self._id_of)) for w in words_of(t))) for t in pool_texts]
        if not texts:
            raise DataError("bm25: the pool has no text; give at least one")
        self._n_candidates = len(texts)
        if self._id_of:  # an index of no word is refused by the package
            self._index.index((texts, self._id_of), create_empty_token=False, show_progress=False)

    def scores(self, query_texts: Sequence[str]) -> NDArray[np.float32]:
        """Compute the score of each candidate for some queries, float32 (Q, N), finite and ≥ 0.

        Rows do not depend on each other, so a large matrix can be made some queries at a time. A query without a word
        of the pool has a row of zeros, a candidate without words a column of them.
        """
        scores_QN = np.zeros((len(query_texts), self._n_candidates), dtype=np.float32)
        for row, text in enumerate(query_texts):
            known = [self._id_of[word] for word in words_of(text) if word in self._id_of]
            if known:
                scores_QN[row] = self._index.get_scores_from_ids(known)
        return scores_QN

    def fingerprint(self) -> Fingerprint:
        """Return what decides the scores, besides the texts."""
        return {
            "kind": "bm25",
            "variant": "lucene",
            "k1": self._k1,
            "b": self._b,
            "words": "letters and digits, 2",
            "bm25s": importlib.metadata.version("bm25s"),
        }


def _new_index(k1: float, b: float) -> Any:
    try:
        import bm25s  # type: ignore[import-untyped]
    except ImportError as error:
        raise SettingsError("the method bm25 needs bm25s: pip install 'handpick[text]'") from error
    # Said in full, since the package takes what else is installed where nothing is said.
    return bm25s.BM25(k1=k1, b=b, method="lucene", dtype="float32", backend="numpy", csc_backend="numpy")


class Bm25Scorer(TextScorer):
    """Compares every query's words with every candidate's."""

    def preflight(self) -> None:
        """Refuse a machine without the package."""
        _new_index(1.0, 0.5)

    @cached_property
    def index(self) -> Bm25:
        """The pool's words."""
        return Bm25(Texts(self.pool.pool))

    def fingerprint(self) -> Fingerprint:
        """Return what decides the scores, besides the texts."""
        return self.index.fingerprint()

    def scores(self, rows_N: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the largest score of every candidate over the queries, float32 (N,)."""
        return np.asarray(self.matches_QN.max(axis=0))

    @cached_property
    def matches_QN(self) -> NDArray[np.float32]:
        """The score of every candidate for every query, float32 (Q, N), in a file where they do not fit in memory."""
        texts, shape = self.query_texts, (len(self.query_texts), len(self.rows_N))
        index = self.index
        path = None if fits_in_memory(shape) else RunLayout(self.settings.folder).similarity
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            log(f"bm25 gives all of the similarity: {4 * shape[0] * shape[1] / 1e9:.1f} GB in {path}")
        return write_similarity_rows((index.scores([text])[0] for text in texts), shape, path)

    @cached_property
    def kept_Q(self) -> NDArray[np.int64]:
        """The queries that share a word with the pool: the others are like nothing.

        Raises:
            DataError: there is none.
        """
        shares_Q = np.array([row_N.any() for row_N in self.matches_QN])
        if not shares_Q.any():
            raise DataError(
                "no query shares a word with the pool, so there is nothing to choose by: name other queries"
            )
        if not shares_Q.all():
            n = np.count_nonzero(~shares_Q)
            log(f"{n} of {len(shares_Q)} queries share no word with the pool and are left out")
        return np.flatnonzero(shares_Q)

    @cached_property
    def similarity(self) -> Similarity:
        """The scores for the queries that are kept."""
        matches = Matrix(self.matches_QN)
        return matches if len(self.kept_Q) == len(self.matches_QN) else SimilarityView(matches, self.kept_Q)

    def problem(self) -> ScoringProblem:
        """Return the scores for every query that shares a word with the pool."""
        query = self.inputs.queries.pool
        ids, subtasks = query.ids(), subtask_labels(self.settings, query)
        kept = self.kept_Q.tolist()
        return ScoringProblem(
            self.similarity, self.rows_N, self.fingerprints(), [ids[q] for q in kept], [subtasks[q] for q in kept]
        )

    def work(self, probing: Probing) -> Work:
        """Return what the index and the look-ups will take."""
        texts = self.query_texts

        def seconds_of(some: list[str]) -> float:
            index = Bm25(some)
            looked_up = texts[:_LOOKED_UP]
            each = time_once(lambda: index.scores(looked_up)) / len(looked_up)
            return time_once(lambda: Bm25(some)) + each * len(texts)

        # records are read once to see who has a response, and again for their words
        return text_work(self.inputs, StageKind.INDEX.value, seconds_of, reads=2, n_rows=len(texts))

    @classmethod
    def reopen_texts(
        cls, run: FinishedRun, pool_texts: Iterable[str], query_texts: Sequence[str]
    ) -> tuple[str, NDArray[np.float32]]:
        """Return the largest score of every candidate over the queries."""
        index = Bm25(pool_texts)
        return "BM25 of the nearest query", np.max([index.scores([text])[0] for text in query_texts], axis=0)
