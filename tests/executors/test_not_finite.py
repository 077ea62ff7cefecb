"""Rows that are not finite: set aside one by one, in any number of processes; refused where there are no others."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handpick.data.pool import Pool
from handpick.data.quarantine import Quarantine
from handpick.errors import DataError, ModelError
from handpick.executors import Executor, Processes, ThisProcess, fill_store, refuse_queries, report_unusable, rows_of
from handpick.fingerprint import Fingerprint
from handpick.store import Checkpoint, FeatureStore, Manifest, ManifestFile
from tests.conftest import write_jsonl
from tests.executors.encoders import Counting

N, SHARD = 14, 3


@pytest.fixture
def pool(pool_records: list[dict[str, Any]], tmp_path: Path) -> Pool:
    return open_pool(pool_records[:N], tmp_path)


def open_pool(records: list[dict[str, Any]], folder: Path) -> Pool:
    path = write_jsonl(folder / "pool.jsonl", records)
    return Pool.open([str(path)], cache=folder / "parsed", quarantine=Quarantine(folder / "quarantine.jsonl"))


def store_of(pool: Pool, path: Path, dtype: str | None = "float16") -> FeatureStore:
    build: Fingerprint = {} if dtype is None else {"dtype": dtype}
    manifest = Manifest(
        space={"representation": "gradient"}, build=build, dim=3, storage="float32", shard_rows=SHARD,
        checkpoints=[Checkpoint(name="a", weight=1.0), Checkpoint(name="b", weight=1.0)],
        files=ManifestFile.of(pool.files),
    )  # fmt: skip
    return FeatureStore.create(path, manifest)


def counting(pool: Pool, *broken: tuple[int, int], **more: Any) -> Counting:
    """An encoder with rows that are not finite, by checkpoint and row of the pool."""
    return Counting(not_finite=frozenset((t, pool[row].id) for t, row in broken), **more)


BROKEN = [(0, 1), (0, 5), (1, 5), (1, 6), (0, 12), (0, 13), (1, 12), (1, 13)]  # the last shard has no other row


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def two() -> Iterator[Processes]:
    with Processes(2, threads=1) as executor:
        yield executor


@pytest.mark.usefixtures("one_thread")
def test_rows_and_reports_are_those_of_the_pool_without_these_records(
    pool: Pool, pool_records: list[dict[str, Any]], tmp_path: Path, two: Processes
) -> None:
    spec, bad = counting(pool, *BROKEN), {1, 5, 6, 12, 13}
    executors: dict[str, Executor] = {"one": ThisProcess(), "two": two}
    for name, executor in executors.items():
        fill_store(store_of(pool, tmp_path / name), pool, spec, "rows", executor=executor)
    assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "two")

    (tmp_path / "other").mkdir()
    others = open_pool([r for i, r in enumerate(pool_records[:N]) if i not in bad], tmp_path / "other")
    fill_store(other := store_of(others, tmp_path / "without"), others, spec, "rows")
    store = FeatureStore.open(tmp_path / "two")
    assert store.ids == other.ids
    for t in range(2):
        np.testing.assert_array_equal(store.array(t, normalized=False), other.array(t, normalized=False))
    versions = [FeatureStore.open(each).manifest.schema_version for each in (store.path, other.path)]
    assert versions == [2, 1]  # what an older handpick would misread it refuses
    assert rows_of(store, pool).tolist() == [row for row in range(N) if row not in bad]

    quarantine = Quarantine(tmp_path / "bad.jsonl")
    report_unusable(store, pool, spec, quarantine)
    assert [(entry["line"], entry["id"], entry["reason"]) for entry in read(quarantine)] == [
        (2, pool[1].id, "gradient row not finite: in float16 at the checkpoint a"),
        (6, pool[5].id, "gradient row not finite: in float16 at the checkpoints a, b"),
        (7, pool[6].id, "gradient row not finite: in float16 at the checkpoint b"),
        (13, pool[12].id, "gradient row not finite: in float16 at the checkpoints a, b"),
        (14, pool[13].id, "gradient row not finite: in float16 at the checkpoints a, b"),
    ]
    assert quarantine.summary().startswith("5 records set aside (5 gradient row not finite): ")


def read(quarantine: Quarantine) -> list[dict[str, Any]]:
    return [json.loads(line) for line in quarantine.path.read_text().splitlines()]


@pytest.mark.parametrize("at", [1, 3, 6, 9])
def test_a_run_that_is_stopped_at_any_shard_goes_on_to_the_same_bytes(
    at: int, pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = counting(pool, *BROKEN)
    fill_store(store_of(pool, tmp_path / "whole"), pool, spec, "rows")
    own = FeatureStore.write_shard
    written: list[Any] = []

    def write(store: FeatureStore, *args: Any) -> None:
        if len(written) == at:
            raise KeyboardInterrupt
        written.append(args)
        own(store, *args)

    with monkeypatch.context() as patched:
        patched.setattr(FeatureStore, "write_shard", write)
        with pytest.raises(KeyboardInterrupt):
            fill_store(store_of(pool, tmp_path / "stopped"), pool, spec, "rows")
    fill_store(store_of(pool, tmp_path / "stopped"), pool, spec, "rows")
    assert bytes_of(tmp_path / "stopped") == bytes_of(tmp_path / "whole")


def test_those_past_the_limit_stop_the_work(pool: Pool, tmp_path: Path) -> None:
    """Each is counted once, at however many checkpoints; what is written stays."""
    spec, bad, store = counting(pool, *BROKEN), tmp_path / "bad.jsonl", store_of(pool, tmp_path / "store")
    with pytest.raises(DataError, match="more bad records than the limit of 1: 2 records set aside"):
        fill_store(store, pool, spec, "rows", Quarantine(bad, limit=1))
    assert [json.loads(line)["id"] for line in bad.read_text().splitlines()] == [pool[1].id, pool[5].id]
    assert len(store.missing(0)) in (2, 3)  # the shard behind those two was under way
    assert len(store.missing(1)) == 5
    fill_store(store, pool, spec, "rows", Quarantine(bad, limit=5))
    assert len(store) == N - 5
    with pytest.raises(DataError, match="more bad records than the limit of 4"):
        report_unusable(store, pool, spec, Quarantine(bad, limit=4))


def all_at(pool: Pool, checkpoint: int) -> Counting:
    return counting(pool, *((checkpoint, row) for row in range(len(pool))))


def test_a_checkpoint_without_a_finite_row_is_refused_again_and_again(pool: Pool, tmp_path: Path) -> None:
    store, sentence = store_of(pool, tmp_path / "store"), "none of 14 gradient rows is finite in float16 at the "
    for _ in range(2):
        with pytest.raises(
            ModelError, match=f"^{sentence}checkpoint b .the first: '{pool[0].id}'.: give --dtype float32, in "
        ):
            fill_store(store, pool, all_at(pool, 1), "rows")
    assert not store.missing(1)
    assert len(store) == 0


@pytest.mark.parametrize(
    ("dtype", "remedy"),
    [("float32", "a weight is broken, so name another model or checkpoint"), (None, "mend what they come from")],
)
def test_the_remedy_is_one_that_helps(dtype: str | None, remedy: str, pool: Pool, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=f"checkpoint a .the first: '.*'.: {remedy}$"):
        fill_store(store_of(pool, tmp_path / "store", dtype), pool, all_at(pool, 0), "rows")


@pytest.mark.parametrize("in_two", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["one", "two"])
def test_after_enough_of_them_no_more_are_computed(
    in_two: bool, pool: Pool, tmp_path: Path, two: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("handpick.executors.fill._ENOUGH", 2 * SHARD)
    store, spec = store_of(pool, tmp_path / "store"), all_at(pool, 0)
    with pytest.raises(ModelError, match="none of 6 gradient rows is finite in float16 at the checkpoint a"):
        fill_store(store, pool, spec, "rows", executor=two if in_two else ThisProcess())
    left = len(store.missing(0)) + len(store.missing(1))
    assert left > 4
    with pytest.raises(ModelError, match=r"none of [69] gradient rows is finite"):
        fill_store(store, pool, spec, "rows")
    assert len(store.missing(0)) + len(store.missing(1)) == left


def test_shards_of_bad_rows_behind_a_good_one_are_set_aside(
    pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("handpick.executors.fill._ENOUGH", 2 * SHARD)
    spec = counting(pool, *((0, row) for row in range(1, N)))
    store = store_of(pool, tmp_path / "store")
    fill_store(store, pool, spec, "rows")
    assert store.ids == [pool[0].id]


def test_records_that_are_bad_at_one_checkpoint_or_the_other_leave_nothing(pool: Pool, tmp_path: Path) -> None:
    spec = counting(pool, *((row % 2, row) for row in range(N)))
    store = store_of(pool, tmp_path / "store")
    fill_store(store, pool, spec, "rows")
    with pytest.raises(DataError, match=r"no record of .* can be used: 14 records set aside \(14 gradient row not fin"):
        report_unusable(store, pool, spec, Quarantine(tmp_path / "bad.jsonl"))


def test_queries_are_refused_by_name(pool: Pool, tmp_path: Path) -> None:
    plan = store_of(pool, tmp_path / "store").manifest
    refuse_queries(plan, {}, 4)
    with pytest.raises(
        DataError, match=r"^the query 'q' has a gradient row that is not finite in float16 at the check"
    ):
        refuse_queries(plan, {"q": [1]}, 2)
    with pytest.raises(DataError, match=r"^4 of 9 queries \('a', 'b', 'c', …\) have .*at the checkpoints a, b.* them"):
        refuse_queries(plan, {"a": [0], "b": [1], "c": [0], "d": [0, 1]}, 9)
    with pytest.raises(ModelError, match="none of 1 gradient rows is finite"):
        refuse_queries(plan, {"q": [0, 1]}, 1)
