"""A selection: what it writes, and that what was saved opens as the same selection."""

import errno
import json
from pathlib import Path
from typing import Any

import pytest

from handpick.errors import DataError, StoreError
from handpick.selection import Selection

# Spacing, key order, escapes, a carriage return: nothing of a record may change on its way through.
RAW = [
    b'{"id": "a",  "messages": [{"role": "user", "content": "2+2?"}]}',
    b'{"messages":[], "id":"b", "extra": {"x": 1.50}, "u": "\\u00e9"}',
    '{"id": "ü", "messages": [{"role": "user", "content": "x\u2028y"}]}\r'.encode(),
]


def selection(raw: list[bytes] = RAW, **changed: Any) -> Selection:
    parts: dict[str, Any] = {
        "ids": ["a", "b", "ü"],
        "scores": [0.5, 0.25, -0.125],
        "picked_for": ["q1", "q2", None],
        "settings": {"budget": "3", "algorithm": "round-robin"},
        "fingerprints": {"space": {"seed": 0}},
        "record": raw.__getitem__,
    }
    return Selection(**parts | changed)


def test_to_jsonl_writes_the_pools_own_bytes_in_order_of_choice(tmp_path: Path) -> None:
    selection().to_jsonl(tmp_path / "chosen.jsonl")
    assert (tmp_path / "chosen.jsonl").read_bytes() == b"".join(line + b"\n" for line in RAW)
    assert [path.name for path in tmp_path.iterdir()] == ["chosen.jsonl"]


def test_what_was_saved_opens_again(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "gsm8k"
    selection().save(folder)
    opened = Selection.open(folder)
    for part in ("ids", "scores", "picked_for", "settings", "fingerprints"):
        assert getattr(opened, part) == getattr(selection(), part)
    assert [opened.record(choice) for choice in range(3)] == RAW
    opened.to_jsonl(tmp_path / "again.jsonl")
    assert (tmp_path / "again.jsonl").read_bytes() == (folder / "selected.jsonl").read_bytes()


def test_an_opened_selection_may_be_saved_where_it_came_from(tmp_path: Path) -> None:
    selection().save(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    Selection.open(tmp_path).save(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_summary_names_its_schema(tmp_path: Path) -> None:
    selection().save(tmp_path)
    summary = json.loads((tmp_path / "selection.json").read_text())
    assert summary["schema_version"] == 1
    assert "handpick_version" in summary
    assert summary["ids"] == ["a", "b", "ü"]


def test_records_are_read_only_when_needed() -> None:
    def never(_: int) -> bytes:
        raise AssertionError("a record was read")

    assert len(selection(record=never)) == 3
    assert "3 examples" in repr(selection(record=never))


def test_to_dataset_keeps_fields_that_only_some_records_have() -> None:
    dataset = selection().to_dataset()
    assert dataset["id"][:] == ["a", "b", "ü"]
    assert dataset["u"][:] == [None, "é", None]


def test_to_dataset_says_when_the_records_do_not_fit_one_table() -> None:
    mixed = [b'{"answer": 1}', b'{"answer": "one"}', b'{"answer": [1]}']
    with pytest.raises(DataError, match="use to_jsonl instead"):
        selection(mixed).to_dataset()


def test_repr_is_for_people() -> None:
    assert repr(selection()) == "Selection of 3 examples; first 'a' for 'q1', score 0.5"
    assert repr(selection(ids=["a"], scores=[0.0], picked_for=[None])) == "Selection of 1 example; first 'a', score 0"


def test_open_names_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"selection\.json"):
        Selection.open(tmp_path)
    selection().save(tmp_path)
    (tmp_path / "selected.jsonl").unlink()
    with pytest.raises(StoreError, match=r"selected\.jsonl"):
        Selection.open(tmp_path)


def test_open_refuses_what_does_not_hold_together(tmp_path: Path) -> None:
    selection().save(tmp_path)
    with (tmp_path / "selected.jsonl").open("ab") as file:
        file.write(b"{}\n")
    with pytest.raises(StoreError, match=r"3 ids and .* 4 records"):
        Selection.open(tmp_path)
    (tmp_path / "selection.json").write_text('{"schema_version": 2, "handpick_version": "9.0"}')
    with pytest.raises(StoreError, match=r"schema version 2 .* handpick 9\.0"):
        Selection.open(tmp_path)
    (tmp_path / "selection.json").write_text("{")
    with pytest.raises(StoreError, match="is damaged"):
        Selection.open(tmp_path)


def test_a_full_disk_is_a_clear_error_and_keeps_what_stood_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    selection().to_jsonl(tmp_path / "chosen.jsonl")

    def no_space(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", no_space)
    with pytest.raises(StoreError, match=r"chosen\.jsonl cannot be written .*No space left on device"):
        selection(RAW[::-1]).to_jsonl(tmp_path / "chosen.jsonl")
    assert (tmp_path / "chosen.jsonl").read_bytes().startswith(RAW[0])
    assert [path.name for path in tmp_path.iterdir()] == ["chosen.jsonl"]
