"""Several processes write what one does, whoever is killed meanwhile."""

import importlib
import os
import pickle
import signal
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import handpick
from handpick.data.pool import Pool
from handpick.data.quarantine import Quarantine
from handpick.errors import DataError, SettingsError, WorkerError
from handpick.executors import Processes, ThisProcess, executor_for, fill_store
from handpick.executors.protocol import FillJob
from handpick.layout import DataLayout
from handpick.pipeline.prepare import open_pool_run
from handpick.settings import Settings
from handpick.store import Checkpoint, FeatureStore, Manifest, ManifestFile
from tests.conftest import write_jsonl
from tests.executors.encoders import Counting

N, SHARD = 14, 3
KILLED = "a worker ended (killed, as a machine does that runs out of memory)"


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


@pytest.fixture(scope="module")
def two() -> Iterator[Processes]:
    """Two workers of one thread, for several tests: they need not start again and again."""
    with Processes(2, threads=1) as executor:
        yield executor


@pytest.mark.usefixtures("one_thread")
def test_two_processes_write_the_bytes_of_one_store_after_store(
    pool: Pool, tmp_path: Path, two: Processes, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(pool, tmp_path / "one", Counting(), ThisProcess())
    assert capsys.readouterr().err.count("counting") == 10  # shards
    workers = processes_of(two)
    for folder in (tmp_path / "two", tmp_path / "three"):
        fill(pool, folder, Counting(), two)
        assert bytes_of(folder) == bytes_of(tmp_path / "one")
        assert capsys.readouterr().err.count("counting") == 1  # what every worker would say is said once
        assert processes_of(two) == workers


def processes_of(executor: Processes) -> list[int | None]:
    return [worker.process.pid for worker in executor.workers]


def test_workers_start_when_the_executor_is_entered_and_end_when_it_is_left(
    pool: Pool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Processes(2, threads=1) as executor:
        workers = [worker.process for worker in executor.workers]
        for worker in workers:
            os.kill(worker.pid or 0, signal.SIGINT)  # as a terminal does, to all of a command: the parent's to act on
        fill(pool, tmp_path / "two", Counting(), executor)
        assert "worker ended" not in capsys.readouterr().err
        executor.workers[1].process.kill()  # while it has nothing to do
        fill(pool, tmp_path / "three", Counting(), executor)
        assert bytes_of(tmp_path / "two") == bytes_of(tmp_path / "three")
        executor.workers[0].connection.close()  # as when the parent is killed
        workers[0].join(30)
        assert workers[0].exitcode == 0
        workers += [worker.process for worker in executor.workers]
    assert not executor.workers
    assert not any(worker.is_alive() for worker in workers)


def test_no_worker_is_left_when_a_run_is_interrupted_before_it_has_used_any() -> None:
    workers = []

    def read(executor: Processes) -> None:
        workers.extend(worker.process for worker in executor.workers)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Processes(2, threads=1) as executor:
        read(executor)
    assert len(workers) == 2
    assert not any(worker.is_alive() for worker in workers)


def test_a_single_shard_is_computed_here_with_the_threads_of_a_worker(pool: Pool, tmp_path: Path) -> None:
    store = fill(pool, tmp_path / "store", Counting(), ThisProcess())
    Path(store.path, "shards", "1", "0-1.json").unlink()
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        store = fill(pool, store.path, Counting(), Processes(2, threads=1))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert np.asarray(store.array(1, normalized=False))[3:6, 2].tolist() == pytest.approx([1, 1, 1])


@pytest.mark.usefixtures("one_thread")
def test_the_shard_of_a_worker_that_is_killed_is_done_by_another(
    pool: Pool, tmp_path: Path, two: Processes, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(pool, tmp_path / "one", Counting(), ThisProcess())
    (tmp_path / "lives").write_text("2")
    spec = Counting(dies_at=pool[7].id, lives=tmp_path / "lives")
    fill(pool, tmp_path / "two", spec, two)
    assert bytes_of(tmp_path / "two") == bytes_of(tmp_path / "one")
    assert KILLED in capsys.readouterr().err
    assert int((tmp_path / "lives").read_text()) <= 0


def test_a_shard_that_kills_every_worker_ends_the_run_and_the_others_stay(
    pool: Pool, tmp_path: Path, two: Processes
) -> None:
    with pytest.raises(WorkerError, match=r"a worker died 3 times over the records 7 to 9 \(killed.*fewer --workers"):
        fill(pool, tmp_path / "two", Counting(dies_at=pool[7].id), two)
    store = store_of(pool, tmp_path / "two")
    assert len(store.missing(0)) < 5
    fill(pool, tmp_path / "two", Counting(), two)
    assert not store.missing(0)
    assert not store.missing(1)


@pytest.mark.slow
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
    before = set(_children())  # those that other tests use again
    with pytest.raises(SettingsError, match=f"{pool[4].id} cannot be computed"):
        fill(pool, tmp_path / "two", Counting(fails_at=pool[4].id), Processes(2, threads=1))
    until = time.monotonic() + 10
    while set(_children()) - before and time.monotonic() < until:
        time.sleep(0.1)
    assert not set(_children()) - before


def test_records_past_the_limit_stop_all_workers(
    pool_records: list[dict[str, Any]], tmp_path: Path, two: Processes
) -> None:
    records = [r | {"note": "unusable"} if i in (1, 6, 7, 12) else r for i, r in enumerate(pool_records[:N])]
    path, bad = write_jsonl(tmp_path / "pool.jsonl", records), tmp_path / "quarantine.jsonl"
    pool = Pool.open([str(path)], cache=tmp_path / "parsed", quarantine=Quarantine(bad))
    with pytest.raises(DataError, match="more bad records than the limit of 2"):
        fill(pool, tmp_path / "two", Counting(), two, Quarantine(bad, limit=2))
    assert not two.workers
    store = fill(pool, tmp_path / "two", Counting(), two, Quarantine(bad, limit=4))
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


def test_workers_share_a_cpu_out() -> None:
    assert isinstance(executor_for(None), ThisProcess)
    assert executor_for(2).threads == max(1, torch.get_num_threads() // 2)  # type: ignore[attr-defined]


_MORE: dict[str, dict[str, Any]] = {
    "score-only": {"method": "gradient-rr", "score_only": True},
    # three representations, each with stores of its own, in one run
    "tacs, then landmarks": {
        "method": "landmarks", "optimizer": "sgd", "landmarks": 9, "refine": 5, "max_length": 512,
        "prefilter": "tacs", "prefilter_share": "60%", "prefilter_check": 4, "tacs_rate": 1e-3, "tacs_depth": 2,
    },
}  # fmt: skip


@pytest.mark.parametrize(
    "method",
    ["gradient-rr", *(pytest.param(each, marks=pytest.mark.slow) for each in ("rds+", "gist", *_MORE))],
)
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("workers", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_a_run_of_several_workers_leaves_what_one_process_does(
    method: str, workers: int, tiny_model: Path, pool_records: list[dict[str, Any]],
    query_records: list[dict[str, Any]], tmp_path: Path,
) -> None:  # fmt: skip
    """Every file of the run, but for what it cost."""
    pool = write_jsonl(tmp_path / "pool.jsonl", pool_records[:24])
    query = write_jsonl(tmp_path / "query.jsonl", query_records[:4])
    given: dict[str, Any] = {
        "pool": str(pool), "query": str(query), "model": str(tiny_model), "budget": 6, "shard_rows": 3,
        "projection_dim": 256, "dtype": "float32", "max_length": 256,
        **_MORE.get(method, {"method": method}),
        **({} if method == "rds+" else {"warmup": "none"}),
    }  # fmt: skip
    out = tmp_path / "run"
    handpick.select(**given, out=str(out))
    one = bytes_of(out)
    out.rename(tmp_path / "one")
    handpick.select(**given, out=str(out), workers=workers)
    several = bytes_of(out)
    one.pop("cost.json"), several.pop("cost.json")
    assert sorted(one) == sorted(several)
    assert [name for name in one if one[name] != several[name]] == []


@pytest.mark.slow
def test_the_model_of_this_process_is_given_back_where_workers_load_their_own(
    tiny_model: Path, pool_records: list[dict[str, Any]], tmp_path: Path
) -> None:
    importlib.import_module("peft")  # by itself: what a library warns of as it loads keeps the callers' frames
    pool = write_jsonl(tmp_path / "pool.jsonl", pool_records[:4])
    settings = Settings(
        pool=[str(pool)], model=str(tiny_model), method="gradient-rr", warmup="none", out=str(tmp_path / "run")
    )
    gradients = open_pool_run(settings, DataLayout(settings.folder)).scorer.gradients  # type: ignore[attr-defined]
    encoder = weakref.ref(gradients.encoder)
    gradients.drop_encoder()
    assert encoder() is None
