"""The blocks of docs/buckets.md run as they stand, against an S3 server on loopback."""

from pathlib import Path

import pytest

from tests.buckets import objects_below, s3_server
from tests.site.pages import Reader, blocks_of


@pytest.mark.timeout(900)
def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HANDPICK_CACHE", str(tmp_path / "cache"))
    with s3_server(monkeypatch):
        reader = Reader("buckets.md")
        for block in blocks_of("buckets.md"):
            reader.follow(block)
        assert {"selection.json", "selected.jsonl", "settings.yaml", "objects.json"} <= set(
            objects_below("s3://bucket/runs/own")
        )
