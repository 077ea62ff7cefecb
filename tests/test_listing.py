"""What is in a folder, or an error: nothing is left out without a word."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from handpick.finetuning.record import missing_weights
from handpick.layout import CheckpointsLayout, ParsedLayout, RunLayout, StoreLayout
from handpick.listing import all_below, files_below, matching
from handpick.model import model_fingerprint
from handpick.studies.published import read_tis
from handpick.training.checkpoint import moments_file
from tests.conftest import refuse_listing


def test_all_below_is_all_or_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "b" / "c").mkdir(parents=True)
    (tmp_path / "b" / ".d").write_text("d")
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "gone").symlink_to(tmp_path / "nothing")
    assert all_below(tmp_path) == [tmp_path / name for name in ("a", "b", "b/.d", "b/c", "gone")]
    assert files_below(tmp_path) == [tmp_path / "b" / ".d"]
    with pytest.raises(FileNotFoundError):
        all_below(tmp_path / "nothing")
    refuse_listing(monkeypatch, "c")
    with pytest.raises(PermissionError, match="b/c"):
        all_below(tmp_path)


@pytest.mark.parametrize(
    "pattern",
    [
        "*",
        "*.txt",
        "a*",
        "a",
        "[ab]*",
        "none",
        "none/*",
        "a.txt/x",
        "d/*",
        "*/*.txt",
        "*/e/*",
        "**/*.txt",
        "d/**/f.txt",
    ],
)
def test_a_pattern_is_what_it_is_to_a_shell(pattern: str, tmp_path: Path) -> None:
    for name in ("b.txt", "a.txt", "a", "d/f.txt", "d/e/f.txt", "g/h"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    found = list(matching(tmp_path, pattern))
    assert found == sorted(tmp_path.glob(pattern))


def test_a_hidden_name_is_meant_by_a_hidden_one(tmp_path: Path) -> None:
    (tmp_path / ".a.partial").touch()
    assert list(matching(tmp_path, "*.partial")) == []
    assert [path.name for path in matching(tmp_path, ".*.partial")] == [".a.partial"]
    assert [path.name for path in matching(tmp_path, "**")] == []
    assert list(matching(tmp_path / "nothing", "*")) == list(matching(tmp_path / "nothing", "**/*")) == []


@pytest.mark.parametrize(
    "look",
    [
        lambda folder: list(matching(folder, "*")),
        lambda folder: list(matching(folder.parent, "*/*.x")),
        lambda folder: list(matching(folder.parent, "**/*.x")),
        lambda folder: list(RunLayout(folder).written_files()),
        lambda folder: list(ParsedLayout(folder).tables()),
        lambda folder: CheckpointsLayout(folder).checkpoints(),
        lambda folder: StoreLayout(folder.parent).has_shards(),
        lambda folder: model_fingerprint(str(folder)),
        lambda folder: missing_weights(folder, {}),
        moments_file,
        read_tis,
    ],
)
def test_a_folder_that_may_not_be_listed_is_an_error(
    look: Callable[[Path], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shards").mkdir()
    refuse_listing(monkeypatch, "shards")
    with pytest.raises(PermissionError, match="shards"):
        look(tmp_path / "shards")
