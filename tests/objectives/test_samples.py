"""The journal of samples and rewards: one file that several processes add to."""

import subprocess
import sys
from pathlib import Path

import pytest

from handpick.errors import StoreError
from handpick.objectives.samples import KeyedJournal

WRITER = """
import sys
from pathlib import Path
from handpick.objectives.samples import KeyedJournal

path, name, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
for start in range(0, count, 5):
    journal = KeyedJournal(path)  # opening reads, and must not cut off what the other is writing
    journal.add((f"{name}-{i}", "é" * 3000 + str(i)) for i in range(start, start + 5))
"""


def test_two_processes_add_to_one_file(tmp_path: Path) -> None:
    path, count = tmp_path / "samples.jsonl", 200
    both = [subprocess.Popen([sys.executable, "-c", WRITER, path, name, str(count)]) for name in "ab"]
    assert [process.wait() for process in both] == [0, 0]
    journal = KeyedJournal(path)
    assert len(list(journal.values())) == 2 * count
    assert all(journal[f"{name}-{i}"] == "é" * 3000 + str(i) for name in "ab" for i in range(count))
    keys = [line[:12] for line in path.read_bytes().splitlines()]
    batches = [keys[start : start + 5] for start in range(0, len(keys), 5)]
    assert all(len({key[9:10] for key in batch}) == 1 for batch in batches)  # those of one call stand together


@pytest.mark.parametrize("left", [b'{"key": "12', b'{"key": "b", "value": 1'])
def test_half_a_line_of_a_killed_writer_is_taken_away(tmp_path: Path, left: bytes) -> None:
    path = tmp_path / "samples.jsonl"
    open_all_along = KeyedJournal(path)
    open_all_along.add([("a", 1)])
    whole = path.read_bytes()
    with path.open("ab") as file:
        file.write(left)
    assert list(KeyedJournal(path).values()) == [1]
    assert path.read_bytes() == whole
    with path.open("ab") as file:  # another writer is killed while this one has the file open
        file.write(left)
    open_all_along.add([("b", 2)])
    assert path.read_bytes().startswith(whole + b'{"key": "b", "value": 2, ')
    assert list(KeyedJournal(path).values()) == [1, 2]


@pytest.mark.parametrize("damage", [(b'"value": 1', b'"value": 7'), (b'"key": "a"', b'"kex": "a"'), (b"{", b"[")])
def test_a_damaged_line_is_left_out_and_said(
    tmp_path: Path, damage: tuple[bytes, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "samples.jsonl"
    KeyedJournal(path).add([("a", 1), ("b", 2)])
    path.write_bytes(path.read_bytes().replace(*damage, 1))
    damaged = KeyedJournal(path)
    assert ("a" in damaged, list(damaged.values())) == (False, [2])
    assert f"{path}: 1 of 2 lines are damaged" in "".join(capsys.readouterr().err.splitlines())
    damaged.add([("a", 1)])
    assert sorted(KeyedJournal(path).values()) == [1, 2]


def test_lines_of_before_have_no_digest(tmp_path: Path) -> None:
    (tmp_path / "samples.jsonl").write_text('{"key": "a", "value": 1}\n')
    assert KeyedJournal(tmp_path / "samples.jsonl")["a"] == 1


def test_what_is_there_is_not_written_again(tmp_path: Path) -> None:
    journal = KeyedJournal(tmp_path / "samples.jsonl")
    journal.add([("a", [1.5])])
    before = journal.path.read_bytes()
    journal.add([("a", [1.5])])
    assert journal.path.read_bytes() == before


def test_a_full_disk_leaves_no_half_entry(tmp_path: Path) -> None:
    import resource

    path = tmp_path / "samples.jsonl"
    journal = KeyedJournal(path)
    journal.add([("a", 1)])
    whole = path.read_bytes()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))  # Python ignores the signal, and gets an OSError
    try:
        with pytest.raises(StoreError, match="cannot be written"):
            journal.add([("b", "x" * 2000)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_bytes() == whole
    assert "b" not in journal
