"""A file's lock: who is told, when it goes, and what each who takes one does where there is none."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from handpick.errors import JudgeError, StoreError
from handpick.files import atomic_write
from handpick.judge.journal import Journal
from handpick.locks import lock_file
from handpick.objectives.samples import KeyedJournal
from handpick.own_folder import hold_folder

HOLD = """
import sys
from handpick.locks import lock_file
file = open(sys.argv[1], "r+b")
lock_file(file, shared=sys.argv[2] == "shared")
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(
    ("theirs", "ours", "free"), [("alone", False, False), ("shared", False, False), ("shared", True, True)]
)
def test_a_lock_is_another_processs_until_that_is_dead(theirs: str, ours: bool, free: bool, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    command = [sys.executable, "-c", HOLD, path, theirs]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other, path.open("r+b") as file:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        if free:
            lock_file(file, shared=ours)
        else:
            with pytest.raises(BlockingIOError):
                lock_file(file, shared=ours)
        os.kill(other.pid, signal.SIGKILL)
        other.wait()
        lock_file(file, wait=True)
        with path.open("rb") as again, pytest.raises(BlockingIOError):
            lock_file(again)
    with path.open("rb") as file:  # gone with the file that was closed
        lock_file(file)


def test_without_locks_what_is_added_to_is_refused_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_locks(file: object, how: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", no_locks)
    why = r"its file system keeps no locks \(Operation not supported\)"
    with pytest.raises(OSError, match=why), (tmp_path / "file").open("wb") as file:
        lock_file(file)
    with pytest.raises(JudgeError, match=rf"^cannot write the judge's answers to .*judge.jsonl: {why}; "):
        Journal(tmp_path / "judge.jsonl").open().__enter__()
    journal = KeyedJournal(tmp_path / "answers.jsonl")
    with pytest.raises(StoreError, match=rf"answers.jsonl cannot be written \({why}\); mend that, or name another"):
        journal.add([("a", 1)])
    atomic_write(tmp_path / "whole", b"whole")
    assert (tmp_path / "whole").read_bytes() == b"whole"
    with hold_folder(tmp_path / "run"):
        pass
    said = " ".join(capsys.readouterr().err.split())
    assert "this file system does not keep a second run out of" in said


@pytest.mark.parametrize("module", ["handpick.cli", "handpick.files", "handpick.selection"])
def test_a_system_without_them_is_refused_by_name(module: str) -> None:
    program = f"import sys; sys.modules['fcntl'] = None; import {module}"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert found.stderr.strip().splitlines()[-1] == (
        "ImportError: handpick runs on Linux and macOS: it needs their locks on files (fcntl); "
        "on Windows, run it in WSL"
    )
