"""A run that is stopped, by a person, by the system or by a full disk, goes on and ends with the very same bytes."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import handpick
from handpick.cli import app
from handpick.errors import StoreError
from handpick.settings import parse_settings
from tests.pipeline.conftest import Finished

# The command line, in a process that gets a real signal right after the first shard of the pool is there.
STOPPED_AFTER_A_SHARD = """
import os, signal, sys
from handpick.cli import app
from handpick.store import FeatureStore

write_shard = FeatureStore.write_shard

def write_shard_and_stop(store, *args):
    write_shard(store, *args)
    if store.path.name == "pool":
        os.kill(os.getpid(), {signal})

FeatureStore.write_shard = write_shard_and_stop
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs inherit that it is ignored
app(["run", sys.argv[1]])
"""


def results(folder: Path) -> dict[str, bytes]:
    """The bytes of all that must not depend on whether a run was stopped."""
    patterns = ("features/*/shards/**/*", "features/*/manifest.json", "selected.jsonl")
    paths = [path for pattern in patterns for path in folder.glob(pattern) if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def ids(folder: Path) -> list[str]:
    chosen: list[str] = json.loads((folder / "selection.json").read_text())["ids"]
    return chosen


@pytest.mark.parametrize("stop", [signal.SIGINT, pytest.param(signal.SIGKILL, marks=pytest.mark.slow)])
def test_a_run_that_was_stopped_goes_on(
    stop: signal.Signals, finished: Finished, given: dict[str, Any], tmp_path: Path
) -> None:
    out, config = tmp_path / "out", tmp_path / "run.yaml"
    config.write_text(parse_settings(given | {"out": str(out)}).to_yaml())
    code = STOPPED_AFTER_A_SHARD.format(signal=int(stop))
    run = subprocess.run([sys.executable, "-c", code, str(config)], capture_output=True, text=True, check=False)
    store = handpick.FeatureStore.open(out / "features" / "pool", allow_incomplete=True)
    assert (len(store.shards()), len(store.missing(0))) == (3, 2)
    assert not (out / "selection.json").exists()
    if stop == signal.SIGINT:
        assert run.returncode == 130
        assert run.stderr.splitlines()[-1].startswith("handpick: stopped. What was computed is kept")
        assert "Traceback" not in run.stderr
    else:
        assert run.returncode == -signal.SIGKILL

    again = CliRunner().invoke(app, ["run", str(config)])
    assert again.exit_code == 0
    assert "warmup" not in again.stderr  # it had been finished
    assert results(out) == results(finished.folder)
    assert ids(out) == finished.selection.ids


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of four megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if not mounted or mounted.returncode:
        pytest.skip("mounting a small file system takes a root user, on Linux")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill_up(disk: Path, leave: int) -> Path:
    """A file that takes all room of a disk but ``leave`` bytes."""
    ballast, free = disk / "ballast", shutil.disk_usage(disk).free
    ballast.write_bytes(bytes(free - leave))
    return ballast


def test_a_disk_that_runs_full_during_the_features(finished: Finished, given: dict[str, Any], small_disk: Path) -> None:
    out = small_disk / "out"
    shutil.copytree(finished.folder / "warmup", out / "warmup")
    shutil.copytree(finished.folder / "features" / "parsed", out / "features" / "parsed")
    ballast = fill_up(
        small_disk, leave=180_000
    )  # room for the queries and one shard of 16 × 1024 × 4 bytes, and not for two
    with pytest.raises(StoreError, match=r"cannot write .*0-1\.safetensors: No space left on device"):
        handpick.select(**given, out=str(out))
    store = handpick.FeatureStore.open(out / "features" / "pool", allow_incomplete=True)
    assert (len(store.missing(0)), store.verify()[0].count("missing")) == (2, 1)

    ballast.unlink()
    assert handpick.select(**given, out=str(out)).ids == finished.selection.ids
    assert results(out) == results(finished.folder)


def test_a_disk_that_runs_full_during_the_warmup(finished: Finished, given: dict[str, Any], small_disk: Path) -> None:
    out = small_disk / "out"
    shutil.copytree(finished.folder / "features" / "parsed", out / "features" / "parsed")
    ballast = fill_up(small_disk, leave=40_000)
    with pytest.raises(StoreError, match=f"cannot write the warmup to {out / 'warmup'}"):
        handpick.select(**given, out=str(out))

    ballast.unlink()
    assert handpick.select(**given, out=str(out)).ids == finished.selection.ids
    assert results(out) == results(finished.folder)


def test_a_shard_is_there_whole_or_not_at_all(
    untrained: dict[str, Any], out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    handpick.select(**untrained, out=out)
    shard = Path(out, "features", "pool", "shards", "0", "0-2.json")
    shard.unlink()
    with monkeypatch.context() as full:
        full.setattr("os.fsync", no_space)
        with pytest.raises(StoreError, match="No space left on device"):
            handpick.select(**untrained, out=out)
    assert not shard.exists()
    assert len(handpick.select(**untrained, out=out)) == 10
