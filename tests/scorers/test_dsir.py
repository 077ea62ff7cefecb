"""DSIR against plain counting in dictionaries."""

import math
import re
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("sklearn")

from handpick.errors import DataError, SettingsError
from handpick.scorers import dsir
from handpick.scorers.dsir import Dsir

texts = st.lists(st.sampled_from(["a", "b", "Word", "12", "?!", "Ä"]), max_size=8).map(" ".join)
worded = st.lists(texts, max_size=6).filter(any)


def bag(text: str) -> Counter[int]:
    """How often each bucket occurs, by the hash that scikit-learn has."""
    from sklearn.utils import murmurhash3_32

    words = re.findall(r"\w+|[^\w\s]+", text.lower())
    pairs = [f"{first} {second}" for first, second in pairwise(words)]
    return Counter(abs(murmurhash3_32(gram, seed=0)) % 10_000 for gram in words + pairs)


def by_dictionaries(pool: list[str], queries: list[str]) -> list[float]:
    in_pool, in_queries = sum(map(bag, pool), Counter()), sum(map(bag, queries), Counter())

    def log_ratio(bucket: int) -> float:
        q, p = in_queries[bucket] / in_queries.total(), in_pool[bucket] / in_pool.total()
        return math.log(q + 1e-8) - math.log(p + 1e-8)

    return [sum(count * log_ratio(bucket) for bucket, count in bag(text).items()) for text in pool]


@settings(max_examples=100, deadline=None)
@given(pool=worded, queries=worded)
def test_equals_counting_in_dictionaries(pool: list[str], queries: list[str]) -> None:
    scores = Dsir.fit(iter(pool), iter(queries)).scores(iter(pool))
    assert (scores.dtype, scores.shape) == (np.float32, (len(pool),))
    np.testing.assert_allclose(scores, by_dictionaries(pool, queries), rtol=1e-5, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(pool=worded, queries=worded, seed=st.integers(0, 99))
def test_the_order_of_texts_does_not_count(pool: list[str], queries: list[str], seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(pool))
    mixed = [pool[i] for i in order]
    scores = Dsir.fit(pool, queries).scores(pool)
    assert np.array_equal(Dsir.fit(mixed, queries[::-1]).scores(mixed), scores[order])


def test_chunks_do_not_show_and_texts_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = [f"{i % 7} {i % 5} words" for i in range(30)]
    whole = Dsir.fit(pool, pool[:3]).scores(pool)
    monkeypatch.setattr(dsir, "_CHUNK", 4)
    drawn = []

    def stream() -> Iterator[str]:
        for text in pool:
            drawn.append(text)
            yield text

    fitted = Dsir.fit(stream(), pool[:3])
    assert np.array_equal(fitted.scores(stream()), whole)
    assert len(drawn) == 60
    drawn.clear()
    next(dsir._counts(stream()))
    assert len(drawn) == 4


def test_texts_like_the_target_score_higher() -> None:
    sums, films = ["3 plus 4 is 7", "what is 9 plus 2 ?"] * 5, ["a dull film", "the film is a joy"] * 5
    scores = Dsir.fit(sums + films, ["how much is 5 plus 6 ?"]).scores(["2 plus 3 is 5", "what a dull film"])
    assert scores[0] > scores[1]


def test_no_words() -> None:
    fitted = Dsir.fit(["a"], ["b"])
    assert fitted.scores(["", " \n"]).tolist() == [0, 0]
    assert fitted.scores([]).shape == (0,)
    with pytest.raises(DataError, match="the pool has no words"):
        Dsir.fit(["", " "], ["b"])
    with pytest.raises(DataError, match="the query set has no words"):
        Dsir.fit(["a"], [])


@pytest.mark.parametrize("smoothing", [0, -1, float("nan"), float("inf")])
def test_smoothing_must_be_above_zero(smoothing: float) -> None:
    with pytest.raises(SettingsError, match="must be above 0"):
        Dsir.fit(["a"], ["b"], smoothing=smoothing)


def test_smoothing_brings_the_distributions_together() -> None:
    weights = [Dsir.fit(["a a b"], ["c"], smoothing=s).scores(["a", "c"]) for s in (1e-8, 1e-4, 1)]
    assert all(a[0] < b[0] < 0 < b[1] < a[1] for a, b in pairwise(weights))


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.feature_extraction.text", None)
    with pytest.raises(SettingsError, match=re.escape("pip install 'handpick[text]'")):
        Dsir.fit(["a"], ["b"])


def test_the_fingerprint_is_plain() -> None:
    fingerprint = Dsir.fit(["a"], ["b"]).fingerprint()
    assert (fingerprint["kind"], fingerprint["buckets"], fingerprint["smoothing"]) == ("dsir", 10_000, 1e-8)
    assert Dsir.fit(["a"], ["b"], smoothing=1e-4).fingerprint() != fingerprint
