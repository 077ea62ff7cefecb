from pathlib import Path

import pytest

from handpick.store import FeatureStore
from tests.store import writer


@pytest.fixture
def whole(tmp_path: Path) -> FeatureStore:
    """A store that is complete: two files, two checkpoints, seven shards each."""
    return writer.write(FeatureStore.create(tmp_path / "whole", writer.manifest()))
