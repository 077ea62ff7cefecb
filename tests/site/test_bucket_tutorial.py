"""The tutorial of a bucket and a cluster runs as it stands: an S3 server on loopback, and Ray for its last block."""

from pathlib import Path

import pytest

from tests.buckets import s3_server
from tests.executors.ray_here import needs_ray
from tests.site.pages import Reader, blocks_of

PAGE = "tutorial_bucket.md"
BLOCKS = [block for block in blocks_of(PAGE) if block.language]


def follow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, ray: bool) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HANDPICK_CACHE", str(tmp_path / "cache"))
    *before, of_ray, compared = BLOCKS
    assert "--engine ray" in of_ray.text
    with s3_server(monkeypatch), Reader(PAGE) as reader:
        for block in [*before, of_ray, compared] if ray else before:
            reader.follow(block)
        again = next(said for command, said in reader.said if command.startswith("HANDPICK_CACHE=another"))
        assert "pool features" not in again  # none is made again
        assert (tmp_path / "another").is_dir()


def test_what_is_not_run_says_so() -> None:
    others = [block for block in blocks_of(PAGE) if block not in BLOCKS]
    assert len(others) == 1
    assert "Not run." in (Path(__file__).parents[2] / "docs" / PAGE).read_text(encoding="utf-8")


@pytest.mark.timeout(900)  # a busy machine is no fault of a page
def test_a_bucket_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    follow(tmp_path, monkeypatch, ray=False)


@pytest.mark.slow
@needs_ray
@pytest.mark.timeout(900)
def test_ray_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    follow(tmp_path, monkeypatch, ray=True)
