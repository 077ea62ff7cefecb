"""A small run that the tests of the pipeline share, and how to ask for another like it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import handpick
from tests.conftest import write_jsonl

WARMUP = {"at_least": 24, "epochs": 2, "batch": 8, "learning_rate": 1e-3, "lora": {"rank": 4, "alpha": 8}}
N_POOL = 40


class Finished(NamedTuple):
    """A run that nobody may change: its folder and what it chose."""

    folder: Path
    selection: handpick.Selection

    def copy_to(self, folder: Path) -> Path:
        """The same run in a folder of one's own."""
        return shutil.copytree(self.folder, folder)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for files that several tests read."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def pool_file(data: Path, pool_records: list[dict[str, Any]]) -> Path:
    """Forty records, written as nobody's JSON library would write them."""
    lines = [
        json.dumps(record | {"unknown": [i, None]}, separators=(" ,  ", " :\t")).replace("[", "[ ")
        for i, record in enumerate(pool_records[:N_POOL])
    ]
    (data / "pool.jsonl").write_text("\n".join(lines) + "\n")
    return data / "pool.jsonl"


@pytest.fixture(scope="session")
def more_file(data: Path, pool_records: list[dict[str, Any]]) -> Path:
    """Twenty records more."""
    return write_jsonl(data / "more.jsonl", pool_records[N_POOL : N_POOL + 20])


@pytest.fixture(scope="session")
def query_file(data: Path, query_records: list[dict[str, Any]]) -> Path:
    return write_jsonl(data / "query.jsonl", query_records[:4])


@pytest.fixture(scope="session")
def given(tiny_model: Path, pool_file: Path, query_file: Path) -> dict[str, Any]:
    """What the shared run was given, but for ``out``; tests write ``given | {…}`` to change something."""
    return {
        "pool": pool_file, "query": query_file, "model": str(tiny_model), "method": "less-rr", "budget": 10,
        "warmup": WARMUP, "projection_dim": 1024, "shard_rows": 16,
    }  # fmt: skip


@pytest.fixture(scope="session")
def untrained(given: dict[str, Any]) -> dict[str, Any]:
    """The same without a warmup: plain gradients at a fresh adapter, the quickest way to a selection."""
    return given | {"method": "gradient-rr", "warmup": "none"}


@pytest.fixture(scope="session")
def finished(given: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("runs") / "finished"
    return Finished(folder, handpick.select(**given, out=str(folder)))


@pytest.fixture(scope="session")
def finished_untrained(untrained: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("runs") / "untrained"
    return Finished(folder, handpick.select(**untrained, out=str(folder)))


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on a model that is loaded, to train it or for gradients, fails the test."""

    def fail(*_: object) -> None:
        pytest.fail("a model was loaded")

    for module in ("scorers.checkpoints", "training.warmup", "scorers.gradient_encoder"):
        monkeypatch.setattr(f"handpick.{module}.load_base", fail)


@pytest.fixture
def out(tmp_path: Path) -> str:
    return str(tmp_path / "out")


@pytest.fixture
def set_aside(out: str) -> Callable[[], dict[int, str]]:
    """Reads the quarantine: line → reason."""

    def read() -> dict[int, str]:
        lines = Path(out, "quarantine.jsonl").read_text().splitlines()
        return {entry["line"]: entry["reason"] for entry in map(json.loads, lines)}

    return read
