"""BM25 against its formula, word by word."""

import math
import re
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("bm25s")

from handpick.errors import DataError, SettingsError
from handpick.scorers.bm25 import Bm25

texts = st.lists(st.sampled_from(["a", "b", "ccc", "12", "Ä", ",", "the"]), max_size=8).map(" ".join)


def by_loops(pool: list[str], queries: list[str], k1: float, b: float) -> list[list[float]]:
    words = [re.findall(r"[^\W_]+", text.casefold()) for text in pool]
    mean_length = sum(len(w) for w in words) / len(words)
    rows = []
    for query in queries:
        row = []
        for candidate in words:
            score = 0.0
            for word in re.findall(r"[^\W_]+", query.casefold()):
                having = sum(word in other for other in words)
                count = candidate.count(word)
                if count:
                    idf = math.log(1 + (len(words) - having + 0.5) / (having + 0.5))
                    score += idf * count / (count + k1 * (1 - b + b * len(candidate) / mean_length))
            row.append(score)
        rows.append(row)
    return rows


@settings(max_examples=100, deadline=None)
@given(
    pool=st.lists(texts, min_size=1, max_size=7),
    queries=st.lists(texts, max_size=4),
    k1=st.floats(0.1, 3),
    b=st.floats(0, 1),
)
def test_equals_the_double_loop(pool: list[str], queries: list[str], k1: float, b: float) -> None:
    scores = Bm25(iter(pool), k1=k1, b=b).scores(queries)
    assert (scores.dtype, scores.shape) == (np.float32, (len(queries), len(pool)))
    expected = np.array(by_loops(pool, queries, k1, b)).reshape(scores.shape)
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-6)


def test_blocks_of_queries_give_the_rows_of_the_whole() -> None:
    rng = np.random.default_rng(0)
    pool = [" ".join(map(str, rng.integers(0, 50, rng.integers(0, 30)))) for _ in range(200)]
    index, again = Bm25(pool), Bm25(pool)
    whole = index.scores(pool[:20])
    assert np.array_equal(whole, np.concatenate([index.scores(pool[:7]), again.scores(pool[7:20])]))
    alike = [q for q in range(20) if pool[q]]
    assert [int(whole[q].argmax()) for q in alike] == alike


def test_nothing_shared_is_zero() -> None:
    index = Bm25(["one two", "", "three"])
    scores = index.scores(["", "?!", "four", "THREE"])
    assert not scores[:3].any()
    assert (scores[3] > 0).tolist() == [False, False, True]
    assert Bm25(["", "…"]).scores(["one"]).tolist() == [[0, 0]]
    assert index.scores([]).shape == (0, 3)


def test_writing_without_spaces_is_cut_into_characters() -> None:
    assert Bm25(["東京は大きい", "パリ"]).scores(["東京"])[0, 0] > 0


def test_bad_input() -> None:
    with pytest.raises(DataError, match="no text"):
        Bm25([])
    for wrong in ({"k1": 0}, {"k1": float("nan")}, {"b": -0.1}, {"b": 1.1}):
        with pytest.raises(SettingsError, match="k1 must be above 0"):
            Bm25(["a"], **wrong)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bm25s", None)
    with pytest.raises(SettingsError, match=re.escape("pip install 'handpick[text]'")):
        Bm25(["a"])


def test_the_settings_are_in_the_fingerprint() -> None:
    assert Bm25(["a"]).fingerprint() == Bm25(["b"]).fingerprint()
    assert Bm25(["a"], k1=1.2).fingerprint() != Bm25(["a"]).fingerprint() != Bm25(["a"], b=0.5).fingerprint()


def test_it_is_silent_and_works_without_numba() -> None:
    code = (
        "import sys; sys.modules['numba'] = None\n"
        "from handpick.scorers.bm25 import Bm25\n"
        "Bm25(['a b'] * 50).scores(['a'] * 5)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout + ran.stderr == ""
