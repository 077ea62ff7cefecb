import numpy as np
import pytest

from handpick.data.examples import Conversation, Message
from handpick.data.formats import Conversations
from handpick.data.ids import content_id, explicit_id, id_key, numbered_id, settle_ids
from handpick.errors import DataError


def settle(*ids: tuple[str, bool]) -> tuple[dict[int, int], dict[int, int]]:
    keys = np.array([id_key(id) for id, _ in ids], dtype=np.uint64)
    explicit = np.array([own for _, own in ids], dtype=bool)
    return tuple(settle_ids(keys, explicit, lambda row: ids[row][0]))


def test_explicit_id() -> None:
    assert [explicit_id({"id": id}) for id in ("a", 7, 0, None, "")] == ["a", "7", "0", None, None]
    assert explicit_id({}) is None
    for unusable in (True, 1.5, ["a"]):
        with pytest.raises(DataError, match=r"unusable id: `id` is a (bool|float|list)"):
            explicit_id({"id": unusable})


def test_content_id_depends_on_what_is_said_and_by_whom() -> None:
    def turns(*contents: str) -> Conversation:
        return Conversation(Message("user", content) for content in contents)

    ids = [
        content_id(Conversations(turns("a", "b"))),
        content_id(Conversations(turns("ab"))),
        content_id(Conversations(Conversation([Message("assistant", "ab")]))),
        content_id(Conversations(turns("ab"), turns("c"))),
    ]
    assert len(set(ids)) == 4
    assert ids[1] == content_id(Conversations(turns("ab"))) == "f648d25952a34ee3"  # written into people's files: fixed


def test_unique_ids_are_left_alone() -> None:
    assert settle(("a", True), ("b", False), ("c", True)) == ({}, {})


def test_explicit_repetitions_are_set_aside_and_the_others_numbered() -> None:
    occurrence, first_of = settle(("a", True), ("h", False), ("a", True), ("h", False), ("h", False), ("a", True))
    assert first_of == {2: 0, 5: 0}
    assert occurrence == {3: 2, 4: 3}


def test_a_numbered_id_that_somebody_has_is_passed_over() -> None:
    occurrence, first_of = settle((numbered_id("h", 2), True), ("h", False), ("h", False), ("h", False))
    assert (occurrence, first_of) == ({2: 3, 3: 4}, {})


def test_equal_digests_of_different_ids_are_no_repetition() -> None:
    names = ["a", "b", "a"]
    settled = settle_ids(np.zeros(3, dtype=np.uint64), np.ones(3, dtype=bool), names.__getitem__)
    assert settled.first_of == {2: 0}


def test_a_whole_number_that_pandas_made_a_float_is_one() -> None:
    assert [explicit_id({"id": id}) for id in (12.0, -3.0, 1e3)] == ["12", "-3", "1000"]
    with pytest.raises(DataError, match=r"unusable id: `id` is a float"):
        explicit_id({"id": float("nan")})
