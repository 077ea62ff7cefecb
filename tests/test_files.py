"""Files are there whole or not at all, and what dead writers have left goes."""

import fcntl
import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from handpick.files import (
    atomic_write,
    crc32_of,
    move_file,
    open_atomically,
    open_private,
    place_folder,
    read_array,
    remove_left_overs,
    write_array,
)
from tests.conftest import refuse_removal

KILLED = """
import os, signal, sys
from pathlib import Path
from handpick.files import open_atomically
with open_atomically(Path(sys.argv[1])) as file:
    file.write(b"half")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_writer_left_is_removed_and_what_a_live_one_writes_is_not(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED, tmp_path / "a"], check=False)
    (tmp_path / "mine.partial").write_text("of the user")
    with open_atomically(tmp_path / "b") as file:
        file.write(b"whole")
        assert len(list(tmp_path.glob(".*.partial"))) == 2
        remove_left_overs(tmp_path)
        assert [path.name[:3] for path in tmp_path.glob(".*.partial")] == [".b."]
    assert {path.name for path in tmp_path.iterdir()} == {"b", "mine.partial"}
    assert (tmp_path / "b").read_bytes() == b"whole"


def test_a_name_that_was_taken_for_a_left_over_is_given_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = fcntl.flock

    def lock_too_late(file: object, how: int) -> None:
        monkeypatch.setattr("fcntl.flock", lock)
        for path in tmp_path.glob(".*.partial"):
            path.unlink()

    monkeypatch.setattr("fcntl.flock", lock_too_late)
    atomic_write(tmp_path / "a", b"whole")
    assert (tmp_path / "a").read_bytes() == b"whole"


def test_a_file_system_without_locks_is_written_to_and_not_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(file: object, how: int) -> None:
        raise OSError("Operation not supported")

    monkeypatch.setattr("fcntl.flock", no_locks)
    (tmp_path / ".a.0.partial").write_text("of who knows whom")
    atomic_write(tmp_path / "b", b"whole")
    remove_left_overs(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"b", ".a.0.partial"}


@pytest.mark.parametrize("umask", [0o022, 0o007, 0])
def test_what_is_private_is_its_owners_from_the_first_byte_and_the_rest_is_as_the_user_has_it(
    umask: int, tmp_path: Path
) -> None:
    def mode(path: Path) -> int:
        return stat.S_IMODE(path.stat().st_mode)

    before = os.umask(umask)
    try:
        (tmp_path / "of before").touch()
        for path in (tmp_path / "of before", tmp_path / "new"):
            with open_atomically(path, private=True) as file:
                assert mode(Path(file.name)) == 0o600
                file.write(b"answer")
            assert mode(path) == 0o600
        atomic_write(tmp_path / "shared", b"record")
        assert mode(tmp_path / "shared") == 0o666 & ~umask
        for name in ("shared", "journal"):  # one of an earlier handpick's, and a new one
            os.close(open_private(tmp_path / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT))
            assert mode(tmp_path / name) == 0o600
    finally:
        os.umask(before)
    assert (tmp_path / "shared").read_bytes() == b"record"


def test_all_is_synced_before_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[tuple[str, str]] = []
    sync, replace = os.fsync, os.replace

    def note_sync(descriptor: int) -> None:
        events.append(("sync", Path(os.readlink(f"/proc/self/fd/{descriptor}")).name))
        sync(descriptor)

    def note_name(source: Path, target: Path) -> None:
        events.append(("name", Path(target).name))
        replace(source, target)

    monkeypatch.setattr("os.fsync", note_sync)
    monkeypatch.setattr("os.replace", note_name)
    part = tmp_path / "part"
    (part / "inner").mkdir(parents=True)
    for name in ("a", "inner/b"):
        (part / name).write_text(name)
    place_folder(part, tmp_path / "whole")
    before, after = events[: events.index(("name", "whole"))], events[events.index(("name", "whole")) + 1 :]
    assert {name for _, name in before} == {"a", "b", "inner", "part"}
    assert after == [("sync", tmp_path.name)]

    events.clear()
    move_file(tmp_path / "whole" / "a", tmp_path / "a")
    assert events == [("sync", "a"), ("name", "a"), ("sync", tmp_path.name)]

    events.clear()
    atomic_write(tmp_path / "c", b"c")
    assert [what for what, _ in events] == ["sync", "name", "sync"]


@pytest.mark.parametrize("array", [np.arange(7.0), np.zeros((0, 3), np.int64), np.ones((2, 3), np.float32)])
def test_a_changed_array_is_refused(array: np.ndarray, tmp_path: Path) -> None:  # type: ignore[type-arg]
    path = tmp_path / "array.npy"
    write_array(path, array)
    np.testing.assert_array_equal(read_array(path), array)
    np.testing.assert_array_equal(np.load(path), array)  # as anybody else reads it
    good = path.read_bytes()
    for at in range(len(good)):
        path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        with pytest.raises(ValueError):  # NumPy's words where the header is hit
            read_array(path)
    for length in range(len(good)):
        path.write_bytes(good[:length])
        if length != len(good) - len(b"crc32...."):  # cut there it is one of before
            with pytest.raises(ValueError):
                read_array(path)


def test_an_array_of_before_is_read(tmp_path: Path) -> None:
    np.save(tmp_path / "array.npy", np.arange(5))
    np.testing.assert_array_equal(read_array(tmp_path / "array.npy"), np.arange(5))


def test_the_checksum_of_a_long_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    import zlib

    data = np.random.default_rng(0).bytes((1 << 20) * 2 + 17)
    (tmp_path / "file").write_bytes(data)
    assert crc32_of(tmp_path / "file") == zlib.crc32(data)


def test_what_went_wrong_is_said_though_the_partial_file_cannot_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop() -> None:
        refuse_removal(monkeypatch)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), open_atomically(tmp_path / "a"):
        stop()
    monkeypatch.undo()
    assert not (tmp_path / "a").exists()
    remove_left_overs(tmp_path)
    assert list(tmp_path.iterdir()) == []
