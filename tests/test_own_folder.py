"""No input lies where a run writes; and one run at a time is in a folder."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from handpick.errors import HandpickError, SettingsError, StoreError
from handpick.layout import (
    EvaluationLayout,
    ExportLayout,
    FinetuneLayout,
    Layout,
    OverlapLayout,
    RunLayout,
    StudyLayout,
)
from handpick.own_folder import check_inputs, check_page, hold_folder
from tests.conftest import refuse_removal, write_jsonl

RECORD = {"prompt": "p", "completion": "c"}


def put(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_jsonl(path, [RECORD])


def refused(layout: Layout, path: Path) -> bool:
    """Whether a run refuses the file as its data, and as a file that a setting names."""
    found = []
    for given in ({"pool": [str(path)]}, {}), ({}, {"always": str(path)}), ({}, {"reward": f"{path}:function"}):
        try:
            check_inputs(layout, *given)
            found.append("")
        except SettingsError as error:
            found.append(str(error).rpartition("; ")[2])
    assert found in ([""] * 3, ["move it, or give another --out"] * 3)
    return bool(found[0])


CLAIMED: list[tuple[type[Layout], list[str]]] = [
    (RunLayout, [
        "quarantine.jsonl", "quarantine-query.jsonl", "overlap.jsonl", "selected.jsonl", "selection.json", "cost.json",
        "report.html", "report/pool.jsonl", "features/parsed/pool.jsonl", "warmup/pool.jsonl", "unwritten.json",
    ]),
    (OverlapLayout, ["clean.jsonl", "overlap.jsonl", "quarantine-test.jsonl", "parsed/x.jsonl"]),
    (EvaluationLayout, ["predictions-t.jsonl", "evaluation.json", "answers/x.jsonl", "quarantine-t.jsonl"]),
    (FinetuneLayout, ["quarantine.jsonl", "unfinished/x.jsonl", "adapter_config.json", "train.yaml"]),
    (ExportLayout, ["messages.jsonl", "tokens.jsonl", "sharegpt.jsonl", "dataset_info.json", "model/x.jsonl"]),
    (StudyLayout, ["results.json", "quarantine-query-t.jsonl", "steps/a/order.json", "report/x.jsonl"]),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in CLAIMED for name in names])
def test_an_input_that_lies_where_a_run_writes_is_refused(kind: type[Layout], name: str, tmp_path: Path) -> None:
    layout = kind(tmp_path / "out")
    assert refused(layout, put(layout.folder / name))
    assert not refused(layout, put(tmp_path / "elsewhere" / name))
    assert not refused(layout, put(layout.folder / "pool.jsonl"))


def test_by_whatever_name_it_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = RunLayout(tmp_path / "out")
    own = put(layout.records)
    (tmp_path / "link.jsonl").symlink_to(own)
    (tmp_path / "same").symlink_to(layout.folder)
    os.link(own, tmp_path / "hard.jsonl")
    for name in ("link.jsonl", "same/selected.jsonl", "hard.jsonl", "out/../out/./selected.jsonl"):
        assert refused(layout, tmp_path / name), name
    monkeypatch.chdir(layout.folder)
    assert refused(layout, Path("selected.jsonl"))
    assert refused(RunLayout(Path()), Path("selected.jsonl"))


def test_a_link_in_its_place_is_refused_too(tmp_path: Path) -> None:
    layout = RunLayout(tmp_path / "out")
    layout.folder.mkdir()
    layout.records.symlink_to(put(tmp_path / "pool.jsonl"))
    assert refused(layout, layout.records)


@pytest.mark.parametrize("source", ["out", "out/*.jsonl"])
def test_folders_and_patterns_are_looked_into(source: str, tmp_path: Path) -> None:
    layout = RunLayout(tmp_path / "out")
    put(layout.folder / "pool.jsonl")
    check_inputs(layout, {"pool": str(tmp_path / source)})
    put(layout.records)  # as a first run writes it
    with pytest.raises(SettingsError, match=r"selected\.jsonl lies where this run writes its own selected\.jsonl"):
        check_inputs(layout, {"pool": str(tmp_path / source)})


def test_what_is_no_file_is_no_input(tmp_path: Path) -> None:
    named: dict[str, Any] = {"pool": ["org/name:train[:10%]", "memory:pool-0123456789abcdef", "nowhere.jsonl"]}
    check_inputs(RunLayout(tmp_path), named, {"reward": ["judge:gpt", "x" * 9000, "a\0b", None], "prefilter": []})


def test_a_page_is_not_written_over_what_it_is_about(tmp_path: Path) -> None:
    pool = put(tmp_path / "pool.jsonl")
    check_page(tmp_path / "look.html", {"pool": [str(pool)]})
    (tmp_path / "link.html").symlink_to(pool)
    for page in (pool, tmp_path / "link.html"):
        with pytest.raises(SettingsError, match="would be written over"):
            check_page(page, {"pool": str(pool)})


def test_the_second_run_in_a_folder_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "x"
    with hold_folder(folder):
        with pytest.raises(StoreError, match=r"another run is writing in .*x; wait for its end"), hold_folder(folder):
            pass
        with hold_folder(tmp_path / "runs" / "y"):
            pass
        (folder / "result").touch()
    with hold_folder(folder):
        pass
    assert [path.name for path in folder.iterdir()] == ["result"]


def test_a_folder_that_stays_empty_is_gone(tmp_path: Path) -> None:
    def run(folder: Path) -> None:
        with hold_folder(folder):
            raise HandpickError("refused")

    with pytest.raises(HandpickError, match="refused"):
        run(tmp_path / "a" / "b")
    assert not (tmp_path / "a").exists()


def test_what_is_no_folder_is_said(tmp_path: Path) -> None:
    file = put(tmp_path / "file.jsonl")
    for folder in (file, file / "below"):
        with pytest.raises(StoreError, match=r"cannot write in .*: it is no folder"), hold_folder(folder):
            pass
    assert file.read_text()


HOLD = "import sys, time; from pathlib import Path; from handpick.own_folder import hold_folder\n"
HOLD += "with hold_folder(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"


def test_a_process_that_is_killed_leaves_no_hold(tmp_path: Path) -> None:
    held = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert held.stdout is not None
    assert held.stdout.readline() == "held\n"
    with pytest.raises(StoreError, match="another run"), hold_folder(tmp_path):
        pass
    held.send_signal(signal.SIGKILL)
    held.wait()
    held.stdout.close()
    with hold_folder(tmp_path):
        pass
    assert not [*tmp_path.iterdir()]


def test_no_two_are_ever_in(tmp_path: Path) -> None:
    inside, most, entered = 0, 0, 0
    count = threading.Lock()

    def run() -> None:
        nonlocal inside, most, entered
        for _ in range(60):
            try:
                with hold_folder(tmp_path / "x"):
                    with count:
                        inside, entered = inside + 1, entered + 1
                        most = max(most, inside)
                    with count:
                        inside -= 1
            except StoreError:
                pass

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, entered > 0) == (1, True)


def test_what_went_wrong_is_said_though_the_lock_cannot_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        refuse_removal(monkeypatch)
        raise StoreError("what went wrong")

    with pytest.raises(StoreError, match="what went wrong"), hold_folder(tmp_path / "x"):
        fail()
    monkeypatch.undo()
    with hold_folder(tmp_path / "x"):  # nobody holds it any more
        pass
