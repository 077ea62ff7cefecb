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
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handpick.data.words import words_of
from handpick.errors import DataError, SettingsError
from handpick.fingerprint import Fingerprint


class Bm25:
    """The words of a pool, indexed. Takes 8 bytes for each distinct word of each text, and more while it is made."""

    def __init__(self, pool_texts: Iterable[str], *, k1: float = 1.5, b: float = 0.75) -> None:
        """Index a pool, reading its texts once; none is kept.

        Args:
            pool_texts: one text a candidate.
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
        """The score of each candidate for some queries, float32 (Q, N), finite and ≥ 0.

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
        """What decides the scores, besides the texts."""
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
