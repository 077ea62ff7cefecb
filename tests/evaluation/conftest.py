"""The shipped model loaded, and tasks of a few records."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from handpick import bundled
from handpick.data.render import Renderer
from handpick.evaluation.settings import TaskSettings
from handpick.evaluation.task import Task, open_task
from handpick.model import load_base, load_tokenizer
from tests.conftest import write_jsonl


@pytest.fixture(scope="session")
def model() -> nn.Module:
    """The model that ships, which says something to everything; read only."""
    return load_base(str(bundled.model_path()), torch.float32)


@pytest.fixture(scope="session")
def renderer() -> Renderer:
    return Renderer(load_tokenizer(str(bundled.model_path())))


@pytest.fixture
def task_of(tmp_path: Path) -> Callable[..., Task]:
    """A task of these records, parsed under the test's own folder."""

    def make(items: list[dict[str, Any]], *metrics: str, **settings: Any) -> Task:
        path = write_jsonl(tmp_path / "test.jsonl", items)
        given = {"files": [str(path)], "max_new_tokens": 4, **settings} | (
            {"metrics": list(metrics)} if metrics else {}
        )
        return open_task(TaskSettings(**given), tmp_path / "scratch", "test")

    return make
