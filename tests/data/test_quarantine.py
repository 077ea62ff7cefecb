import json
from pathlib import Path

import pytest

from handpick.data.quarantine import Quarantine
from handpick.errors import DataError


def add(quarantine: Quarantine, reason: str, raw: bytes = b"{") -> None:
    quarantine.add(file="a.jsonl", line=3, id=None, reason=reason, raw=raw)


def test_writes_what_was_set_aside_and_counts_it_by_kind(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path / "run" / "quarantine.jsonl")
    assert quarantine.summary() == "no records set aside"
    add(quarantine, "malformed JSON: at column 7")
    assert quarantine.summary().startswith("1 record set aside (1 malformed JSON): ")
    add(quarantine, "malformed JSON: at column 9", "né\xff".encode("latin-1"))
    add(quarantine, "unknown role: wizard")
    assert quarantine.count == 3
    assert quarantine.summary() == f"3 records set aside (2 malformed JSON, 1 unknown role): {quarantine.path}"
    entries = [json.loads(line) for line in quarantine.path.read_text("utf-8").splitlines()]
    assert entries[0] == {"file": "a.jsonl", "line": 3, "id": None, "reason": "malformed JSON: at column 7", "raw": "{"}
    assert entries[1]["raw"] == r"n\xe9\xff"


def test_stops_past_its_limit(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path / "quarantine.jsonl", limit=1)
    add(quarantine, "not UTF-8")
    with pytest.raises(DataError, match="more bad records than the limit of 1: 2 records set aside"):
        add(quarantine, "not UTF-8")
    assert len(quarantine.path.read_text().splitlines()) == 2


def test_forgets_an_earlier_run(tmp_path: Path) -> None:
    add(Quarantine(tmp_path / "q.jsonl"), "not UTF-8")
    assert Quarantine(tmp_path / "q.jsonl").count == 0
    assert not (tmp_path / "q.jsonl").exists()


def test_says_where_it_cannot_write(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"cannot write .*file/q\.jsonl"):
        Quarantine(tmp_path / "file" / "q.jsonl")
