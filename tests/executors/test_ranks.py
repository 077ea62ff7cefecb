"""Each rank of a launcher makes its share of the shards, and knows nothing of the others."""

from pathlib import Path
from typing import Any

import pytest

import handpick
from handpick.data.pool import Pool
from handpick.errors import SettingsError
from handpick.executors import Rank, RankShare, ThisProcess
from handpick.layout import RunLayout
from handpick.store import FeatureStore
from tests.conftest import write_jsonl
from tests.executors.encoders import Counting
from tests.executors.test_processes import bytes_of, fill, pool  # noqa: F401

TORCHRUN = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}
SLURM = {"SLURM_PROCID": "5", "SLURM_STEP_NUM_TASKS": "8", "SLURM_LOCALID": "1"}


def test_a_rank_is_what_the_launcher_says() -> None:
    assert Rank.of(TORCHRUN) == Rank(3, 4, 1)
    assert Rank.of(SLURM) == Rank(5, 8, 1)
    assert Rank.of(SLURM | TORCHRUN) == Rank(3, 4, 1)  # torchrun in a job of SLURM


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({}, "RANK, WORLD_SIZE, LOCAL_RANK or SLURM_PROCID, SLURM_STEP_NUM_TASKS, SLURM_LOCALID are not set"),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, "are not set: start it by torchrun or srun"),  # an sbatch script
        (TORCHRUN | {"RANK": "4"}, "RANK=4, WORLD_SIZE=4, LOCAL_RANK=1 is no rank"),
        (TORCHRUN | {"WORLD_SIZE": "four"}, "RANK=3, WORLD_SIZE=four, LOCAL_RANK=1 is no rank"),
    ],
)
def test_what_is_no_rank_is_refused(environment: dict[str, str], said: str) -> None:
    with pytest.raises(SettingsError) as told:
        Rank.of(environment)
    assert said in str(told.value)


@pytest.mark.parametrize("world", [1, 2, 3, 7])
def test_ranks_write_the_bytes_of_one_process_in_any_order(world: int, pool: Pool, tmp_path: Path) -> None:  # noqa: F811
    """The last one in full, whichever it is: none asks what is there."""
    fill(pool, tmp_path / "one", Counting(), ThisProcess())
    written: list[set[str]] = []
    for number in reversed(range(world)):
        before = set(bytes_of(tmp_path / "ranks")) if written else set()
        fill(pool, tmp_path / "ranks", Counting(), RankShare(Rank(number, world, 0)))
        written.append({name for name in set(bytes_of(tmp_path / "ranks")) - before if name.endswith(".json")})
    assert bytes_of(tmp_path / "ranks") == bytes_of(tmp_path / "one")
    shards = 5  # at each of two checkpoints
    assert [len(names - {"manifest.json"}) for names in reversed(written)] == [
        2 * len(range(number, shards, world)) for number in range(world)
    ]


def test_a_pool_that_two_ranks_represent_is_that_of_one_process(
    tiny_model: Path, pool_records: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    records = [*pool_records[:13], {"id": "mute", "prompt": "Why?"}, *pool_records[13:23]]
    write_jsonl(tmp_path / "pool.jsonl", records)
    given: dict[str, Any] = {
        "pool": "pool.jsonl", "model": str(tiny_model), "out": "run", "shard_rows": 4, "max_length": 256,
        "method": "gradient-rr", "warmup": "none", "projection_dim": 64,
    }  # fmt: skip
    handpick.represent_pool(**given)
    one = bytes_of(tmp_path / "run")
    (tmp_path / "run").rename(tmp_path / "one")
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in "01":
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setenv("LOCAL_RANK", rank)
        store = handpick.represent_pool(**given, engine="ranks")
        assert bool(store.missing(0)) == (rank == "0")
    assert isinstance(store, FeatureStore)
    both = bytes_of(tmp_path / "run")
    # who has all rows reports the records without any: here the command that opens the store
    assert {name for name in one if one[name] != both.get(name)} <= {"quarantine.jsonl"}
    assert set(both) <= set(one)
    with pytest.raises(SettingsError, match=r"--engine ranks shares the features of a pool out.*select --store"):
        handpick.select(**given | {"query": "pool.jsonl"}, engine="ranks")
    assert RunLayout(Path("run")).settings.exists()
