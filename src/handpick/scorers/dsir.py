"""DSIR: how much likelier an example's words are in the target than in the pool; one score per candidate.

Source: Xie et al., Data Selection for Language Models via Importance Resampling, NeurIPS 2023, section 4. A text is
the bag of its single words and pairs of neighbouring words, hashed into 10,000 buckets; the pool and the target are
one distribution over the buckets each, p and q; an example's score is its log importance weight

    Σ_b count_b (log q_b − log p_b).

Words, smoothing (1e-8 added to each probability) and the sum over a text are those of the authors' released code; the
hash is MurmurHash3 for its SHA-256. The choice by these scores is an algorithm, and not here.

A sum grows with the text. The paper cuts its pool into pieces of equal length; the examples of an instruction pool
are of all lengths, and a bucket the target lacks costs an example some 9 to 18 each time it occurs, so with a small
target the short examples stand first. A smoothing of 1e-4, the probability of a bucket if all were alike, is the
remedy: with 64 GSM8K questions on 3,149 examples of which 323 are sums of that kind, 100 of the first 100 are such
sums, against 19 with 1e-8 (benchmarks/dsir_smoothing.py).

Shapes: N texts, B buckets.
"""

import importlib.metadata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handpick.costs.cost import Work
from handpick.costs.probe import Probing, time_once
from handpick.errors import DataError, SettingsError
from handpick.fingerprint import Fingerprint
from handpick.scorers.direct_scorer import Texts, TextScorer
from handpick.scorers.finished_run import FinishedRun
from handpick.scorers.text_costs import text_work

BUCKETS = 10_000
SMOOTHING = 1e-8

_CHUNK = 1_000  # texts hashed at a time: some megabytes of counts


@dataclass(frozen=True, eq=False)
class Dsir:
    """The log ratio of the two distributions, float64 (B,), and what was added to both; ``fit`` makes it."""

    log_ratio_B: NDArray[np.float64]
    smoothing: float

    @classmethod
    def fit(cls, pool_texts: Iterable[str], query_texts: Iterable[str], *, smoothing: float = SMOOTHING) -> "Dsir":
        """Count a pool's and a target's words, reading each text once; no more than a chunk is in memory.

        Raises:
            DataError: the pool or the queries have no word at all.
            SettingsError: ``smoothing`` is not above 0, or scikit-learn is missing.
        """
        if not 0 < smoothing < float("inf"):
            raise SettingsError(f"dsir: smoothing is {smoothing}; what is added to a probability must be above 0")
        pool_B = _distribution(pool_texts, "pool")
        query_B = _distribution(query_texts, "query set")
        return cls(np.log(query_B + smoothing) - np.log(pool_B + smoothing), smoothing)

    def scores(self, texts: Iterable[str]) -> NDArray[np.float32]:
        """Compute the log importance weight of each text, float32 (N,), always finite; 0 for a text without words."""
        parts = [counts_NB @ self.log_ratio_B for counts_NB in _counts(texts)]
        return np.concatenate([np.empty(0), *parts]).astype(np.float32)

    def fingerprint(self) -> Fingerprint:
        """Return what decides the scores, besides the texts."""
        return {
            "kind": "dsir",
            "buckets": BUCKETS,
            "smoothing": self.smoothing,
            "words": "letters or signs, 1 and 2",
            "scikit-learn": importlib.metadata.version("scikit-learn"),
        }


def _distribution(texts: Iterable[str], what: str) -> NDArray[np.float64]:
    total_B = np.zeros(BUCKETS)
    for counts_NB in _counts(texts):
        total_B += np.asarray(counts_NB.sum(axis=0)).ravel()
    if not total_B.any():
        raise DataError(f"dsir: the {what} has no words; give one with text")
    probabilities_B: NDArray[np.float64] = total_B / total_B.sum()
    return probabilities_B


def _counts(texts: Iterable[str]) -> Iterator[Any]:
    """Yield how often each bucket occurs in each text, as sparse float64 (N, B), a chunk of texts at a time."""
    hashed = _hasher()
    stream = iter(texts)
    while chunk := list(islice(stream, _CHUNK)):
        yield hashed.transform(chunk)


def _hasher() -> Any:
    """Return what counts the buckets of texts.

    Raises:
        SettingsError: scikit-learn is missing.
    """
    try:
        from sklearn.feature_extraction.text import HashingVectorizer  # type: ignore[import-untyped]
    except ImportError as error:
        raise SettingsError("the method dsir needs scikit-learn: pip install 'handpick[text]'") from error
    # Signed counts would cancel out within a bucket; the package's own pattern drops signs and single letters.
    return HashingVectorizer(
        n_features=BUCKETS, ngram_range=(1, 2), token_pattern=r"\w+|[^\w\s]+", alternate_sign=False, norm=None
    )


class DsirScorer(TextScorer):
    """Scores every candidate by its words against the queries' and the pool's."""

    def preflight(self) -> None:
        """Refuse a machine without the package."""
        _hasher()

    @cached_property
    def weights(self) -> Dsir:
        """The two distributions."""
        return Dsir.fit(Texts(self.pool.pool), self.query_texts, smoothing=self.settings.dsir_smoothing)

    def fingerprint(self) -> Fingerprint:
        """Return what decides the scores, besides the texts."""
        return self.weights.fingerprint()

    def scores(self, rows_N: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the log importance weight of every candidate, float32 (N,)."""
        return self.weights.scores(Texts(self.pool.pool))

    def work(self, probing: Probing) -> Work:
        """Return what counting n-grams and weighing by them will take."""
        queries = self.query_texts

        def seconds_of(some: list[str]) -> float:
            weigh = Dsir.fit(some, queries)
            return time_once(lambda: Dsir.fit(some, queries)) + time_once(lambda: weigh.scores(some))

        # records are read once to see who has a response, and again at either pass
        return text_work(self.inputs, "n-grams and weights", seconds_of, reads=3, n_rows=1)

    @classmethod
    def reopen_texts(
        cls, run: FinishedRun, pool_texts: Iterable[str], query_texts: Sequence[str]
    ) -> tuple[str, NDArray[np.float32]]:
        """Return the weights, fitted again."""
        weights = Dsir.fit(pool_texts, query_texts, smoothing=run.settings.dsir_smoothing)
        return "log importance weight", weights.scores(pool_texts)
