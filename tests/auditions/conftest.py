"""An audition on a tiny model, small enough for every test to run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from handpick import bundled
from handpick.auditions.run import PreparedAudition
from handpick.auditions.settings import AuditionSettings
from tests.conftest import records, write_jsonl

Ask = Callable[..., PreparedAudition]
OWN = ("methods", "metric", "time_limit", "draws", "repeats", "share", "train", "test", "if_none")


@pytest.fixture(scope="session")
def audition_data(tmp_path_factory: pytest.TempPathFactory, pool_records: list[dict[str, Any]]) -> Path:
    """A pool of forty records and two targets' queries, ten each."""
    folder = tmp_path_factory.mktemp("audition")
    write_jsonl(folder / "pool.jsonl", pool_records[:40])
    for target in ("gsm8k", "mbpp"):
        write_jsonl(folder / f"{target}.jsonl", records(bundled.target_path(target), 10))
    return folder


@pytest.fixture
def values(audition_data: Path, tiny_model: Path, tmp_path: Path) -> dict[str, Any]:
    """Settings of the run after an audition, in a folder of the test's own."""
    return {
        "pool": str(audition_data / "pool.jsonl"), "query": str(audition_data / "gsm8k.jsonl"),
        "model": str(tiny_model), "budget": "20", "max_length": 384, "out": str(tmp_path / "run"),
    }  # fmt: skip


@pytest.fixture
def own() -> dict[str, Any]:
    """Settings of an audition that is over at once."""
    return {
        "methods": "bm25,longest,rds+", "draws": 2, "repeats": 1,
        "train": {"epochs": 1, "batch": 4, "lora": {"rank": 4, "alpha": 8}},
    }  # fmt: skip


@pytest.fixture
def ask(values: dict[str, Any], own: dict[str, Any]) -> Ask:
    """A prepared audition; what is given replaces."""

    def asked(**given: Any) -> PreparedAudition:
        of_own = {name: each for name, each in given.items() if name in OWN}
        of_run = {name: each for name, each in given.items() if name not in OWN}
        merged = {name: each for name, each in (values | of_run).items() if each is not None}
        return PreparedAudition(merged, AuditionSettings.from_values(own | of_own))

    return asked
