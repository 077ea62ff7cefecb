"""The supervisor itself: every change is counted, and what befalls one befalls that one."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.reliability.changes import TAKE_ROOM, WRITES, Answer, Call, can_supervise, supervise


@pytest.fixture(autouse=True)
def _supervised() -> None:
    if not can_supervise():
        pytest.skip("this system hands no calls to a supervisor (Linux on x86-64, seccomp)")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "watched").mkdir()
    return tmp_path / "watched"


def write_some(folder: Path) -> int:
    """Nine changes: two files, one of them appended to, a folder, a rename, a removal."""
    os.chdir(folder)
    (folder.parent / "elsewhere").write_text("not watched")
    Path("a").write_text("whole" * 20)
    os.mkdir("sub")
    os.replace("a", "sub/b")
    with open("journal", "ab", buffering=0) as lines:
        lines.write(b"one\n")
        lines.write(b"two, longer\n")
        os.fsync(lines.fileno())
    Path("sub/b").unlink()
    return 0


def left(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_change_is_seen_in_its_order(folder: Path) -> None:
    seen: list[Call] = []
    ended = supervise(lambda: write_some(folder), folder, seen.append)
    assert [(call.name, call.path) for call in seen] == [
        ("openat", "a"), ("write", "a"), ("mkdir", "sub"), ("rename", "sub/b"), ("openat", "journal"),
        ("write", "journal"), ("write", "journal"), ("fsync", "journal"), ("unlink", "sub/b"),
    ]  # fmt: skip
    assert [call.number for call in seen] == list(range(1, 10))
    assert (ended.status, ended.calls, ended.struck, ended.timed_out) == (0, 9, None, False)


@pytest.mark.parametrize(
    ("at", "there"),
    [
        (1, {}),
        (2, {"a": b""}),
        (3, {"a": b"whole" * 20}),
        (4, {"a": b"whole" * 20}),
        (5, {"b": b"whole" * 20}),
        (7, {"b": b"whole" * 20, "journal": b"one\n"}),
        (9, {"b": b"whole" * 20, "journal": b"one\ntwo, longer\n"}),
    ],
)
def test_a_kill_comes_before_the_change(at: int, there: dict[str, bytes], folder: Path) -> None:
    ended = supervise(lambda: write_some(folder), folder, lambda call: "kill" if call.number == at else None)
    assert ended.status == -signal.SIGKILL
    assert ended.struck is not None
    assert ended.struck.number == at
    assert left(folder) == there


def test_a_write_is_torn(folder: Path) -> None:
    def tear(call: Call) -> Answer:
        return "tear" if call.number == 7 and call.name in WRITES else None

    assert supervise(lambda: write_some(folder), folder, tear).status == -signal.SIGKILL
    assert left(folder)["journal"] == b"one\ntwo, l"


def test_a_refusal_is_the_systems_own_error(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def full(call: Call) -> Answer:
        return errno.ENOSPC if call.number >= 4 and (call.name in TAKE_ROOM or call.makes) else None

    ended = supervise(lambda: write_some(folder), folder, full)
    assert ended.status == 70  # a rename takes no room, a new file does
    assert "No space left on device: 'journal'" in capfd.readouterr().err
    assert left(folder) == {"b": b"whole" * 20}


def test_an_interrupt_is_one_of_python(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert (
        supervise(lambda: write_some(folder), folder, lambda call: "interrupt" if call.number == 3 else None).status
        == 70
    )
    assert "KeyboardInterrupt" in capfd.readouterr().err


def test_other_processes_that_it_starts_are_seen_and_killed(folder: Path) -> None:
    program = "import sys, time; open(sys.argv[1], 'w').write('x'); time.sleep(60)"

    def work() -> int:
        subprocess.run([sys.executable, "-c", program, str(folder / "theirs")], check=False)
        return 0

    began = time.monotonic()
    ended = supervise(work, folder, lambda call: "kill" if call.name == "write" else None)
    assert (ended.status, ended.struck and ended.struck.path) == (-signal.SIGKILL, "theirs")
    assert left(folder) == {"theirs": b""}
    assert time.monotonic() - began < 30


def test_one_that_hangs_is_ended_and_said_so(folder: Path) -> None:
    ended = supervise(lambda: time.sleep(60) or 0, folder, lambda call: None, limit=0.2)
    assert ended.timed_out
    killed = supervise(lambda: time.sleep(60) or 0, folder, lambda call: None, kill_after=0.2)
    assert (killed.status, killed.timed_out) == (-signal.SIGKILL, False)
