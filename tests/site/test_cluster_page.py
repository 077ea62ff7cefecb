"""Every command of docs/cluster.md that a CPU can run, run as it stands; what cannot is in blocks of no language."""

import os
from pathlib import Path

import pytest
import torch

from tests.executors.ray_here import needs_ray
from tests.site.pages import Reader, blocks_of

PAGE = "cluster.md"
BLOCKS = [block for block in blocks_of(PAGE) if block.title or block.language == "console"]


def test_what_is_not_run_says_so() -> None:
    others = [block for block in blocks_of(PAGE) if block not in BLOCKS]
    assert {block.language for block in others} == {"", "yaml"}
    assert sum("$ handpick" in block.text for block in BLOCKS) == 4


def follow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, ray: bool) -> None:
    """Follow the page; with one thread, which is what torchrun gives a rank and two cores give two workers."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        reader = Reader(PAGE)
        for block in BLOCKS:
            is_of_ray = "--engine ray" in block.text
            if is_of_ray == ray or block.title or "MODEL=$(" in block.text or "--out runs/one" in block.text:
                reader.follow(block)
    finally:
        torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.timeout(900)  # a busy machine is no fault of a page
def test_processes_and_ranks_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        monkeypatch.delenv(name)
    follow(tmp_path, monkeypatch, ray=False)


@needs_ray
@pytest.mark.timeout(900)
def test_ray_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    follow(tmp_path, monkeypatch, ray=True)
