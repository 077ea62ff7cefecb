"""Several processes write what one does, whoever is killed meanwhile."""

import os
import pickle
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import handpick
from handpick.data.pool import Pool
from handpick.data.quarantine import Quarantine
from handpick.errors import DataError, SettingsError, WorkerError
from handpick.executors import Processes, ThisProcess, executor_for, fill_store
from handpick.executors.protocol import FillJob
from handpick.store import Checkpoint, FeatureStore, Manifest, ManifestFile
from tests.conftest import write_jsonl
from tests.executors.encoders import Counting

N, SHARD = 14, 3


@pytest.fixture
def pool(pool_records: list[dict[str, Any]], tmp_path: Path) -> Pool:
    path = write_jsonl(tmp_path / "pool.jsonl", pool_records[:N])
    return Pool.open([str(path)], cache=tmp_path / "parsed", quarantine=Quarantine(tmp_path / "quarantine.jsonl"))


def store_of(pool: Pool, path: Path) -> FeatureStore:
    manifest = Manifest(
        space={}, build={}, dim=3, storage="float32", shard_rows=SHARD,
        checkpoints=[Checkpoint(name="a", weight=1.0), Checkpoint(name="b", weight=1.0)],
        files=ManifestFile.of(pool.files),
    )  # fmt: skip
    return FeatureStore.create(path, manifest)


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def fill(pool: Pool, path: Path, spec: Counting, executor: Any, quarantine: Quarantine | None = None) -> FeatureStore:
    store = store_of(pool, path)
    fill_store(store, pool, spec, "rows", quarantine, executor)
    return store


@pytest.fixture
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_two_processes_write_the_bytes_of_one(pool: Pool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(pool, tmp_path / "one", Counting(), ThisProcess())
    assert capsys.readouterr().err.count("counting") == 10  # shards
    fill(pool, tmp_path / "two", Counting(), Processes(2, threads=1))
    assert bytes_of(tmp_path / "two") == bytes_of(tmp_path / "one")
    assert capsys.readouterr().err.count("counting") == 1  # what every worker would say is said once


@pytest.mark.usefixtures("one_thread")
def test_the_shard_of_a_worker_that_is_killed_is_done_by_another(
    pool: Pool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(pool, tmp_path / "one", Counting(), ThisProcess())
    (tmp_path / "lives").write_text("2")
    spec = Counting(dies_at=pool[7].id, lives=tmp_path / "lives")
    fill(pool, tmp_path / "two", spec, Processes(2, threads=1))
    assert bytes_of(tmp_path / "two") == bytes_of(tmp_path / "one")
    assert "a worker ended (killed, as a machine does that runs out of memory)" in capsys.readouterr().err
    assert int((tmp_path / "lives").read_text()) <= 0


def test_a_shard_that_kills_every_worker_ends_the_run_and_the_others_stay(pool: Pool, tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match=r"a worker died 3 times over the records 7 to 9 \(killed.*fewer --workers"):
        fill(pool, tmp_path / "two", Counting(dies_at=pool[7].id), Processes(2, threads=1))
    store = store_of(pool, tmp_path / "two")
    assert len(store.missing(0)) < 5
    fill(pool, tmp_path / "two", Counting(), Processes(2, threads=1))
    assert not store.missing(0)
    assert not store.missing(1)


@pytest.mark.usefixtures("one_thread")
def test_any_worker_may_be_killed_at_any_time(pool: Pool, tmp_path: Path) -> None:
    """From outside, again and again, while shards are computed and written."""
    fill(pool, tmp_path / "one", Counting(), ThisProcess())
    stop, killed = threading.Event(), []

    def kill() -> None:
        seen = 0
        while not stop.wait(0.02) and len(killed) < 4:
            shards = len(list((tmp_path / "two").rglob("*.safetensors")))
            if shards > seen:
                seen = shards
                for child in _children()[:1]:
                    killed.append(child)
                    os.kill(child, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        fill(pool, tmp_path / "two", Counting(slow=0.05), Processes(2, threads=1))
    finally:
        stop.set()
        killer.join()
    assert bytes_of(tmp_path / "two") == bytes_of(tmp_path / "one")


def _children() -> list[int]:
    """The worker processes of this one."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
            command = (path.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if int(fields[1]) == os.getpid() and b"spawn_main" in command:
            found.append(int(path.parent.name))
    return found


def test_what_a_worker_raises_is_raised_here_and_no_worker_is_left(pool: Pool, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=f"{pool[4].id} cannot be computed"):
        fill(pool, tmp_path / "two", Counting(fails_at=pool[4].id), Processes(2, threads=1))
    until = time.monotonic() + 10
    while _children() and time.monotonic() < until:
        time.sleep(0.1)
    assert not _children()


def test_records_past_the_limit_stop_all_workers(pool_records: list[dict[str, Any]], tmp_path: Path) -> None:
    records = [r | {"note": "unusable"} if i in (1, 6, 7, 12) else r for i, r in enumerate(pool_records[:N])]
    path, bad = write_jsonl(tmp_path / "pool.jsonl", records), tmp_path / "quarantine.jsonl"
    pool = Pool.open([str(path)], cache=tmp_path / "parsed", quarantine=Quarantine(bad))
    with pytest.raises(DataError, match="more bad records than the limit of 2"):
        fill(pool, tmp_path / "two", Counting(), Processes(2, threads=1), Quarantine(bad, limit=2))
    store = fill(pool, tmp_path / "two", Counting(), Processes(2, threads=1), Quarantine(bad, limit=4))
    assert len(store) == N - 4


def test_what_cannot_leave_this_process_is_done_in_it(
    pool: Pool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = Counting(not_portable="it was handed over in Python")
    fill(pool, tmp_path / "one", spec, Processes(2, threads=1))
    assert "rows: in this process alone, since it was handed over in Python" in capsys.readouterr().err


def test_a_job_travels_as_paths(pool: Pool, tmp_path: Path) -> None:
    job = FillJob(store_of(pool, tmp_path / "store"), pool, Counting())
    sent = pickle.dumps(job)
    assert pool.raw(0)[:40] not in sent
    back = pickle.loads(sent)
    assert [back.pool[i] for i in range(N)] == [pool[i] for i in range(N)]
    assert back.store.manifest == job.store.manifest


def test_workers_share_a_cpu_out_and_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(executor_for(None), ThisProcess)
    assert executor_for(2).threads == max(1, torch.get_num_threads() // 2)  # type: ignore[attr-defined]
    monkeypatch.setattr("handpick.executors.processes.device", lambda: torch.device("cuda"))
    with pytest.raises(SettingsError, match="--workers shares a CPU out, and here cuda computes"):
        executor_for(2)


@pytest.mark.parametrize("method", ["gradient-rr", "rds+", "gist", "score-only"])
@pytest.mark.usefixtures("one_thread")
def test_a_run_of_two_workers_leaves_what_one_process_does(
    method: str, tiny_model: Path, pool_records: list[dict[str, Any]], query_records: list[dict[str, Any]],
    tmp_path: Path,
) -> None:  # fmt: skip
    """Every file of the run, but for what it cost."""
    pool = write_jsonl(tmp_path / "pool.jsonl", pool_records[:24])
    query = write_jsonl(tmp_path / "query.jsonl", query_records[:4])
    given: dict[str, Any] = {
        "pool": str(pool), "query": str(query), "model": str(tiny_model), "budget": 6, "shard_rows": 6,
        "projection_dim": 256, "dtype": "float32", "max_length": 256,
        **({"method": "gradient-rr", "score_only": True} if method == "score-only" else {"method": method}),
        **({} if method == "rds+" else {"warmup": "none"}),
    }  # fmt: skip
    out = tmp_path / "run"
    handpick.select(**given, out=str(out))
    one = bytes_of(out)
    out.rename(tmp_path / "one")
    handpick.select(**given, out=str(out), workers=2)
    two = bytes_of(out)
    one.pop("cost.json"), two.pop("cost.json")
    assert sorted(one) == sorted(two)
    assert [name for name in one if one[name] != two[name]] == []
