"""Parsed records are those of the source, or are parsed anew."""

import gc
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from handpick.data import cache as parsed
from handpick.data.memory import hold_records
from handpick.data.pool import Pool
from handpick.data.quarantine import Quarantine
from handpick.errors import DataError
from tests.conftest import write_jsonl

RECORDS = [{"id": f"g{i}", "messages": [{"role": "user", "content": f"question {i}"},
            {"role": "assistant", "content": f"answer {i}"}]} for i in range(12)]  # fmt: skip


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes() or b"x")
    data[data.rindex(b"answer 7") if b"answer 7" in data else len(data) // 2] ^= 0x20
    path.write_bytes(data)


WAYS: dict[str, Callable[[Path], object]] = {
    "flipped": flip,
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-3]),
    "emptied": lambda path: path.write_bytes(b""),
    "gone": Path.unlink,
    "lengthened": lambda path: path.write_bytes(path.read_bytes() + b"}"),
}


@pytest.fixture
def pool_file(tmp_path: Path) -> Path:
    path = write_jsonl(tmp_path / "pool.jsonl", RECORDS)
    path.write_bytes(path.read_bytes() + b"{not JSON}\n")
    return path


def tree(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def open_pool(source: object, folder: Path) -> Pool:
    return Pool.open([source], cache=folder / "parsed", quarantine=Quarantine(folder / "quarantine.jsonl"))  # type: ignore[list-item]


@pytest.mark.parametrize("suffix", ["arrow", "jsonl", "crc32.json"])
@pytest.mark.parametrize("way", WAYS)
def test_a_damaged_file_is_parsed_anew(
    way: str, suffix: str, pool_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    open_pool(pool_file, tmp_path)
    before = tree(tmp_path / "parsed")
    WAYS[way](next((tmp_path / "parsed").glob(f"*[0-9a-f].{suffix}")))
    capsys.readouterr()
    pool = open_pool(pool_file, tmp_path)
    is_of_before = (way, suffix) == ("gone", "crc32.json")
    assert ("is parsed anew" in " ".join(capsys.readouterr().err.split())) == (not is_of_before)
    assert [pool.raw(row) for row in range(len(pool))] == pool_file.read_bytes().splitlines()[: len(RECORDS)]
    assert tree(tmp_path / "parsed") == before
    assert len((tmp_path / "quarantine.jsonl").read_text().splitlines()) == 1


def test_a_table_of_before_is_parsed_anew_where_that_can_be_written(
    pool_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_pool(pool_file, tmp_path)
    before = tree(tmp_path / "parsed")
    (checksums,) = (tmp_path / "parsed").glob("*.crc32.json")
    checksums.unlink()
    with monkeypatch.context() as patched:
        patched.setattr(os, "access", lambda path, mode: False)
        patched.setattr(parsed, "_write", lambda *_: pytest.fail("parsed again"))
        assert len(open_pool(pool_file, tmp_path)) == len(RECORDS)
    assert not checksums.exists()
    assert len(open_pool(pool_file, tmp_path)) == len(RECORDS)
    assert tree(tmp_path / "parsed") == before


def test_what_a_dead_process_left_half_parsed_is_removed(pool_file: Path, tmp_path: Path) -> None:
    (tmp_path / "parsed").mkdir()
    left = tmp_path / "parsed" / ".0123456789abcdef.arrow.00.partial"  # of a source that has changed since
    left.write_bytes(b"half")
    open_pool(pool_file, tmp_path)
    assert not left.exists()


def test_damaged_records_that_nobody_holds_are_refused_until_they_are_handed_over_again(tmp_path: Path) -> None:
    held = hold_records(RECORDS, "pool")
    name = held.name
    open_pool(name, tmp_path)
    (table,) = (tmp_path / "parsed").glob("*.arrow")
    flip(table)
    del held
    gc.collect()
    with pytest.raises(DataError, match=rf"{table} is damaged or gone: hand the records of {name} over again"):
        open_pool(name, tmp_path)
    held = hold_records(RECORDS, "pool")
    assert open_pool(held.name, tmp_path)[7].messages[1].content == "answer 7"


def test_a_table_of_before_is_all_there_is_of_records_that_nobody_holds(tmp_path: Path) -> None:
    held = hold_records(RECORDS, "pool")
    name = held.name
    open_pool(name, tmp_path)
    next((tmp_path / "parsed").glob("*.crc32.json")).unlink()
    del held
    gc.collect()
    assert len(open_pool(name, tmp_path)) == len(RECORDS)
