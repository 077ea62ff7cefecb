import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from handpick.data.pool import Pool
from handpick.data.quarantine import Quarantine


@pytest.fixture
def quarantine(tmp_path: Path) -> Quarantine:
    return Quarantine(tmp_path / "quarantine.jsonl")


@pytest.fixture
def open_pool(tmp_path: Path, quarantine: Quarantine) -> Callable[..., Pool]:
    """Opens sources with a cache and a quarantine under ``tmp_path``."""

    def open_(*sources: Any) -> Pool:
        return Pool.open(sources, cache=tmp_path / "cache", quarantine=quarantine)

    return open_


@pytest.fixture
def set_aside(quarantine: Quarantine) -> Callable[[], list[dict[str, Any]]]:
    """The entries of the quarantine's file."""

    def entries() -> list[dict[str, Any]]:
        return [json.loads(line) for line in quarantine.path.read_text("utf-8").splitlines()]

    return entries


@pytest.fixture
def formats_folder() -> Path:
    """The first records of real files in the formats people have."""
    data = Path(os.environ.get("HANDPICK_DATA", Path(__file__).parents[3] / "shared" / "data"))
    folder = data / "fixtures" / "formats"
    if not folder.is_dir():
        pytest.skip(f"no {folder}; set HANDPICK_DATA to the folder of the full data set")
    return folder
