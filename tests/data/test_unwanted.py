"""Answers that were judged by themselves: set aside where examples are learnt, paired where preferences are read."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from handpick.data.pool import Pool
from handpick.data.quarantine import Quarantine
from handpick.errors import DataError


def judged(prompt: str, answer: str, label: bool | None) -> dict[str, Any]:
    return {"id": answer, "prompt": prompt, "completion": answer, "label": label}


RECORDS = [
    judged("1", "a+", True), judged("1", "a-", False), judged("2", "b-", False), judged("1", "c-", False),
    judged("3", "d", None), judged("2", "e+", True), judged("1", "f+", True), judged("2", "g-", False),
    judged("4", "h+", True),
]  # fmt: skip


@pytest.fixture
def open_judged(tmp_path: Path, quarantine: Quarantine) -> Callable[..., Pool]:
    def open_(records: list[dict[str, Any]] = RECORDS, **how: Any) -> Pool:
        file = tmp_path / "a.jsonl"
        file.write_text("".join(json.dumps(record) + "\n" for record in records))
        return Pool.open(file, cache=tmp_path / "cache", quarantine=quarantine, **how)

    return open_


def test_unwanted_answers_are_set_aside_and_counted(
    open_judged: Callable[..., Pool], quarantine: Quarantine, set_aside: Callable[[], list[dict[str, Any]]]
) -> None:
    pool = open_judged()
    assert pool.ids() == ["a+", "d", "e+", "f+", "h+"]
    assert [pool.location(row)[1] for row in range(5)] == [1, 5, 6, 7, 9]
    assert quarantine.summary().startswith("4 records set aside (4 answer labelled unwanted): ")
    assert [(entry["line"], entry["id"]) for entry in set_aside()] == [(2, "a-"), (3, "b-"), (4, "c-"), (8, "g-")]
    assert pool.judged.sentences() == ["4 set aside, each an answer labelled unwanted (KTO)"]
    assert pool.files[0].rows == 5


def test_answers_of_one_prompt_are_paired_in_their_order(
    open_judged: Callable[..., Pool], quarantine: Quarantine, set_aside: Callable[[], list[dict[str, Any]]]
) -> None:
    pool = open_judged(unwanted="pair")
    pairs = {each.id: None if each.rejected is None else each.rejected[-1].content for each in pool.examples(0, 9)}
    assert pairs == {"a+": "a-", "d": None, "e+": "b-", "f+": "c-"}
    assert {entry["id"]: entry["reason"].partition(":")[0] for entry in set_aside()} == {
        "g-": "unpaired answer",
        "h+": "unpaired answer",
    }
    assert (
        pool.judged.sentences()[-1]
        == "3 pairs of answers labelled wanted and unwanted, of one prompt each, in their order"
    )
    again = pickle.loads(pickle.dumps(pool))  # another process opens it the same way
    assert again.examples(0, 9) == pool.examples(0, 9)


def test_they_may_be_kept(open_judged: Callable[..., Pool], quarantine: Quarantine) -> None:
    assert len(open_judged(unwanted="keep")) == 9
    assert quarantine.count == 0


def test_a_pool_of_unwanted_answers_alone_is_none(open_judged: Callable[..., Pool]) -> None:
    with pytest.raises(DataError, match=r"no usable record in .*1 record set aside \(1 answer labelled unwanted\)"):
        open_judged([judged("1", "a-", False)])
