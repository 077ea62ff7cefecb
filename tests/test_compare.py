"""Two selections side by side, counted by hand and against the definitions."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handpick.compare import Heads, compare
from handpick.errors import DataError
from handpick.selection import Selection

POOL = [{"sha256": "aa", "rows": 9}]


def selection(ids: str | list[str], **changed: Any) -> Selection:
    """A selection whose example "a" is of the source "A", picked for the query "qa", and so on."""
    parts: dict[str, Any] = {
        "ids": list(ids),
        "scores": [1.0] * len(ids),
        "picked_for": [f"q{each}" for each in ids],
        "settings": {},
        "fingerprints": {"pool": {"files": POOL}},
        "record": lambda choice: json.dumps({"id": ids[choice], "source": ids[choice].upper()}).encode(),
    }
    return Selection(**parts | changed)


def test_what_is_shared_and_what_is_not() -> None:
    found = compare(selection("abcd"), selection("dxa"))
    assert (found.n_a, found.n_b, found.common) == (4, 3, 2)
    assert found.jaccard == 2 / 5
    assert found.only_a.ids == ["b", "c"]
    assert found.only_a.sources == {"B": 1, "C": 1}
    assert found.only_a.queries == {"qb": 1, "qc": 1}
    assert found.only_b.ids == ["x"]
    assert found.rank_correlation == -1
    assert found.same_pool is True


def test_a_selection_equals_itself() -> None:
    found = compare(selection("abc"), selection("abc"))
    assert (found.common, found.jaccard, found.rank_correlation) == (3, 1, 1)
    assert found.only_a.ids == found.only_b.ids == []
    assert {heads.overlap for heads in found.heads} == {1}


def test_selections_that_share_nothing() -> None:
    found = compare(selection("abc"), selection("xy"))
    assert (found.common, found.jaccard, found.rank_correlation) == (0, 0, None)
    assert {heads.overlap for heads in found.heads} == {0}
    assert compare(selection("ab"), selection("bc")).rank_correlation is None  # one example has no order


def test_heads_are_of_each_selections_own_length() -> None:
    first = [str(i) for i in range(20)]
    found = compare(selection(first), selection([*first[10:15], *first[:5]]))
    assert [heads.percent for heads in found.heads] == list(range(10, 101, 10))
    assert found.heads[0] == Heads(percent=10, n_a=2, n_b=1, common=0)
    assert found.heads[5] == Heads(percent=60, n_a=12, n_b=6, common=3)  # "10", "11" and "0"
    assert found.heads[-1] == Heads(percent=100, n_a=20, n_b=10, common=10)
    assert found.heads[5].overlap == 3 / 6


def test_counts_are_most_first_and_none_is_for_those_without() -> None:
    records = [b'{"source": "web"}', b'{"text": "no source"}', b'{"source": ["odd"]}', b'{"source": "code"}', b'"text"']
    picked_for = ["q1", None, "q2", "q2", "q3"]
    found = compare(selection("abcde", record=records.__getitem__, picked_for=picked_for), selection("x"))
    assert list(found.only_a.sources.items()) == [(None, 3), ("web", 1), ("code", 1)]
    assert list(found.only_a.queries.items()) == [("q2", 2), ("q1", 1), (None, 1), ("q3", 1)]


def test_only_records_of_examples_that_one_has_alone_are_read() -> None:
    read: list[int] = []

    def record(choice: int) -> bytes:
        read.append(choice)
        return b"{}"

    compare(selection("abcd", record=record), selection("bd"))
    assert read == [0, 2]


def test_selections_from_disk(tmp_path: Path) -> None:
    selection("abc").save(tmp_path / "a")
    selection("bcd").save(tmp_path / "b")
    found = compare(Selection.open(tmp_path / "a"), Selection.open(tmp_path / "b"))
    assert (found.only_a.sources, found.only_b.sources) == ({"A": 1}, {"D": 1})


@pytest.mark.parametrize(
    ("fingerprints", "same"),
    [
        ({"pool": {"files": [{"sha256": "aa", "rows": 9}]}}, True),
        ({"pool": {"files": [{"sha256": "bb", "rows": 9}]}}, False),
        ({"pool": {"files": [*POOL, *POOL]}}, False),
        ({"pool": {}}, None),
        ({}, None),
    ],
)
def test_whether_the_pools_are_the_same_is_told_by_the_bytes_of_their_files(
    fingerprints: dict[str, Any], same: bool | None
) -> None:
    assert compare(selection("ab"), selection("ab", fingerprints=fingerprints)).same_pool is same


def test_a_selection_that_is_none_is_refused() -> None:
    with pytest.raises(DataError, match="the second selection is empty"):
        compare(selection("a"), selection(""))
    with pytest.raises(DataError, match="the first selection has the id 'b' twice"):
        compare(selection("abcb"), selection("a"))


@given(
    ids_a=st.lists(st.sampled_from("abcdefghij"), min_size=1, unique=True),
    ids_b=st.lists(st.sampled_from("abcdefghij"), min_size=1, unique=True),
)
def test_equals_the_definitions(ids_a: list[str], ids_b: list[str]) -> None:
    found, turned = compare(selection(ids_a), selection(ids_b)), compare(selection(ids_b), selection(ids_a))
    common = set(ids_a) & set(ids_b)
    assert found.jaccard == len(common) / len(set(ids_a) | set(ids_b))
    assert found.only_a == turned.only_b
    assert set(found.only_a.ids) == set(ids_a) - set(ids_b)
    assert [heads.common for heads in found.heads] == [heads.common for heads in turned.heads]
    if len(common) < 2:
        assert found.rank_correlation is None
        return
    # Pearson's correlation of the ranks
    ranks_a = [sorted(common, key=ids_a.index).index(each) for each in common]
    ranks_b = [sorted(common, key=ids_b.index).index(each) for each in common]
    mean = (len(common) - 1) / 2
    product = sum((a - mean) * (b - mean) for a, b in zip(ranks_a, ranks_b, strict=True))
    assert found.rank_correlation == pytest.approx(product / sum((a - mean) ** 2 for a in ranks_a), abs=1e-12)
