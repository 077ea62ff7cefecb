"""Every file that a run has left is damaged in turn: what comes next is the same result, or one sentence of refusal."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import handpick
from handpick.errors import HandpickError
from tests.pipeline.conftest import Finished
from tests.pipeline.test_interrupted import results

KINDS = {
    "parsed table": "features/parsed/*.arrow",
    "records set aside": "features/parsed/*.jsonl",
    "checksums of the table": "features/parsed/*.crc32.json",
    "manifest of the pool": "features/pool/manifest.json",
    "shard of the pool": "features/pool/shards/*/*.safetensors",
    "sidecar of the pool": "features/pool/shards/*/*.json",
    "provenance": "features/pool/represent.yaml",
    "manifest of the queries": "features/query-*/manifest.json",
    "shard of the queries": "features/query-*/shards/*/*.safetensors",
    "sidecar of the queries": "features/query-*/shards/*/*.json",
    "record of the warmup": "warmup/warmup.json",
    "adapter": "warmup/*/adapter_model.safetensors",
    "config of the adapter": "warmup/*/adapter_config.json",
    "state of Adam": "warmup/*/adam_moments.safetensors",
    "learning rate": "warmup/*/handpick_checkpoint.json",
    "digests": "warmup/*/digests.json",
}
# What nothing reads back to choose by.
FOR_PEOPLE = {
    "cost.json", "distances.json", "selected.jsonl", "selection.json", "settings.yaml", "README.md",
    "trainer_state.json", "quarantine.jsonl", "quarantine-query.jsonl", "unwritten.json",
}  # fmt: skip


def flip(path: Path) -> None:
    """Change a bit of a letter or a number near the middle, so that JSON stays JSON."""
    data = bytearray(path.read_bytes() or b"x")
    middle = len(data) // 2
    at = next((i for i in range(middle, len(data)) if chr(data[i]).isalnum()), middle)
    data[at] ^= 1
    path.write_bytes(data)


WAYS: dict[str, Callable[[Path], object]] = {
    "flipped": flip,
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "emptied": lambda path: path.write_bytes(b""),
    "gone": Path.unlink,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_found_or_made_again(
    kind: str, way: str, finished: Finished, given: dict[str, Any], tmp_path: Path
) -> None:
    out = finished.copy_to(tmp_path / "out")
    before = results(out)
    path = max(out.glob(KINDS[kind]))
    WAYS[way](path)
    try:
        handpick.select(**given, out=str(out))
    except HandpickError as error:
        said = str(error)
        assert "\n" not in said
        assert str(path) in said or f"{path.parent} " in said
        assert any(advice in said for advice in ("remove ", "delete ", "restore it", "put back")), said
    else:
        assert results(out) == before


def test_these_kinds_are_all_there_are(finished: Finished) -> None:
    known = {path for pattern in KINDS.values() for path in finished.folder.glob(pattern)}
    files = {path for path in finished.folder.rglob("*") if path.is_file()}
    assert {path.name for path in files - known} <= FOR_PEOPLE
    assert all(any(path in known for path in finished.folder.glob(pattern)) for pattern in KINDS.values())


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_config.json", "digests.json"])
@pytest.mark.parametrize("way", WAYS)
def test_an_adapter_that_was_never_trained_is_made_anew(
    way: str, name: str, finished_untrained: Finished, untrained: dict[str, Any], tmp_path: Path
) -> None:
    out = finished_untrained.copy_to(tmp_path / "out")
    (path,) = out.glob(f"warmup/fresh-*/{name}")
    before = path.read_bytes()
    WAYS[way](path)
    handpick.select(**untrained, out=str(out))
    is_of_before = (way, name) == ("gone", "digests.json")
    assert is_of_before or path.read_bytes() == before
    assert results(out) == results(finished_untrained.folder)


def test_a_damaged_checkpoint_elsewhere_does_not_have_its_users_folder_removed(
    finished: Finished, given: dict[str, Any], tmp_path: Path
) -> None:
    copy = shutil.copytree(finished.folder / "warmup" / "checkpoint-3", tmp_path / "mine")
    flip(copy / "adapter_model.safetensors")
    with pytest.raises(HandpickError, match=r"is damaged or gone: .*; put back the one that was written") as refused:
        handpick.select(**{**given, "warmup": "auto"}, checkpoints=[copy], out=str(tmp_path / "out"))
    assert f"remove {tmp_path} " not in str(refused.value)
